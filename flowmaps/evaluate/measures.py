"""Measures of samples: numbers with their standard errors, and floors.

A floor is the measure of data itself, at the same sample counts. The standard error belongs to the mean over several
disjoint draws of samples. If held-out rows run out, all draws are compared with the same held-out rows, and the
standard error covers the sampler alone: right for comparing samplers, silent about the choice of rows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

import torch
from torch import Tensor

from ..data import Data
from .distances import Estimate

Distance = Callable[[Tensor, Tensor], float]
WHOLE, WHOLE_DRAWS = 4096, 3
"""Largest data set that is compared as a whole if held-out rows run out, and its number of draws."""


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
    return Draws(split(held_out, n), split(training, n), wanted, whole)


def is_measurable(x: Tensor, sampler: str) -> bool:
    """Whether all samples are finite, so that they have measures; if not, a warning names the sampler.

    Args:
        x: The samples (N, *shape).
        sampler: The sampler, in words.

    Returns:
        Whether they are finite.
    """
    broken = int((~x.isfinite()).flatten(1).any(1).sum())
    if broken:
        warnings.warn(
            f"{broken} of {len(x)} samples of {sampler} hold NaN or infinite values, so its measures are not known",
            stacklevel=3,
        )
    return not broken


def split(x: Tensor, n: int) -> tuple[Tensor, ...]:
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
        pairs = zip(split(prepare(x[: draws.wanted]), draws.n), cycle(held_out), strict=False)
        return mean_and_stderr([distance(rows, other) for rows, other in pairs])

    return Measure(key, title, draws.wanted, least, estimate, estimate(torch.cat(draws.training)))
