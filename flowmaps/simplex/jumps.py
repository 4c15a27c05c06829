"""Rules of jumps: two jumps in a row, the moving target and the moving source."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..consistency import guarded, needs_jumps, needs_marginal_at_the_endpoint
from ..derivative import Derivative, detached, jvp, stop
from ..path import Path
from ..velocity import field_of, is_conditional
from .losses import classes_of, cross_entropy, divergence, logits_of, on_simplex

LEAST = 1e-6
"""Least argument of the logarithm in the Eulerian rule."""


def log_slope(z: Tensor, dz: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities p of logits, and the derivative of log p of a derivative of logits."""
    p = torch.softmax(z, -1)
    return p, dz - (p * dz).sum(-1, keepdim=True)


def over(numerator: Tensor, denominator: Tensor) -> Tensor:
    """A ratio of standard deviations, 0 where both are 0."""
    return numerator / denominator.clamp(min=torch.finfo(denominator.dtype).tiny)


def composed(teacher: Any, path: Path, x: Tensor, s: Tensor, t: Tensor, g: Tensor | float) -> Tensor:
    """Field of two jumps in a row, from s to m = g s + (1 - g) t and from m to t.

    Args:
        teacher: The map of the jumps.
        path: The path.
        x: State x_s, (B, ...).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise.
        g: Share of the second jump in the interval, a number or (B, 1, ..., 1).

    Returns:
        (1 - w) D(x, s, m) + w D(F(x, s, m), m, t), of x's shape, with w = g s/m on the linear path, in general
        w = g sigma_s b(m, t) / (sigma_m b(s, t)) with b = `Path.field_slope`. It is a mean, without a pole.
    """
    m = g * s + (1 - g) * t
    first = field_of(teacher, x, s, m)
    second = field_of(teacher, path.jump(first, x, s, m), m, t)
    w = g * over(path.sigma(s), path.sigma(m)) * path.field_slope(m, t) / path.field_slope(s, t)
    return torch.lerp(first, second, w.to(x.dtype))


@guarded(needs_jumps)
def token_compositional(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, g: Tensor | float = 0.5) -> Tensor:
    """Compositional rule of probabilities:  p  =  sg[(1 - w) p(x, s, m) + w p(F(x, s, m), m, t)], see `composed`.

    Args:
        flow: The flow map, on the left.
        teacher: The flow map of the two jumps on the right.
        x: State x_s, (B, ..., K).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise; 0 is no pole.
        g: Share of the second jump in the interval.

    Returns:
        Nats, (B, 1).

    Raises:
        ValueError: The flow map predicts no classes, or the teacher is the conditional velocity.
    """
    z = logits_of(flow)(x, s, t)
    return divergence(on_simplex(stop(composed)(teacher, flow.path, x, s, t, g)), z)


def lagrangian_factor(path: Path, s: Tensor, t: Tensor) -> Tensor:
    """Factor of dp/dt, t (s - t)/s on the linear path."""
    ratio = over(path.sigma(t), path.sigma(s)) * path.field_slope(s, t) / path.field_slope(t, t)
    return (s - t) * ratio


def eulerian_factor(path: Path, s: Tensor, t: Tensor) -> Tensor:
    """Factor of D_s p times sigma_t, s (s - t) on the linear path."""
    return (s - t) * path.sigma(s) * path.field_slope(s, t) / path.field_slope(s, s)


@guarded(needs_marginal_at_the_endpoint)
def token_lagrangian(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, derivative: Derivative = detached
) -> Tensor:
    """Lagrangian rule of probabilities:  p  =  sg[f(F(x, s, t), t) + t (s - t)/s dp/dt], cut to the simplex.

    The same in logits, z = log f - log(1 - t (s - t)/s d log p/dt), loses all digits where p is nearly one-hot.

    Args:
        flow: The flow map.
        teacher: The teacher of the denoiser f, marginal.
        x: State x_s, (B, ..., K).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise.
        derivative: Mode of dp/dt.

    Returns:
        Nats, (B, 1).

    Raises:
        ValueError: The flow map predicts no classes, or the teacher is the conditional velocity.
    """
    z, dz = derivative(logits_of(flow), (x, s, t), (0, 0, 1))
    p, slope = log_slope(z.detach(), dz.detach())
    f = stop(field_of)(teacher, flow.path.jump(p, x, s, t), t, t)
    return divergence(on_simplex(f + lagrangian_factor(flow.path, s, t).to(p.dtype) * p * slope), z)


@guarded(needs_marginal_at_the_endpoint)
def token_endpoint(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    first: float = 1.0,
    second: float = 1.0,
    derivative: Derivative = jvp,
) -> Tensor:
    """Endpoint-consistent loss, a bound of the Lagrangian one:  a KL(sg[f(F, t)] | p) + c |t (s - t)/s dp/dt|^2.

    It is not zero for the true map (ECLD, Categorical Flow Maps). A large share of it collapses the map to one class.

    Args:
        flow: The flow map.
        teacher: The teacher of the denoiser f, marginal.
        x: State x_s, (B, ..., K).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise.
        first: Factor a.
        second: Factor c.
        derivative: Mode of dp/dt, which carries gradient.

    Returns:
        Nats, (B, 1).

    Raises:
        ValueError: The flow map predicts no classes, or the teacher is the conditional velocity.
    """
    z, dz = derivative(logits_of(flow), (x, s, t), (0, 0, 1))
    p, slope = log_slope(z, dz)
    f = stop(field_of)(teacher, flow.path.jump(p.detach(), x, s, t), t, t)
    change = lagrangian_factor(flow.path, s, t).to(p.dtype) * p * slope
    return first * divergence(f, z) + second * change.square().flatten(1).sum(1, keepdim=True)


def token_eulerian(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, derivative: Derivative = detached
) -> Tensor:
    """Eulerian rule of probabilities, in logits:  z = sg[log f(x, s) - log(t + s (s - t) d)],  d = D_s log p.

    D_s is the derivative along the velocity, (v, 1, 0). With a conditional velocity the target is x_0 - s (s - t)/t
    D_s p, whose mean is the right one because the cross-entropy is linear in its target, although single targets leave
    the simplex. It has a pole at t = 0.

    Args:
        flow: The flow map.
        teacher: The teacher of the denoiser f and of v, or the conditional velocity.
        x: State x_s, (B, ..., K).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise, above 0.
        derivative: Mode of D_s.

    Returns:
        Nats, (B, 1); for a conditional velocity the cross-entropy, which is not zero for the true map.

    Raises:
        ValueError: The flow map predicts no classes.
    """
    path, dtype = flow.path, x.dtype
    conditional = is_conditional(teacher)
    f = classes_of(teacher) if conditional else on_simplex(stop(field_of)(teacher, x, s, s))
    slope = path.sigma_slope(s, s) * x + path.field_slope(s, s) * f
    v = teacher.velocity(x, s) if conditional else over(slope, path.sigma(s)).to(dtype)
    z, dz = derivative(logits_of(flow), (x, s, t), (v, 1, 0))
    p, d = log_slope(z.detach(), dz.detach())
    change, sigma = eulerian_factor(path, s, t).to(dtype) * d, path.sigma(t).to(dtype)
    if conditional:
        return cross_entropy(f - over(p * change, sigma), z)
    argument = (sigma + change).clamp(min=LEAST)
    tiny = torch.finfo(dtype).tiny
    return divergence(torch.softmax(f.clamp(min=tiny).log() - argument.log(), -1), z)
