"""The measures of each kind of data: numbers with their standard errors, and floors.

A floor is the measure of data itself, at the same sample counts. The standard error belongs to the mean over several
disjoint draws of samples. If held-out rows run out, all draws are compared with the same held-out rows, and the
standard error covers the sampler alone: right for comparing samplers, silent about the choice of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import cycle

import torch
from torch import Tensor

from ..data import Data
from .distances import (
    Estimate,
    energy_distance,
    frechet_distance,
    histogram_kl,
    kernel_distance,
    nearest,
    sliced_energy_distance,
)
from .features import Features

Distance = Callable[[Tensor, Tensor], float]
DENSITY_SAMPLES, LEAST_DENSITY = 64_000, 8192
DENSITY_BINS = (48, 50)
NEIGHBOURS = 10_000
LEAST_DRAWS = 4
WHOLE, WHOLE_DRAWS, HALVINGS = 4096, 3, 16


@dataclass(frozen=True)
class Measure:
    """One column of the table.

    Attributes:
        key: Its name in a row, "distance" for the main one. "_stderr" and "_floor" are added to the keys of the others;
            the main one has "stderr" and "floor".
        title: Its meaning.
        wanted: The rows of samples that it uses.
        least: Fewer rows, enough for a sampler with many steps: the standard error grows, and the floor still holds.
        estimate: The function of samples (N, *shape).
        floor: Its value for data.
    """

    key: str
    title: str
    wanted: int
    least: int
    estimate: Callable[[Tensor], Estimate]
    floor: Estimate


@dataclass(frozen=True)
class Draws:
    """Disjoint draws of n rows of data.

    Attributes:
        held_out: Draws to compare with; fewer if rows run out.
        training: Draws for the floor.
        wanted: The rows of samples that are needed.
        whole: All rows of a small data set, if held-out rows run out.
    """

    held_out: tuple[Tensor, ...]
    training: tuple[Tensor, ...]
    wanted: int
    whole: Tensor | None = None

    @property
    def n(self) -> int:
        """The rows of a draw."""
        return len(self.held_out[0])


def draw(data: Data, n: int, count: int, seed: int) -> Draws:
    """Draw rows of the data to compare with.

    Args:
        data: The data set.
        n: Rows of a draw; as many as are held out if there are fewer, in more draws.
        count: The number of draws.
        seed: Fixes the rows.

    Returns:
        The draws.
    """
    held_out = data.held_out(n * count, seed).x0
    training = data.draw(min(n * count, data.size or n * count), seed).x0
    short = data.size is not None and len(held_out) < n * count and data.size + len(held_out) <= WHOLE
    whole = torch.cat((data.draw(data.size or 1, seed).x0, held_out)) if short else None
    n = min(n, len(held_out), len(training))
    wanted = n * count if whole is None else max(n * count, WHOLE_DRAWS * len(whole))
    return Draws(_split(held_out, n), _split(training, n), wanted, whole)


def _split(x: Tensor, n: int) -> tuple[Tensor, ...]:
    """Draws of n rows; the rest is left out."""
    return x[: len(x) // n * n].split(n)


def mean_and_stderr(values: list[float]) -> Estimate:
    """The mean and its standard error, NaN for a single value."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return Estimate(mean, math.nan)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Estimate(mean, math.sqrt(variance / len(values)))


def between(
    key: str,
    title: str,
    distance: Distance,
    draws: Draws,
    prepare: Callable[[Tensor], Tensor] = lambda x: x,
    least_draws: int | None = None,
) -> Measure:
    """The mean distance of draws of n samples to draws of n held-out rows.

    Args:
        key: The key of the measure.
        title: Its meaning.
        distance: The distance of two sets of rows.
        draws: The draws of the data.
        prepare: Applied to all rows first, such as features.
        least_draws: The number of draws that is enough for a sampler with many steps; None needs all.

    Returns:
        The measure.
    """
    least = draws.wanted if least_draws is None else min(draws.wanted, least_draws * draws.n)
    held_out = [prepare(rows) for rows in draws.held_out]

    def estimate(x: Tensor) -> Estimate:
        pairs = zip(_split(prepare(x[: draws.wanted]), draws.n), cycle(held_out), strict=False)
        return mean_and_stderr([distance(rows, other) for rows, other in pairs])

    return Measure(key, title, draws.wanted, least, estimate, estimate(torch.cat(draws.training)))


def measures(data: Data, draws: Draws, features: Features | None = None, seed: int = 0) -> Iterator[Measure]:
    """The measures of a kind of data, the main one ("distance") first.

    Args:
        data: The data set.
        draws: Its draws.
        features: The features by which images are compared.
        seed: Fixes directions, bins and bootstraps.

    Yields:
        One measure after another.

    Raises:
        ValueError: If there are no features for images.
    """
    if data.kind == "images":
        if features is None:
            raise ValueError(f"{data.name} holds images, and these are compared by their features, but none were given")
        yield from _image_measures(data, draws, features, seed)
    elif data.kind == "points":
        title = f"energy distance (unbiased, so it can fall below 0; over {LEAST_DRAWS} draws where steps are many)"
        yield between("distance", title, energy_distance, draws, least_draws=LEAST_DRAWS)
        yield from _density_measures(data, seed)
    else:
        title = "energy distance over 128 random directions (unbiased, so it can fall below 0)"
        yield between("distance", title, sliced_energy_distance, draws)


