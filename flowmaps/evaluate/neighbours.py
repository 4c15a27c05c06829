"""How near samples lie to training rows: a measure of copies and of blur."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

from torch import Tensor

from ..data import Data
from .distances import Estimate, nearest
from .measures import Draws, Measure

NEIGHBOURS = 10_000
"""Largest number of training rows that samples are compared with."""


def neighbour_measures(
    data: Data,
    draws: Draws,
    seed: int,
    nearest: Callable[[Tensor, Tensor], Tensor] = nearest,
    noun: str = "training image",
    count: int | None = None,
) -> Iterator[Measure]:
    """The mean distance to the nearest training row, and the share of copies.

    Args:
        data: The data set.
        draws: Its draws.
        seed: Fixes the training rows.
        nearest: Distance (N,) from each row of a set to the nearest row of another one.
        noun: Name of a training row.
        count: Number of samples that are compared. None: all that are drawn.

    Yields:
        Both measures.
    """
    count = draws.wanted if count is None else count
    training = data.draw(min(data.size or NEIGHBOURS, NEIGHBOURS), seed).x0
    real = nearest(draws.held_out[0], training).double()
    mean, half = float(real.mean()), float(real.median()) / 2
    spread = float(real.std()) / mean / math.sqrt(len(real))

    @lru_cache(maxsize=1)
    def gaps_of(x: Tensor) -> Tensor:
        return nearest(x[:count], training.to(x.device)).double()

    def ratio(x: Tensor) -> Estimate:
        gaps = gaps_of(x) / mean
        value, relative = float(gaps.mean()), float(gaps.std() / gaps.mean()) / math.sqrt(len(gaps))
        return Estimate(value, value * math.hypot(relative, spread))

    def copies(x: Tensor) -> Estimate:
        gaps = gaps_of(x)
        share = float((gaps < half).double().mean())
        return Estimate(share, math.sqrt(share * (1 - share) / len(gaps)))

    title = (
        f"mean distance to the nearest {noun}, over the same for held-out {noun.rsplit(' ', 1)[-1]}s: "
        "1 is like real data, far below 1 copies"
    )
    yield Measure("neighbour_ratio", title, count, count, ratio, Estimate(1.0, spread))
    title = f"share of samples nearer to a {noun} than half the median of held-out {noun.rsplit(' ', 1)[-1]}s"
    yield Measure("copies", title, count, count, copies, copies(draws.held_out[0]))
