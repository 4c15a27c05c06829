"""Times at which guidance acts, and guidance as data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..arguments import finite, positive, shown, within
from ..flow_map import GuidanceSpec
from ..flow_map import Interval as Interval

Activity = Callable[[Tensor], Tensor]
"""Function from times s to the share of the guidance that acts there, in [0, 1]."""


@dataclass(frozen=True)
class Within:
    """Guidance in a limited interval: 1 for times in [start, end], 0 elsewhere.

    Args:
        start: First time at which guidance acts.
        end: Last time at which guidance acts.

    Raises:
        ValueError: Unless 0 <= start <= end <= 1.

    Kynkaanniemi et al. 2024, arXiv 2404.07724.
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        finite(start=self.start, end=self.end)
        if not 0 <= self.start <= self.end <= 1:
            raise ValueError(f"guidance acts between two times in [0, 1], the smaller one first, got {self}")

    def __call__(self, s: Tensor) -> Tensor:
        """Share of the guidance that acts at s, of s's shape."""
        return ((s >= self.start) & (s <= self.end)).to(s.dtype)

    def __str__(self) -> str:
        return f"between times {self.start:g} and {self.end:g}"


@dataclass(frozen=True)
class Fading:
    """Guidance that fades out smoothly towards the noise, for rules that take a derivative in s.

    Args:
        until: Last time at which all of the guidance acts.
        rate: Rate r of the decay.

    The share is 1 for s <= until, and 1 - exp(-r d/(1 - d)) with d = (1 - s)/(1 - until) above. It is 0 at s = 1.
    SoFlow, arXiv 2512.15657.
    """

    until: float = 0.8
    rate: float = 0.025

    def __post_init__(self) -> None:
        within(0, 1, until=self.until)
        positive(rate=self.rate)
        if self.until == 1:
            raise ValueError("guidance fades out after a time until < 1, got 1")

    def __call__(self, s: Tensor) -> Tensor:
        """Share of the guidance that acts at s, of s's shape."""
        before = s <= self.until
        d = (1 - s) / (1 - self.until)
        odds = d / torch.where(before, torch.ones_like(s), 1 - d)
        return torch.where(before, torch.ones_like(s), 1 - torch.exp(-self.rate * odds))

    def __str__(self) -> str:
        return f"fading out above time {self.until:g}"


def as_interval(interval: Interval) -> Activity:
    """Turn two times into `Within`; return a function as it is."""
    if callable(interval):
        return interval
    if not isinstance(interval, tuple | list) or len(interval) != 2:
        raise TypeError(f"an interval is two times, such as (0.2, 0.8), or a function of time, got {shown(interval)}")
    return Within(*interval)


def guidance_spec(
    scale: float | None, interval: Activity, null: Mapping[str, Any], kind: str = "learned"
) -> GuidanceSpec:
    """Describe guidance as the data that a flow map carries.

    Args:
        scale: Guidance scale. None: each row has its own, with no known bound.
        interval: Times at which guidance acts.
        null: Null conditions by name.
        kind: Name of the guidance.

    Returns:
        The description.
    """
    times = (interval.start, interval.end) if isinstance(interval, Within) else interval
    return GuidanceSpec((0.0, math.inf) if scale is None else scale, times, null, kind)
