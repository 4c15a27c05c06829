"""Guided velocities of sampled pairs, for training without a teacher.

All schemes have one target. Let w be the guidance scale, u the conditional velocity of the pair, V(c) and V(null) the
network's velocities at (x_s, s) under the row's condition and the null condition, without gradient, and k the share of
V(c) in the target:

    u_g = (1 - k) [V(null) + w (u - V(null))] + k V(c)  =  u + (1 - k)(w - 1)(u - V(null)) + k (V(c) - u).

Because u has the mean v(c), the fixed point V(c) = E[u_g] is V(null) + w (v(c) - V(null)) for every k: the effective
scale is w. The share k sets the variance of the target and the rate of convergence. Unconditional rows learn from u.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..arguments import finite, given, shown
from ..derivative import stop
from ..flow_map import FlowMap, GuidanceSpec
from ..method.method import Method
from ..method.term import Term
from ..path import Time, expand
from ..velocity import Averaged, Conditional, Pair, VelocitySource, is_conditional, own
from .conditioning import (
    GuidanceConditioning,
    InverseScale,
    at_all_times,
    conditioned_velocity,
    own_at_effective_scale,
)
from .conditions import (
    SCALE,
    Condition,
    conditioned_interval,
    conditioned_scale,
    evaluate_both,
    null_rows,
    velocity_of,
    warn_untrained_null,
)
from .intervals import Activity, guidance_spec

Share = Callable[[Tensor, Tensor], Tensor]
"""Function (w, activity of the guidance at s) -> k."""


def zero_share(w: Tensor, acting: Tensor) -> Tensor:
    """Share k = 0: the network is evaluated under the null condition alone."""
    return torch.zeros_like(w)


def balanced_share(w: Tensor, acting: Tensor) -> Tensor:
    """Share k = 1 - 1/w, which gives u the weight 1."""
    return 1 - 1 / w


@dataclass(frozen=True)
class ActiveShare:
    """Share k = kappa at the times at which guidance acts, 0 elsewhere."""

    kappa: float

    def __call__(self, w: Tensor, acting: Tensor) -> Tensor:
        """Share k, of w's shape."""
        return self.kappa * acting


@dataclass(frozen=True)
class ConstantShare:
    """Share k = kappa at all times."""

    kappa: float

    def __call__(self, w: Tensor, acting: Tensor) -> Tensor:
        """Share k, of w's shape."""
        return torch.full_like(w, self.kappa)


def online(method: Method) -> VelocitySource:
    """Take V(c) and V(null) from the network in training."""
    return own


def averaged_target(method: Method) -> VelocitySource:
    """Take V(c) and V(null) from the method's averaged weights. Raises ValueError if it has none."""
    found = [part for part in method.parts if isinstance(part, Averaged)]
    if not found:
        raise ValueError(
            f"this guidance evaluates the averaged weights of a method's targets, and {method.name} has none: use "
            "another source of guidance, such as guidance.gft"
        )
    return found[0]


@dataclass(frozen=True)
class GuidedConditional:
    """Velocity source: the guided conditional velocity of sampled pairs; the formula is in this module's docstring.

    Args:
        null: Null conditions by name.
        scale: Guidance scale w. None: the condition `guidance`.
        share: Share k of the network's own velocity.
        interval: Function from s to the share of (w - 1) that acts there.
        weights: Function from the method to the source of V(c) and V(null).
        over_scale: Whether the residuals are divided by w.
        model: Source of V(c) and V(null), set by `guide_term`.

    Raises:
        ValueError: The scale is not positive.
    """

    null: Mapping[str, Any]
    scale: float | None
    share: Share
    interval: Activity
    weights: Callable[[Method], VelocitySource] = online
    over_scale: bool = False
    model: VelocitySource = field(default=own, repr=False)
    conditional: ClassVar[bool] = True

    def __post_init__(self) -> None:
        finite(**given(scale=self.scale))
        if not isinstance(self.null, Mapping):
            raise TypeError(f"null holds the null conditions by name, such as {{'label': 10}}, got {shown(self.null)}")
        if self.scale is not None and not self.scale > 0:
            raise ValueError(f"a guidance scale that a network learns must be positive, got {self.scale}")

    @property
    def guidance(self) -> GuidanceSpec:
        """Guidance that the flow map learns."""
        return guidance_spec(self.scale, self.interval, self.null)

    def __call__(self, flow: FlowMap, pair: Pair) -> GuidedPair:
        """Guided conditional velocity of a batch of pairs, as a teacher."""
        return GuidedPair(self, pair, self.model(flow, pair))

    def guide_term(self, term: Term, method: Method) -> Term:
        """Replace the conditional velocity in a term by this source, and the flow's own by `own_at_effective_scale`.

        Args:
            term: The term.
            method: Its method, which `weights` reads.

        Returns:
            The guided term.

        Raises:
            ValueError: The method has no averaged weights, and `weights` needs them.
        """
        source = replace(self, model=self.weights(method))

        def guided(one: VelocitySource) -> VelocitySource:
            return source if is_conditional(one) else own_at_effective_scale if one is own else one

        return replace(
            term,
            velocity=source if is_conditional(term.velocity) else term.velocity,
            sources={name: guided(one) for name, one in term.sources.items()},
            couple=GuidanceConditioning(self.null, term.couple, everywhere=term.diagonal),
            factor=InverseScale(self.null, self.scale) if self.over_scale else term.factor,
        )

    def scale_and_share(self, condition: Condition, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Scale w and share k at times s, both (B, 1, ..., 1)."""
        acting = self.interval(s)
        if self.scale is None:
            acting = acting * conditioned_interval(condition, s, x)
        w = 1 + acting * ((conditioned_scale(condition, x) if self.scale is None else self.scale) - 1)
        return w, self.share(w, acting)


@dataclass(frozen=True)
class GuidedPair:
    """Teacher of `GuidedConditional` for one batch of pairs."""

    source: GuidedConditional
    pair: Pair
    model: Any
    conditional: ClassVar[bool] = True

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Guided velocity u + (1 - k)(w - 1)(u - V(null)) + k (V(c) - u); u in unconditional rows."""
        source, condition, t = self.source, self.pair.condition, expand(t, x)
        u = Conditional(self.pair).velocity(x, t)
        unconditional = null_rows(condition, source.null, x)
        w, k = source.scale_and_share(condition, x, t)
        own_condition = at_all_times(condition, x)
        null = {**own_condition, **source.null, **({SCALE: 1.0} if SCALE in own_condition else {})}
        warn_untrained_null(self.model, source.null)
        if source.share is zero_share:
            guided = u + (w - 1) * (u - stop(conditioned_velocity)(self.model, null, x, t))
        else:
            here, there = stop(evaluate_both)(velocity_of, self.model, own_condition, null, x, t)
            guided = u + (1 - k) * (w - 1) * (u - there) + k * (here - u)
        return torch.where(expand(unconditional, x) > 0, u, guided.to(u.dtype))
