"""What the network in training is told of the guidance of each row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..flow_map import FlowMap
from ..method.term import as_drawn
from ..path import Time, expand
from ..velocity import Pair
from .conditions import FROM, SCALE, TO, Condition, null_rows, rows, told_interval, told_scale


@dataclass(frozen=True)
class Told:
    """What a term's rows are told: scale 1 in null rows, an interval of all times there and, with `everywhere`, in all
    rows; `scale`: one for all of them.
    """

    null: Mapping[str, Any]
    before: Callable[[Pair], Pair] = as_drawn
    everywhere: bool = False
    scale: float | None = None

    def __call__(self, pair: Pair) -> Pair:
        pair = self.before(pair)
        condition, x = pair.condition, pair.x0
        if SCALE not in condition:
            return pair
        null = null_rows(condition, self.null, x)
        told = everywhere(condition, x)
        if not self.everywhere:
            told = {k: torch.where(null, told[k], rows(condition[k], x, k)) for k in (FROM, TO) if k in told}
        scale = told_scale(condition, x) if self.scale is None else expand(self.scale, x)
        scale = scale.reshape(null.shape)
        told[SCALE] = torch.where(null, torch.ones_like(scale), scale)
        return replace(pair, condition={**condition, **told})


@dataclass(frozen=True)
class OverScale:
    """1/w, with w the condition `guidance`, or a number; 1 in null rows."""

    null: Mapping[str, Any]
    scale: float | None

    def __call__(self, pair: Pair) -> Tensor:
        null = null_rows(pair.condition, self.null, pair.x0)
        w = told_scale(pair.condition, pair.x0) if self.scale is None else expand(self.scale, pair.x0)
        return torch.where(null, 1.0, 1 / w.reshape(null.shape))


def everywhere(condition: Condition, x: Tensor) -> dict[str, Any]:
    """The conditions with an interval of all times, where one is told."""
    ends = {name: end for name, end in ((FROM, 0.0), (TO, 1.0)) if name in condition}
    return {**condition, **{name: torch.full_like(rows(condition[name], x, name), end) for name, end in ends.items()}}


def alone(model: Any, condition: Condition, x: Tensor, t: Tensor) -> Tensor:
    """The model's velocity under a condition of numbers, single rows or B rows."""
    told = {k: rows(v, x, k) if isinstance(v, Tensor | int | float) else v for k, v in condition.items()}
    return model.given(**told).velocity(x, t)


def at_its_scale(flow: FlowMap, pair: Pair) -> Any:
    """The flow itself, at the scale that acts: the row's within its interval and 1 outside, which the diagonal is not
    told.
    """
    told = pair.condition
    return AtItsScale(flow, told) if SCALE in told and (FROM in told or TO in told) else flow


@dataclass(frozen=True)
class AtItsScale:
    """See `at_its_scale`."""

    flow: FlowMap
    condition: Condition

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        acting = told_interval(self.condition, expand(t, x), x)
        scale = 1 + acting * (told_scale(self.condition, x) - 1)
        told = {**everywhere(self.condition, x), SCALE: scale.reshape(x.shape[0])}
        return self.flow.given(**told).velocity(x, t)
