"""Guidance that a flow map learns: velocities of sampled pairs, changed by what the network in training says itself.

All of them are one target, with w the scale that is asked for and k how much of the network's own velocity is in it:

    u_g = (1 - k) [V(null) + w (u - V(null))] + k V(c)  =  u + (1 - k)(w - 1)(u - V(null)) + k (V(c) - u),

V(c) and V(null) the network at (x_s, s, s) under the row's conditions and under the null ones, stopped, and u the
velocity of the pair. As u has the mean v(c), the fixed point V(c) = E[u_g] is V(null) + w (v(c) - V(null)) whatever k
is: the scale that comes out is w. Rows with the null conditions learn from u alone. What k decides is the noise of the
target and how fast it gets there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..derivative import stop
from ..flow_map import FlowMap, GuidanceSpec
from ..method.method import Method
from ..method.term import Term
from ..path import Time, expand
from ..velocity import Averaged, Conditional, Pair, VelocitySource, is_conditional, own
from .conditions import SCALE, Condition, null_rows, of_velocity, spec_of, told_interval, told_scale, twice
from .told import OverScale, Told, alone, at_its_scale, everywhere

Share = Callable[[Tensor, Tensor], Tensor]
"""(w, the share of the guidance that acts at s) -> k."""


def none(w: Tensor, acting: Tensor) -> Tensor:
    """k = 0: the network is asked about the null conditions alone."""
    return torch.zeros_like(w)


def balanced(w: Tensor, acting: Tensor) -> Tensor:
    """k = 1 - 1/w, with which u has the weight 1."""
    return 1 - 1 / w


@dataclass(frozen=True)
class WhereItActs:
    """k = kappa, where guidance acts at all."""

    kappa: float

    def __call__(self, w: Tensor, acting: Tensor) -> Tensor:
        return self.kappa * acting


@dataclass(frozen=True)
class AtAllTimes:
    """k = kappa at all times."""

    kappa: float

    def __call__(self, w: Tensor, acting: Tensor) -> Tensor:
        return torch.full_like(w, self.kappa)


def online(method: Method) -> VelocitySource:
    """The network in training."""
    return own


def averaged_target(method: Method) -> VelocitySource:
    """The averaged weights that the method has for its targets. Raises ValueError where it has none."""
    found = [part for part in method.parts if isinstance(part, Averaged)]
    if not found:
        raise ValueError(f"this guidance asks the averaged weights of a method's targets, and {method.name} has none")
    return found[0]


@dataclass(frozen=True)
class FromPairs:
    """The velocity of sampled pairs, guided; a velocity source. See this module's formula.

    null: the null conditions by name. scale: w, None: the condition `guidance`. share: k. interval: s -> the share of
    (w - 1) that acts there. weights: whose V(c) and V(null). over_scale: residuals are divided by w. ValueError for a
    scale that is not positive.
    """

    null: Mapping[str, Any]
    scale: float | None
    share: Share
    interval: Callable[[Tensor], Tensor]
    weights: Callable[[Method], VelocitySource] = online
    over_scale: bool = False
    model: VelocitySource = field(default=own, repr=False)
    conditional: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.scale is not None and not self.scale > 0:
            raise ValueError(f"a scale of guidance that a network learns must be positive, got {self.scale}")

    @property
    def guidance(self) -> GuidanceSpec:
        """The guidance that the flow map learns."""
        return spec_of(self.scale, self.interval, self.null)

    def __call__(self, flow: FlowMap, pair: Pair) -> Target:
        return Target(self, pair, self.model(flow, pair))

    def into(self, term: Term, method: Method) -> Term:
        """The term with this in the place of the velocity of pairs, and the flow's own velocity at the scale that acts
        there.
        """
        source = replace(self, model=self.weights(method))

        def instead(one: VelocitySource) -> VelocitySource:
            return source if is_conditional(one) else at_its_scale if one is own else one

        return replace(
            term,
            velocity=source if is_conditional(term.velocity) else term.velocity,
            sources={name: instead(one) for name, one in term.sources.items()},
            couple=Told(self.null, term.couple, everywhere=term.diagonal),
            factor=OverScale(self.null, self.scale) if self.over_scale else term.factor,
        )

    def scale_and_share(self, condition: Condition, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """w and k at s, (B, 1, ..., 1)."""
        acting = self.interval(s)
        if self.scale is None:
            acting = acting * told_interval(condition, s, x)
        w = 1 + acting * ((told_scale(condition, x) if self.scale is None else self.scale) - 1)
        return w, self.share(w, acting)


@dataclass(frozen=True)
class Target:
    """u_g of a pair: velocity(x, s) is u + (1 - k)(w - 1)(u - V(null)) + k (V(c) - u), and u in null rows."""

    source: FromPairs
    pair: Pair
    model: Any
    conditional: ClassVar[bool] = True

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        source, condition, t = self.source, self.pair.condition, expand(t, x)
        u = Conditional(self.pair).velocity(x, t)
        null = null_rows(condition, source.null, x)
        w, k = source.scale_and_share(condition, x, t)
        told = everywhere(condition, x)
        untold = {**told, **source.null, **({SCALE: 1.0} if SCALE in told else {})}
        if source.share is none:
            guided = u + (w - 1) * (u - stop(alone)(self.model, told | untold, x, t))
        else:
            here, there = stop(twice)(of_velocity, self.model, told, untold, x, t)
            guided = u + (1 - k) * (w - 1) * (u - there) + k * (here - u)
        return torch.where(expand(null, x) > 0, u, guided.to(u.dtype))