def _image_measures(data: Data, draws: Draws, features: Features, seed: int) -> Iterator[Measure]:
    """Fréchet and kernel distance in features, the same after rounding, and nearness to training images."""
    yield between("distance", f"Fréchet distance in {features.name}", frechet_distance, draws, features)
    known = features(draws.held_out[0])
    mean, std = known.mean(0), known.std(0).clamp(min=1e-6)
    title = "kernel distance on the same features, standardised (cubic, unbiased, so it can fall below 0)"
    yield between("kernel_distance", title, kernel_distance, draws, lambda x: (features(x) - mean) / std)
    if draws.whole is not None:
        yield _whole_measure(draws.whole, features, seed)
    if data.levels is not None:
        title = f"the main distance after clamping and rounding to the data's {data.levels} grey levels"
        yield between(
            "rounded_distance", title, frechet_distance, draws, lambda x: features(to_levels(x, data.levels or 0))
        )
    if data.size:
        yield from _neighbour_measures(data, draws, seed)


def _whole_measure(whole: Tensor, features: Features, seed: int) -> Measure:
    """The Fréchet distance to a whole small data set: finer than to its few held-out rows, but it rewards copies.

    There is no second data set of that size for a floor. The distance of two samples of one distribution falls like 1 /
    their count, so the floor is half of the distance between random halves.
    """
    known, generator = features(whole), torch.Generator().manual_seed(seed)

    def estimate(x: Tensor) -> Estimate:
        return mean_and_stderr(
            [frechet_distance(rows, known) for rows in _split(features(x[: WHOLE_DRAWS * len(known)]), len(known))]
        )

    orders = (torch.randperm(len(known), generator=generator) for _ in range(HALVINGS))
    halves = [frechet_distance(*_split(known[order], len(known) // 2)[:2]) / 2 for order in orders]
    title = (
        f"the main distance to all {len(known)} images, also the training images, at equal counts; "
        "floor: half of that between random halves"
    )
    wanted = WHOLE_DRAWS * len(known)
    return Measure("whole_distance", title, wanted, wanted, estimate, mean_and_stderr(halves))


def to_levels(x: Tensor, levels: int) -> Tensor:
    """Images in [-1, 1], clamped and rounded to `levels` evenly spaced values from -1 to 1."""
    return ((x.clamp(-1, 1) + 1) / 2 * (levels - 1)).round() / (levels - 1) * 2 - 1


def _neighbour_measures(data: Data, draws: Draws, seed: int) -> Iterator[Measure]:
    """How near samples lie to training images, for copies and for blur."""
    training = data.draw(min(data.size or NEIGHBOURS, NEIGHBOURS), seed).x0
    real = nearest(draws.held_out[0], training).double()
    mean, half = float(real.mean()), float(real.median()) / 2
    spread = float(real.std()) / mean / math.sqrt(len(real))

    def ratio(x: Tensor) -> Estimate:
        gaps = nearest(x[: draws.wanted], training).double() / mean
        value, relative = float(gaps.mean()), float(gaps.std() / gaps.mean()) / math.sqrt(len(gaps))
        return Estimate(value, value * math.hypot(relative, spread))

    def copies(x: Tensor) -> Estimate:
        gaps = nearest(x[: draws.wanted], training)
        share = float((gaps < half).double().mean())
        return Estimate(share, math.sqrt(share * (1 - share) / len(gaps)))

    title = (
        "mean distance to the nearest training image, over the same for held-out images: "
        "1 is like real data, far below 1 copies"
    )
    yield Measure("neighbour_ratio", title, draws.wanted, draws.wanted, ratio, Estimate(1.0, spread))
    title = "share of samples nearer to a training image than half the median of held-out images"
    yield Measure("copies", title, draws.wanted, draws.wanted, copies, copies(draws.held_out[0]))


def _density_measures(data: Data, seed: int) -> Iterator[Measure]:
    """KL by histogram on the smallest square around the origin, in steps of 1/2, that holds the data."""
    if data.log_prob is None:
        return
    fresh = data.draw(DENSITY_SAMPLES, seed).x0
    half_width = math.ceil(float(fresh.abs().max()) * 2) / 2
    for bins in DENSITY_BINS:
        yield _density_measure(data.log_prob, fresh, bins, half_width, seed)


def _density_measure(
    log_prob: Callable[[Tensor], Tensor], fresh: Tensor, bins: int, half_width: float, seed: int
) -> Measure:
    """KL(density || histogram), comparable across sample counts.

    With fewer samples than `fresh` even a perfect sampler scores higher; this excess is subtracted, so that all rows
    share one floor.
    """
    divergence = partial(histogram_kl, log_prob=log_prob, bins=bins, half_width=half_width, seed=seed)
    floor = divergence(fresh)

    @cache
    def excess(count: int) -> Estimate:
        value, stderr = mean_and_stderr([divergence(rows).value for rows in _split(fresh, count)])
        return Estimate(value - floor.value, math.hypot(stderr, floor.stderr))

    def estimate(x: Tensor) -> Estimate:
        found = divergence(x[: len(fresh)])
        if len(x) >= len(fresh):
            return found
        more = excess(len(x))
        return Estimate(found.value - more.value, math.hypot(found.stderr, more.stderr))

    where = f"{bins} x {bins} bins on [-{half_width:g}, {half_width:g}]^2, {len(fresh)} samples"
    title = (
        f"KL(density || histogram), {where}; with many steps from fewer samples, minus the excess of a perfect sampler "
        "at their count"
    )
    return Measure(f"kl_{bins}", title, len(fresh), LEAST_DENSITY, estimate, floor)
