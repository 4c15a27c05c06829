"""Post-training on a reward: learn the flow map of the tilted law p(x0) e^{r(x0)/beta} / Z."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import path as paths
from ..arguments import at_least, checked, positive, shown, within
from ..consistency import lagrangian, on_the_diagonal
from ..derivative import Derivative, jvp, stop
from ..method.method import Method
from ..method.term import Term
from ..path import Path, expand
from ..times.samplers import Times, uniform_diagonal, uniform_triangle
from ..units import units_of
from ..velocity import Glass, fixed, own
from ..velocity.copies import copied
from ..weight import Weight, squared

__all__ = ["tilting"]

Rewards = Callable[[Tensor], Tensor]
"""x0 (B, ...) -> (B,)."""
Draw = Callable[[Any, Tensor, Tensor, Tensor], Tensor]
Push = Callable[[Path, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@checked
def tilting(
    reward: Rewards,
    beta: float,
    reference: Any,
    *,
    posterior: Any = None,
    draws: int = 4,
    steps: int = 4,
    by_gradient: bool = True,
    center: float = 0.0,
    limit: float = 25.0,
    diagonal: float = 0.5,
    diagonal_times: Times = uniform_diagonal(0.01, 0.99),
    times: Times = uniform_triangle(),
    weight: Weight = squared,
    derivative: Derivative = jvp,
) -> Method:
    """Meta Flow Map fine-tuning: move a flow map to the law p(x0) e^{r(x0)/beta} / Z, with an unbiased gradient.

        E |d + (sg w - 1) sg d - c sg[grad_x w]|^2 + E |V - sg[V(F, t, t) - (t - s) dV/dt]|^2,
        d = V(x_s, s, s) - v,   w = e^{r(X)/beta},   X ~ p(x_0 | x_s),   c = -b(s)

    v is the reference's velocity. The gradient of the first term is 2 E[w d - c grad w] dV, so V - v becomes c grad log
    E[e^{r/beta} | x_s], the velocity of the tilted law, with any number of draws. The square of w d - c grad w itself
    would have another minimum. The second term lets the jumps follow. Without a gradient of the reward

        w d - w k (X - f),   k = alpha' - alpha sigma'/sigma,

    takes the place of w d - c grad w: its variance is smaller for sharp rewards. For s near 0 it is larger. Potaptchik
    et al. 2026, Meta Flow Maps, arXiv 2601.14430.

    Args:
        reward: Function of data (B, ...) -> (B,), in the units of the data, differentiable if `by_gradient`.
        beta: Temperature. Small ones follow the reward closely, with a large variance of w.
        reference: Velocity of p. A flow map is copied, so it may be the one in training.
        posterior: Posterior map of p, called with `given(state=, at=)`, such as one of `meta_flow_map`: one jump a
            draw. None: the reference's GLASS velocity in `steps` steps.
        draws: Draws of X for each row.
        steps: Steps of a draw by GLASS, one call of the reference each. Few steps make draws of another law.
        by_gradient: Whether the gradient of the reward is used.
        center: Number that is subtracted from r/beta, about its largest value, against overflow. It scales the loss.
        limit: Largest b(s) on the linear path, where it is infinite at s = 1. On another path b is bounded from the
            same noise level on, see `Path.noising_rate`.
        diagonal: Share of the batch for the first term; 1 trains the velocity alone, for a later distillation.
        diagonal_times: Sampler of s in the first term.
        times: Sampler of (s, t) in the second term.
        weight: Distance and weight of both residuals; by default the mean square.
        derivative: Mode of the slope in the second term.

    Raises:
        TypeError: The reward is no function, or the reference or the posterior map has no velocity.
        ValueError: A number is out of range. In calls: the reward returns another shape, or has no gradient.
    """
    if not callable(reward):
        raise TypeError(f"a reward is a function of data (B, ...) -> (B,), got {shown(reward)}")
    positive(beta=beta, limit=limit)
    at_least(1, draws=draws, steps=steps)
    within(0, 1, diagonal=diagonal)
    kept = copied(reference).requires_grad_(False) if isinstance(reference, nn.Module) else reference
    rule = partial(
        tilted,
        draw=partial(_by_glass, steps) if posterior is None else _by_map,
        reward=lambda flow, x0: rewards_of(reward, flow, x0) / beta - center,
        push=partial(_by_gradient, limit) if by_gradient else _by_weights,
    )
    first = Term(
        rule,
        fixed(kept),
        share=diagonal,
        times=diagonal_times,
        weight=weight,
        draws={"e": partial(_noise, draws)},
        sources={} if posterior is None else {"posterior": fixed(posterior)},
        name="tilted",
    )
    if diagonal == 1:
        return Method(first, name="tilting")
    jumps = Term(partial(lagrangian, derivative=derivative), own, share=1 - diagonal, times=times, weight=weight)
    return Method(first, jumps, name="tilting")


@on_the_diagonal
def tilted(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    e: Tensor,
    draw: Draw,
    reward: Callable[[Any, Tensor], Tensor],
    push: Push,
    posterior: Any = None,
) -> Tensor:
    """Residual whose gradient is 2 E[w d - u] dV, with d = V(x_s, s, s) - v and w and u from draws of p(x_0 | x_s).

    Args:
        flow: The flow map.
        teacher: The reference, with constant weights.
        x: State x_s, (B, ...).
        s: Source time, (B, 1, ..., 1).
        t: Not used.
        e: Noise of the draws, (B, n, ...).
        draw: Function (model, x, s, noise) -> a draw of x_0 for each row.
        reward: Function (flow, draws) -> logarithm of the weight of each draw.
        push: Function (path, x, s, v, draws, logarithms of their weights) -> (mean of w, mean of u).
        posterior: The model of the draws. None: the teacher.

    Returns:
        The residual d + (w - 1) sg d - u, of x's shape.
    """
    path, v, model = flow.path, stop(teacher.velocity)(x, s), teacher if posterior is None else posterior
    with torch.enable_grad():
        state = x.detach().requires_grad_()
        X = torch.stack([draw(model, state, s, one) for one in e.unbind(1)], 1)
        w, u = push(path, state, s, v, X, reward(flow, X.flatten(0, 1)).reshape(X.shape[:2]))
    d = flow.velocity(x, s) - v
    return d + ((expand(w, x) - 1) * d - u).detach().to(d.dtype)


def _by_gradient(
    limit: float, path: Path, x: Tensor, s: Tensor, v: Tensor, X: Tensor, log_w: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean weight, and u = -b grad_x w."""
    w = log_w.exp().mean(1)
    if not w.requires_grad:
        raise ValueError(
            "the reward has no gradient: it detaches its input or is not differentiable; by_gradient=False"
        )
    (slope,) = torch.autograd.grad(w.sum(), x)
    return w, -path.noising_rate(s, limit) * slope


