"""Values: estimates of V_t(x) = log E[e^{r(x0)} | x_t = x], and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..arguments import finite, given, positive, shown
from ..path import Path, Time, expand
from ..units import units_of
from .look import Look, Outlook, denoise
from .operators import differentiable_twice
from .reward import Reward, Rewards, decoded, expect_reward, rewarded
from .shared import Shared, by_row, precision

Anneal = float | Callable[[float], float]
Valued = Callable[[Any, Tensor, Time], Tensor]
"""(flow, x, t) -> V, (B,)."""
Gradient = Callable[[Valued, Any, Tensor, Time], tuple[Tensor, Tensor]]
"""(value, flow, x, t) -> the value (B,) and its gradient, of x's shape."""


@dataclass(frozen=True)
class Value:
    """Estimate of log E[e^{r(x0)} | x_t = x]; made by `value`.

    Attributes:
        reward: The reward.
        look: The look-ahead.
        anneal: Factor of the value as a function of time, or a number; None for the default.
        floor: Lower bound; None for none.
    """

    reward: Rewards
    look: Look = denoise
    anneal: Anneal | None = None
    floor: float | None = None

    def __call__(self, flow: Any, x: Tensor, t: Time) -> Tensor:
        """The value of states.

        Args:
            flow: The flow map.
            x: States at time t, (B, ...).
            t: Time.

        Returns:
            (B,), at least in float32, differentiable in x.
        """
        return self.of(self.look(flow, x, t), flow, t)

    def of(self, outlook: Outlook, flow: Any, t: Time) -> Tensor:
        """The value of a look-ahead that was made at time t, (B,)."""
        reward, draws = self.in_units_of(flow), outlook.draws
        draws = draws.to(torch.promote_types(draws.dtype, torch.float32))
        if outlook.spread is not None:
            if not isinstance(reward, Reward):
                raise TypeError(
                    "this look-ahead is a Gaussian, which needs a reward with a Gaussian mean, fm.rewards.Likelihood "
                    f"or Linear, got {shown(reward)}: look by look.denoise, or by draws such as look.glass"
                )
            spread = outlook.spread
            found = rewarded(lambda x0: reward.widened(x0, spread), draws[0])
        else:
            found = _mean(torch.stack([rewarded(reward, one) for one in draws]), outlook.log_weights)
        if self.floor is not None:
            found = torch.logaddexp(found, torch.full_like(found, self.floor))
        return self.share(getattr(flow, "path", None), t, found) * found

    def in_units_of(self, flow: Any) -> Rewards:
        """The reward of the states of a flow, whose data may be standardised."""
        units = units_of(flow)
        return self.reward if units is None else decoded(units.restored, self.reward)

    def share(self, path: Path | None, t: Time, like: Tensor) -> float | Tensor:
        """The factor of the value at time t."""
        if self.anneal is None:
            if not self.look.from_map or path is None:
                return 1.0
            time = expand(t, like)
            alpha = path.alpha(time).clamp(min=0)
            return alpha / (alpha**2 + path.sigma(time) ** 2).sqrt().clamp(min=1)
        return expand(by_row(self.anneal, t), like) if callable(self.anneal) else self.anneal

    def whole(self) -> Value:
        """The value without its default annealing, for a correction that is not multiplied with b(t)."""
        return replace(self, anneal=1.0) if self.anneal is None else self


def _mean(rewards: Tensor, log_weights: Tensor | None) -> Tensor:
    """Logarithm of the mean of e^r over draws, (n, B) -> (B,)."""
    if log_weights is None:
        return rewards.logsumexp(0) - math.log(len(rewards)) if len(rewards) > 1 else rewards[0]
    return (rewards + log_weights).logsumexp(0) - log_weights.logsumexp(0)


def value(reward: Rewards, look: Look = denoise, anneal: Anneal | None = None, floor: float | None = None) -> Value:
    """Estimate of log E[e^{r(x0)} | x_t], which the methods of steering follow.

    Args:
        reward: Function from data x0 (B, ...) to (B,), such as one of `fm.rewards`.
        look: Look-ahead, one of `fm.look`.
        anneal: Factor of the value, a number or a function of time. None: 1; and alpha(t) for jumps of the map
            (`look.jump`, `look.field`), whose reward would not vanish at t = 1. There b(t) grows without bound. On a
            path whose states grow, such as the variance-exploding one, alpha(t) is divided by their size.
        floor: Lower bound of the logarithm of a bounded reward, so that no state is ruled out early. None: none.

    Returns:
        The value: a function (flow, x, t) -> (B,). Rewards see data in the units of the flow.

    Raises:
        TypeError: The reward or the look-ahead is no function.
        ValueError: A constant `anneal` with jumps of the map.
    """
    expect_reward(reward)
    if not callable(look) or isinstance(look, type) or not hasattr(look, "from_map"):
        advice = f": call it, fm.look.{look.__name__}(...)" if hasattr(look, "__name__") else ""
        raise TypeError(f"look must be a look-ahead, such as fm.look.denoise, got {shown(look)}{advice}")
    if isinstance(anneal, str) or not (anneal is None or callable(anneal)):
        finite(anneal=anneal)
    if look.from_map and anneal is not None and not callable(anneal) and anneal != 0:
        raise ValueError(
            f"anneal={anneal} with jumps of the flow map: their reward does not vanish at t = 1, where its gradient is "
            "multiplied with b(t), which grows without bound, and all particles collapse. Leave anneal out, which "
            "means alpha(t), or pass a function that vanishes at t = 1"
        )
    finite(**given(floor=floor))
    return Value(reward, look, anneal, floor)


