"""What guidance asks a model: the same states under two conditions, in one call of twice as many rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..flow_map import GuidanceSpec
from ..flow_map import Interval as Interval
from ..path import expand

SCALE, FROM, TO = "guidance", "guidance_from", "guidance_to"
"""Conditions, one number for each row: the scale that is asked for, and between which times it acts."""

Condition = Mapping[str, Any]
Ask = Callable[..., Tensor]
"""(teacher, x, *times) -> its answer, of x's shape."""


@dataclass(frozen=True)
class Within:
    """1 for times in [start, end], 0 elsewhere: guidance in a limited interval (Kynkaanniemi et al. 2024, arXiv
    2404.07724). ValueError unless 0 <= start <= end <= 1.
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end <= 1:
            raise ValueError(f"guidance acts between two times in [0, 1], the smaller one first, got {self}")

    def __call__(self, s: Tensor) -> Tensor:
        return ((s >= self.start) & (s <= self.end)).to(s.dtype)

    def __str__(self) -> str:
        return f"between times {self.start:g} and {self.end:g}"


@dataclass(frozen=True)
class Fading:
    """1 for times up to `until`, then 1 - exp(-rate d/(1 - d)) with d = (1 - s)/(1 - until), which ends at 0: no jump,
    which a derivative in s would see (SoFlow, arXiv 2512.15657).
    """

    until: float = 0.8
    rate: float = 0.025

    def __call__(self, s: Tensor) -> Tensor:
        before = s <= self.until
        d = (1 - s) / (1 - self.until)
        odds = d / torch.where(before, torch.ones_like(s), 1 - d)
        return torch.where(before, torch.ones_like(s), 1 - torch.exp(-self.rate * odds))

    def __str__(self) -> str:
        return f"fading out above time {self.until:g}"


def as_interval(interval: Interval) -> Callable[[Tensor], Tensor]:
    """From s to the share of the guidance that acts there."""
    return interval if callable(interval) else Within(*interval)


def spec_of(
    scale: float | None, interval: Callable[[Tensor], Tensor], null: Condition, kind: str = "learned"
) -> GuidanceSpec:
    """The guidance of a scale, None if each row has its own, as the data that a flow map carries."""
    times = (interval.start, interval.end) if isinstance(interval, Within) else interval
    return GuidanceSpec((0.0, math.inf) if scale is None else scale, times, null, kind)


def told_scale(condition: Condition, x: Tensor) -> Tensor:
    """The condition `guidance` as (B, 1, ..., 1). Raises ValueError where there is none."""
    if SCALE not in condition:
        raise ValueError(
            f"the scale of guidance is read from the condition {SCALE!r}, and it is not given: give it (B numbers; in "
            "training data.transforms.GuidanceScales draws them), or pass scale="
        )
    return expand(condition[SCALE], x)


def told_interval(condition: Condition, s: Tensor, x: Tensor) -> Tensor | float:
    """1 where the interval that is told has s in it, 0 elsewhere; 1 where none is told."""
    if FROM not in condition and TO not in condition:
        return 1.0
    start, end = (expand(condition.get(name, default), x) for name, default in ((FROM, 0.0), (TO, 1.0)))
    return ((s >= start) & (s <= end)).to(start.dtype)


def needs(condition: Condition, null: Condition) -> None:
    """Raise ValueError for a condition that is to be replaced and was not given."""
    for name in null:
        if name not in condition:
            raise ValueError(
                f"guidance compares with another {name!r} and needs the one to guide to: give it, as condition= or "
                f".given({name}=...); in training, data with labels and a network that takes them"
            )


def null_rows(condition: Condition, null: Condition, x: Tensor) -> Tensor:
    """Which rows of x have the null conditions already, (B,)."""
    needs(condition, null)
    same = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
    for name, value in null.items():
        here, other = rows(condition[name], x, name), rows(value, x, name)
        fit(name, here, other)
        same = same & (here == other.to(here.device)).reshape(x.shape[0], -1).all(1)
    return same


def twice(ask: Ask, teacher: Any, one: Condition, other: Condition, x: Tensor, *times: Any) -> tuple[Tensor, Tensor]:
    """The teacher's answers under two conditions, from one call of 2 B rows. TypeError for a teacher that takes none,
    ValueError for conditions that do not fit together.
    """
    if not hasattr(teacher, "given"):
        raise TypeError(f"guidance needs a teacher with given(**condition), and {type(teacher).__name__} has none")
    own = getattr(teacher, "condition", None) or {}
    one, other = {**own, **one}, {**own, **other}
    both = {name: joined(name, one[name], other[name], x) for name in one}
    answer = ask(teacher.given(**both), torch.cat([x, x]), *(torch.cat([t, t]) for t in (expand(t, x) for t in times)))
    first, second = answer.chunk(2)
    return first, second


def joined(name: str, one: Any, other: Any, x: Tensor) -> Any:
    """The rows of one condition, then those of the other; what has no rows must be the same in both."""
    if not all(isinstance(value, Tensor | int | float) and not isinstance(value, bool) for value in (one, other)):
        if one is other or type(one) is type(other) and not isinstance(one, Tensor) and one == other:
            return one
        raise TypeError(f"the condition {name!r} must be a tensor or a number in both cases, got {one!r} and {other!r}")
    first, second = rows(one, x, name), rows(other, x, name)
    fit(name, first, second)
    return torch.cat([first, second.to(first)])


def rows(value: Any, x: Tensor, name: str) -> Tensor:
    """A condition as one row for each of x's: from B rows, one row, or a number."""
    value, n = torch.as_tensor(value, device=x.device), x.shape[0]
    if value.ndim == 0:
        return value.expand(n)
    if len(value) not in (1, n):
        raise ValueError(f"the condition {name!r} needs one row, or one for each of the {n}, got {tuple(value.shape)}")
    return value.expand(n, *value.shape[1:])


def fit(name: str, one: Tensor, other: Tensor) -> None:
    if one.shape[1:] != other.shape[1:]:
        raise ValueError(
            f"the two conditions {name!r} have rows of {tuple(one.shape[1:])} and {tuple(other.shape[1:])}: pad them "
            "to one size"
        )


def bound(teacher: Any, condition: Condition) -> Any:
    """The teacher under the condition, where it takes one."""
    return teacher.given(**condition) if condition and hasattr(teacher, "given") else teacher


def extrapolated(v: Tensor, other: Tensor, scale: Tensor) -> Tensor:
    """other + scale (v - other), which is v for scale 1, to the last digit."""
    return v + ((scale - 1) * (v - other)).to(v.dtype)


def of_velocity(teacher: Any, x: Tensor, t: Any) -> Tensor:
    """To `Ask` for v(x, t)."""
    return teacher.velocity(x, t)


def of_average_velocity(teacher: Any, x: Tensor, s: Any, t: Any) -> Tensor:
    """To `Ask` for V(x, s, t), or v(x, s) where the teacher makes no jumps."""
    jumps = getattr(teacher, "average_velocity", None)
    return teacher.velocity(x, s) if jumps is None else jumps(x, s, t)
