"""Guided self-distillation: the flow, as the teacher of its own consistency terms, is guided."""

from __future__ import annotations

from collections.abc import Mapping
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
from .conditioning import GuidanceConditioning, at_all_times
from .conditions import (
    SCALE,
    conditioned_interval,
    conditioned_scale,
    evaluate_both,
    extrapolate,
    velocity_of,
    warn_untrained_null,
)
from .intervals import Activity, guidance_spec


@dataclass(frozen=True)
class GuidedSelfDistillation:
    """Guidance of the teacher in a consistency term: V(null) + w [V(c) - V(null)], both velocities at scale 1.

    The diffusion term learns these velocities from pairs, at scale 1. See `lsd`.

    Args:
        null: Null conditions by name.
        interval: Times at which guidance acts.
    """

    null: Mapping[str, Any]
    interval: Activity

    def guide_term(self, term: Term, method: Method) -> Term:
        """Guide the teacher of a consistency term; condition a diffusion term on scale 1.

        Args:
            term: The term.
            method: Its method.

        Returns:
            The guided term. A term with another teacher than the flow itself is returned as it is.

        Raises:
            ValueError: The rule needs jumps of its teacher.
        """
        if term.diagonal:
            return replace(term, couple=GuidanceConditioning(self.null, term.couple, everywhere=True, scale=1.0))
        if term.velocity is not own:
            return term
        if function_of(term.rule) is compositional:
            raise ValueError(
                "the compositional rule needs jumps of its teacher, and guidance gives velocities alone: use another "
                "rule, such as methods.lsd"
            )
        source = GuidedOwn(self.null, self.interval)
        return replace(term, velocity=source, couple=GuidanceConditioning(self.null, term.couple, everywhere=False))


@dataclass(frozen=True)
class GuidedOwn:
    """Velocity source: the flow's own velocity, guided at the scale of each row.

    Args:
        null: Null conditions by name.
        interval: Times at which guidance acts.
    """

    null: Mapping[str, Any]
    interval: Activity

    @property
    def guidance(self) -> GuidanceSpec:
        """Guidance that the flow map learns."""
        return guidance_spec(None, self.interval, self.null)

    def __call__(self, flow: FlowMap, pair: Pair) -> GuidedOwnTeacher:
        """Guided velocity of the flow under the conditions of a batch, as a teacher."""
        return GuidedOwnTeacher(self, pair, flow)


@dataclass(frozen=True)
class GuidedOwnTeacher:
    """Teacher of `GuidedOwn` for one batch."""

    source: GuidedOwn
    pair: Pair
    model: FlowMap

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Guided velocity V(null) + w [V(c) - V(null)] without gradients; w is the row's scale if it acts at t."""
        condition, t = self.pair.condition, expand(t, x)
        acting = self.source.interval(t) * conditioned_interval(condition, t, x)
        unguided = {**at_all_times(condition, x), SCALE: 1.0}
        null = {**unguided, **self.source.null}
        warn_untrained_null(self.model, self.source.null)
        here, there = stop(evaluate_both)(velocity_of, self.model, unguided, null, x, t)
        return extrapolate(here, there, 1 + acting * (conditioned_scale(condition, x) - 1))
