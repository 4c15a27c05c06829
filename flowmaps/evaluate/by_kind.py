"""The measures of each kind of data: images by their features, points by energy and density, vectors by energy.

Points on manifolds are compared by their geodesic distances, tokens by their counts, and sound by neighbouring frames.
Clips of videos are vectors with a frame axis, and their motion is measured too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from torch import Tensor

from ..arguments import at_least, expect_floating
from ..data import Data
from .clip_measures import has_frames, motion_measures
from .distances import (
    Estimate,
    energy_distance,
    frechet_distance,
    histogram_kl,
    kernel_distance,
    sliced_energy_distance,
)
from .features import Features
from .manifold_measures import manifold_measures
from .measures import WHOLE_DRAWS, Draws, Measure, between, mean_and_stderr, split
from .neighbours import neighbour_measures
from .sound_measures import sound_measures
from .token_measures import token_measures
from .without_labels import measures_without_labels

DENSITY_SAMPLES, LEAST_DENSITY = 64_000, 8192
DENSITY_BINS = (48, 50)
LEAST_DRAWS = 4
HALVINGS = 16


def measures(data: Data, draws: Draws, features: Features | None = None, seed: int = 0) -> Iterator[Measure]:
    """The measures of a kind of data, the main one ("distance") first.

    Args:
        data: The data set.
        draws: Its draws.
        features: The features by which images are compared, and vectors with labels beside their main measure.
        seed: Fixes directions, bins and bootstraps.

    Yields:
        One measure after another.

    Raises:
        ValueError: If there are no features for images.
    """
    units = "" if data.units is None else " of standardised rows"
    if data.kind == "images":
        if features is None:
            raise ValueError(f"{data.name} holds images, and these are compared by their features, but none were given")
        yield from _image_measures(data, draws, features, seed)
    elif data.manifold is not None:
        yield from manifold_measures(data, data.manifold, draws, seed)
    elif data.signal is not None:
        yield from sound_measures(data.signal, draws)
    elif data.kind == "tokens":
        yield from token_measures(data, draws)
    elif data.kind == "points":
        title = (
            f"energy distance{units} (unbiased, so it can fall below 0; over {LEAST_DRAWS} draws where steps are many)"
        )
        yield between("distance", title, energy_distance, draws, least_draws=LEAST_DRAWS)
        yield from _density_measures(data, seed)
    else:
        title = f"energy distance{units} over 128 random directions (unbiased, so it can fall below 0)"
        yield between("distance", title, sliced_energy_distance, draws)
        if features is not None:
            yield _kernel_measure(f"kernel distance in {features.name}, standardised", draws, features)
        if has_frames(data.shape):
            yield from motion_measures(draws)


def _image_measures(data: Data, draws: Draws, features: Features, seed: int) -> Iterator[Measure]:
    """Fréchet and kernel distance in features, the same after rounding, nearness to training images, and others."""
    yield between("distance", f"Fréchet distance in {features.name}", frechet_distance, draws, features)
    yield _kernel_measure("kernel distance on the same features, standardised", draws, features)
    if draws.whole is not None:
        yield _whole_measure(draws.whole, features, seed)
    if data.levels is not None:
        title = f"the main distance after clamping and rounding to the data's {data.levels} grey levels"
        yield between(
            "rounded_distance", title, frechet_distance, draws, lambda x: features(to_levels(x, data.levels or 0))
        )
    if data.size:
        yield from neighbour_measures(data, draws, seed)
    yield from measures_without_labels(data, draws, features, seed)


def _kernel_measure(title: str, draws: Draws, features: Features) -> Measure:
    """The kernel distance of standardised features."""
    known = features(draws.held_out[0])
    mean, std = known.mean(0), known.std(0).clamp(min=1e-6)
    title = f"{title} (cubic, unbiased, so it can fall below 0)"
    return between("kernel_distance", title, kernel_distance, draws, lambda x: (features(x) - mean) / std)


def _whole_measure(whole: Tensor, features: Features, seed: int) -> Measure:
    """The Fréchet distance to a whole small data set: finer than to its few held-out rows, but it rewards copies.

    There is no second data set of that size for a floor. The distance of two samples of one distribution falls like 1 /
    their count, so the floor is half of the distance between random halves.
    """
    known, generator = features(whole), torch.Generator().manual_seed(seed)

    def estimate(x: Tensor) -> Estimate:
        return mean_and_stderr(
            [frechet_distance(rows, known) for rows in split(features(x[: WHOLE_DRAWS * len(known)]), len(known))]
        )

    orders = (torch.randperm(len(known), generator=generator) for _ in range(HALVINGS))
    halves = [frechet_distance(*split(known[order], len(known) // 2)[:2]) / 2 for order in orders]
    title = (
        f"the main distance to all {len(known)} images, also the training images, at equal counts; "
        "floor: half of that between random halves"
    )
    wanted = WHOLE_DRAWS * len(known)
    return Measure("whole_distance", title, wanted, wanted, estimate, mean_and_stderr(halves))


def to_levels(x: Tensor, levels: int) -> Tensor:
    """Images in [-1, 1], clamped and rounded to `levels` evenly spaced values from -1 to 1."""
    at_least(2, levels=levels)
    expect_floating("x", x)
    return ((x.clamp(-1, 1) + 1) / 2 * (levels - 1)).round() / (levels - 1) * 2 - 1


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
        value, stderr = mean_and_stderr([divergence(rows).value for rows in split(fresh, count)])
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