def _by_weights(path: Path, x: Tensor, s: Tensor, v: Tensor, X: Tensor, log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Mean weight, and u = k E w (X - f), with k = alpha' - alpha sigma'/sigma."""
    f = path.convert(v, x, s, paths.velocity, paths.data)
    w = log_w.exp()
    k = path.alpha_slope(s, s) - path.alpha(s) * path.sigma_slope(s, s) / path.sigma(s)
    return w.mean(1), k * (w.reshape(*w.shape, *[1] * (x.ndim - 1)) * (X - f[:, None])).mean(1)


def _by_map(posterior: Any, x: Tensor, s: Tensor, e: Tensor) -> Tensor:
    """One jump of a posterior map."""
    bound = posterior.teacher.given(state=x, at=s.reshape(len(x)))
    return bound(bound.path.sigma(torch.ones_like(s)) * e, 1.0, 0.0)


def _by_glass(steps: int, teacher: Any, x: Tensor, s: Tensor, e: Tensor) -> Tensor:
    """A few steps of the teacher's posterior flow."""
    return Glass(teacher).given(state=x, at=s).draw(e, steps)


def rewards_of(reward: Rewards, flow: Any, x0: Tensor) -> Tensor:
    """Rewards of data.

    Args:
        reward: The reward, of data in their own units.
        flow: The flow map, with the units of standardised data.
        x0: Data as the flow map sees them, (B, ...).

    Returns:
        (B,), in float32 at least.

    Raises:
        ValueError: The reward returns another shape.
    """
    units = units_of(flow)
    found = reward(x0 if units is None else units.restored(x0))
    if not isinstance(found, Tensor) or found.shape != x0.shape[:1]:
        raise ValueError(f"a reward of {len(x0)} rows is a tensor of shape ({len(x0)},), got {shown(found)}")
    return found.to(torch.promote_types(found.dtype, torch.float32))


def _noise(draws: int, n: int, like: Tensor) -> Tensor:
    """Standard normal noise of several draws for each of n rows, (n, draws, ...)."""
    return torch.randn(n, draws, *like.shape[1:], dtype=like.dtype, device=like.device)