def full(value: Valued, flow: Any, x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
    """Gradient of a value through the reward and the network, (B,) and x's shape. One backward pass.

    It can be differentiated again if x needs a gradient.
    """
    keep, shared = torch.is_grad_enabled() and x.requires_grad, Shared(flow)
    with torch.enable_grad(), differentiable_twice() if keep else nullcontext():
        leaf = x if keep else x.detach().requires_grad_()
        found = check_value(value(shared, leaf, t), x)
        slope = _slope(found, leaf, keep)
    if keep:
        return found, slope
    shared.renamed(leaf, x)
    return found.detach(), slope


def stopped(value: Valued, flow: Any, x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
    """Gradient of the reward at the look-ahead, added to the state (FMRG-E): no backward pass of the network."""
    known, shared = _known(value, "stopped"), Shared(flow)
    with torch.no_grad():
        outlook = known.look(shared, x, t)
    with torch.enable_grad():
        draws = outlook.draws.detach().requires_grad_()
        found = check_value(known.of(replace(outlook, draws=draws), shared, t), x)
        slope = _slope(found, draws, False).sum(0)
    return found.detach(), slope.to(x.dtype)


def free(value: Valued, flow: Any, x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
    """Gradient of a value from draws of the look-ahead and their rewards alone: no backward pass at all.

    (alpha/sigma^2) sum_i (w_i - 1/n) X_i with the weights w = softmax r(X_i). The reward may have no gradient. On sharp
    rewards it is better than the full gradient at an equal number of draws.
    """
    known, shared = _known(value, "free"), Shared(flow)
    with torch.no_grad():
        outlook = known.look(shared, x, t)
        if outlook.spread is not None or len(outlook.draws) < 2:
            raise ValueError(
                "the gradient-free form needs several draws of x0 given x_t: look by look.glass(n, steps), "
                "look.posterior(map, n) or look.renoise(n, snr) with n of 2 or more"
            )
        reward, X = known.in_units_of(flow), outlook.draws
        rewards = torch.stack([rewarded(reward, one.to(torch.promote_types(X.dtype, torch.float32))) for one in X])
        base = torch.zeros_like(rewards) if outlook.log_weights is None else outlook.log_weights
        weights = (base + rewards).softmax(0) - base.softmax(0)
        shift = (weights.reshape(*weights.shape, *[1] * (x.ndim - 1)) * X).sum(0)
        found = check_value(known.of(outlook, shared, t), x)
        share = torch.as_tensor(known.share(shared.path, t, found)).to(found).expand(found.shape)
        if known.floor is not None:
            share = share * torch.sigmoid(_mean(rewards, outlook.log_weights) - known.floor)
    return found, (expand(share, x) * precision(shared.path, t, x) * shift).to(x.dtype)


def clipped(c: float, inner: Gradient = full) -> Gradient:
    """Clip the norm of the gradient of each row.

    Args:
        c: Largest norm.
        inner: The gradient.

    Returns:
        The gradient.

    Raises:
        ValueError: c is not positive.
    """
    positive(c=c)

    def gradient(value: Valued, flow: Any, x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        found, slope = inner(value, flow, x, t)
        return found, slope * (c / norm(slope).clamp(min=c)).to(slope.dtype)

    return gradient


def normalised(c: float = 1.0, inner: Gradient = full) -> Gradient:
    """Give the gradient of each row the norm c |v(x, t)|.

    Args:
        c: The factor.
        inner: The gradient.

    Returns:
        The gradient.

    Raises:
        ValueError: c is not positive.
    """
    positive(c=c)

    def gradient(value: Valued, flow: Any, x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        shared = Shared(flow)
        found, slope = inner(value, shared, x, t)
        size = norm(slope)
        scale = torch.where(size > 0, c * norm(shared.velocity(x, t)) / torch.where(size > 0, size, 1.0), 0.0)
        return found, slope * scale.to(slope.dtype)

    return gradient


def norm(x: Tensor) -> Tensor:
    """Norm of each row, (B, 1, ..., 1), at least in float32."""
    wide = x.flatten(1).to(torch.promote_types(x.dtype, torch.float32))
    return wide.norm(dim=1).reshape(-1, *[1] * (x.ndim - 1))


def check_value(found: Any, x: Tensor) -> Tensor:
    """Check that a value is one number for each row."""
    if not isinstance(found, Tensor) or found.shape != (len(x),):
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"a value must return one number for each row, ({len(x)},), got {got}")
    return found


def _known(value: Valued, name: str) -> Value:
    """The value, if its look-ahead is known."""
    if not isinstance(value, Value):
        raise TypeError(f"the gradient `{name}` needs a value made by fm.steering.value, got {shown(value)}")
    return value


def _slope(found: Tensor, x: Tensor, keep: bool) -> Tensor:
    """The gradient of the values with respect to states."""
    slope = None
    if found.requires_grad:
        (slope,) = torch.autograd.grad(found.sum(), x, create_graph=keep, allow_unused=True)
    if slope is None:
        raise ValueError(
            "the value has no gradient with respect to the state: the reward, or the flow, cuts it off (argmax, "
            "detach, no_grad, numbers of numpy). Take gradient=fm.steering.free with draws, or particles with push=0"
        )
    return slope
