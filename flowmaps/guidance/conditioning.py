"""Guidance conditions of a guidance-conditioned network in training."""

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
from .conditions import FROM, SCALE, TO, Condition, as_rows, conditioned_interval, conditioned_scale, null_rows


@dataclass(frozen=True)
class GuidanceConditioning:
    """Set the guidance condition of a term's pairs: unconditional rows get scale 1 and an interval of all times.

    Pairs without the condition `guidance` are left as they are.

    Args:
        null: Null conditions by name.
        before: Coupling that is applied first.
        everywhere: Whether all rows get an interval of all times.
        scale: Scale of all other rows. None: the condition `guidance`.
    """

    null: Mapping[str, Any]
    before: Callable[[Pair], Pair] = as_drawn
    everywhere: bool = False
    scale: float | None = None

    def __call__(self, pair: Pair) -> Pair:
        """Set the guidance condition of the pairs of a batch."""
        pair = self.before(pair)
        condition, x = pair.condition, pair.x0
        if SCALE not in condition:
            return pair
        null = null_rows(condition, self.null, x)
        changed = at_all_times(condition, x)
        if not self.everywhere:
            names = [name for name in (FROM, TO) if name in changed]
            changed = {name: torch.where(null, changed[name], as_rows(condition[name], x, name)) for name in names}
        scale = conditioned_scale(condition, x) if self.scale is None else expand(self.scale, x)
        scale = scale.reshape(null.shape)
        changed[SCALE] = torch.where(null, torch.ones_like(scale), scale)
        return replace(pair, condition={**condition, **changed})


@dataclass(frozen=True)
class InverseScale:
    """Factor 1/w of a row's residuals, with w the guidance scale; 1 in unconditional rows.

    Args:
        null: Null conditions by name.
        scale: Scale w. None: the condition `guidance`.
    """

    null: Mapping[str, Any]
    scale: float | None

    def __call__(self, pair: Pair) -> Tensor:
        """Factor of each row, (B,)."""
        null = null_rows(pair.condition, self.null, pair.x0)
        w = conditioned_scale(pair.condition, pair.x0) if self.scale is None else expand(self.scale, pair.x0)
        return torch.where(null, 1.0, 1 / w.reshape(null.shape))


def at_all_times(condition: Condition, x: Tensor) -> dict[str, Any]:
    """Replace the guidance interval of a condition, if it has one, by [0, 1]."""
    ends = {name: end for name, end in ((FROM, 0.0), (TO, 1.0)) if name in condition}
    full = {name: torch.full_like(as_rows(condition[name], x, name), end) for name, end in ends.items()}
    return {**condition, **full}


def conditioned_velocity(model: Any, condition: Condition, x: Tensor, t: Tensor) -> Tensor:
    """Evaluate a model's velocity under a condition of numbers, single rows or B rows."""
    bound = {k: as_rows(v, x, k) if isinstance(v, Tensor | int | float) else v for k, v in condition.items()}
    return model.given(**bound).velocity(x, t)


def own_at_effective_scale(flow: FlowMap, pair: Pair) -> Any:
    """Velocity source: the flow itself at the row's effective scale, which is 1 outside the row's interval.

    On the diagonal the network takes an interval of all times, so the interval has to act on the scale instead.
    """
    condition = pair.condition
    has_interval = SCALE in condition and (FROM in condition or TO in condition)
    return AtEffectiveScale(flow, condition) if has_interval else flow


@dataclass(frozen=True)
class AtEffectiveScale:
    """Teacher of `own_at_effective_scale`."""

    flow: FlowMap
    condition: Condition

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Velocity of the flow, conditioned on the scale that acts at t."""
        acting = conditioned_interval(self.condition, expand(t, x), x)
        scale = 1 + acting * (conditioned_scale(self.condition, x) - 1)
        condition = {**at_all_times(self.condition, x), SCALE: scale.reshape(x.shape[0])}
        return self.flow.given(**condition).velocity(x, t)
