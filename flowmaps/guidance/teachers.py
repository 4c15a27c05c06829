"""Guidance of the teacher that a consistency term has: the flow itself, asked twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..consistency import compositional, function_of
from ..derivative import stop
from ..flow_map import FlowMap, GuidanceSpec
from ..method.method import Method
from ..method.term import Term
from ..path import Time, expand
from ..velocity import Pair, own
from .conditions import SCALE, extrapolated, of_velocity, spec_of, told_interval, told_scale, twice
from .told import Told, everywhere


@dataclass(frozen=True)
class OfConsistency:
    """The teacher of a consistency term, guided: V(null) + w [V(c) - V(null)] of the teacher's velocities at scale 1; a
    diffusion term learns these from pairs, at scale 1. See `lsd`.
    """

    null: Mapping[str, Any]
    interval: Callable[[Tensor], Tensor]

    def into(self, term: Term, method: Method) -> Term:
        """The term with its teacher guided; one on the diagonal at scale 1. Raises ValueError for jumps."""
        if term.diagonal:
            return replace(term, couple=Told(self.null, term.couple, everywhere=True, scale=1.0))
        if term.velocity is not own:
            return term
        if function_of(term.rule) is compositional:
            raise ValueError("the compositional rule asks its teacher for jumps, and guidance is of velocities")
        source = GuidedOwn(self.null, self.interval)
        return replace(term, velocity=source, couple=Told(self.null, term.couple, everywhere=False))


@dataclass(frozen=True)
class GuidedOwn:
    """The flow's own velocity, guided at the scale that the row is told. (See `OfConsistency`.)"""

    null: Mapping[str, Any]
    interval: Callable[[Tensor], Tensor]

    @property
    def guidance(self) -> GuidanceSpec:
        """The guidance that the flow map learns."""
        return spec_of(None, self.interval, self.null)

    def __call__(self, flow: FlowMap, pair: Pair) -> GuidedAt:
        return GuidedAt(self, pair, flow)


@dataclass(frozen=True)
class GuidedAt:
    """V(null) + w [V(c) - V(null)], both at scale 1, w the row's scale where it acts at t."""

    source: GuidedOwn
    pair: Pair
    model: FlowMap

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        condition, t = self.pair.condition, expand(t, x)
        acting = self.source.interval(t) * told_interval(condition, t, x)
        told = {**everywhere(condition, x), SCALE: 1.0}
        here, there = stop(twice)(of_velocity, self.model, told, {**told, **self.source.null}, x, t)
        return extrapolated(here, there, 1 + acting * (told_scale(condition, x) - 1))
