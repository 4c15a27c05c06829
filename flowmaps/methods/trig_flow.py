"""Continuous-time consistency models (sCM): Lu and Song 2024, arXiv 2410.11081."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..derivative import Derivative, detached, stop
from ..method.method import Method
from ..method.term import Term
from ..path import Path
from ..times.samplers import Times, angle_normal
from ..velocity import VelocitySource, conditional, fixed
from ..weight import Learned, Weight
from .row import MARGINAL, TEACHER, landscape_row

__all__ = ["sct", "scd"]


@landscape_row(
    rule="eulerian",
    learning=MARGINAL,
    notes="t = 0 only, tangent normalised, learned weight",
    cost=4,
    shared=4,
    paper="lu2024simplifying",
    equation="E exp(-w(s))/D cot(tau) | N - sg[N + g/(|g| + c)] |^2 + w(s),  g = cos(tau) df/dtau,  f = "
    "cos(tau) z - sin(tau) N",
    gradient="N and the learned w",
    only_target=0.0,
)
def sct(
    *,
    times: Times = angle_normal(-1.0, 1.4, 0.5),
    warm_up: float = 0.1,
    c: float = 0.1,
    weight: Weight | None = None,
    derivative: Derivative = detached,
) -> Method:
    """Continuous-time consistency training (sCT).

        E exp(-w(s))/D cot(tau) || N - sg[N + g/(|g| + c)] ||^2 + w(s),  g = cos(tau) df/dtau,
        f = cos(tau) z - sin(tau) N, along the conditional velocity

    tau = arctan(sigma/alpha) and z = x_s/sqrt(alpha^2 + sigma^2) are TrigFlow's time and state, so that f is the jump
    to t = 0 on any path; the paper's is `path.trigonometric`. On the linear path the default times are other noise
    levels: `variants.sct_linear` has the paper's. Lu and Song 2024, arXiv 2410.11081.

    Args:
        times: Sampler of s, with t = 0; by default normal in the logarithm of the noise level.
        warm_up: Share of training over which the second half of g warms up; 0 for none.
        c: Constant of the tangent normalisation; 0 for none.
        weight: Another distance and weight of the residual; None for the learned w.
        derivative: Mode of the slope; by default forward mode without gradient.
    """
    return _scm("sct", conditional, times, warm_up, c, weight, derivative)


@landscape_row(
    rule="eulerian",
    learning=TEACHER,
    notes="t = 0 only, tangent normalised, learned weight",
    cost=5,
    shared=5,
    paper="lu2024simplifying",
    equation="as sct, df/dtau along the teacher's velocity",
    gradient="N and the learned w",
    only_target=0.0,
)
def scd(
    teacher: Any = None,
    *,
    times: Times = angle_normal(-1.0, 1.4, 0.5),
    warm_up: float = 0.1,
    c: float = 0.1,
    weight: Weight | None = None,
    derivative: Derivative = detached,
) -> Method:
    """Continuous-time consistency distillation (sCD): as `sct`, with the derivative along the teacher's velocity.

    The residual has no noise, so the learned weight equalises values that differ by orders of magnitude. For small
    networks `weight.squared` may learn faster. `variants.scd_linear` has the paper's noise levels on the linear path.
    Lu and Song 2024, arXiv 2410.11081.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        times: Sampler of s, with t = 0; by default normal in the logarithm of the noise level.
        warm_up: Share of training over which the second half of g warms up; 0 for none.
        c: Constant of the tangent normalisation; 0 for none.
        weight: Another distance and weight of the residual; None for the learned w.
        derivative: Mode of the slope; by default forward mode without gradient.
    """
    return _scm("scd", fixed(teacher), times, warm_up, c, weight, derivative)


def _scm(
    name: str,
    velocity: VelocitySource,
    times: Times,
    warm_up: float,
    c: float,
    weight: Weight | None,
    derivative: Derivative,
) -> Method:
    """Create `sct` or `scd`."""
    rule = partial(tangent, derivative=derivative, c=c)
    weight = Learned() if weight is None else weight
    now = (lambda term, progress: term.given(ramp=min(1.0, progress / warm_up))) if warm_up else None
    return Method(
        Term(rule, velocity, times=times, weight=weight, curriculum=now, name="eulerian"),
        name=name,
    )


def tangent(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    derivative: Derivative = detached,
    c: float = 0.1,
    ramp: float = 1.0,
) -> Tensor:
    """The rule of sCM, in TrigFlow's coordinates.

        sqrt(cot tau) (N - sg[N + g/(|g| + c)]),  g = cos(tau) [-cos(d) (N - z') - ramp sin(d) (z + N')]

    In these coordinates (`coordinates`) the jump is F(x_s, s, t)/rho_t = cos(d) z - sin(d) N with d = tau_s -
    tau_t, a prime is d/dtau along v(x_s, s), and at ramp = 1 the bracket is the jump's own derivative
    d(F/rho_t)/dtau, from which the term with N' is taken.

    Args:
        flow: The flow map.
        teacher: The velocity v.
        x: Points x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...), other than s: at t = s the jump does not contain N.
        derivative: Mode of the slope.
        c: Constant of the tangent normalisation; 0 leaves g unchanged.
        ramp: Factor of the second half of g.

    Returns:
        The residual, of the shape of x.
    """
    v = stop(teacher.velocity)(x, s)
    V, dV = derivative(flow.average_velocity, (x, s, t), (v, 1, 0))
    tau, rho, speed, z, dz = coordinates(flow.path, x, s, v)
    tau_t, rho_t = coordinates(flow.path, x, t, v)[:2]
    d = tau - tau_t
    N = (torch.cos(d) * z - (x + (t - s) * V) / rho_t) / torch.sin(d)
    whole = stop(v - V + (t - s) * dV) / rho_t / speed
    first = -torch.cos(d) * (stop(N) - dz)
    g = torch.cos(tau) * (first + ramp * (whole - first))
    if c:
        g = g / (g.flatten(1).norm(dim=1).reshape(s.shape) + c)
    return (1 / torch.tan(tau)).clamp(min=0).sqrt() * (N - stop(N) - g)


def coordinates(path: Path, x: Tensor, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """TrigFlow's coordinates of a point.

        tau = arctan(sigma/alpha),  rho = sqrt(alpha^2 + sigma^2),  z = x/rho

    On the trigonometric path rho is 1 and tau is pi s/2.

    Args:
        path: The path with its alpha and sigma.
        x: Points x_s, (B, ...).
        s: Times, (B, 1, ...).
        v: The velocity at x_s, along which z moves.

    Returns:
        tau, rho, dtau/ds = (alpha sigma' - sigma alpha')/rho^2, z, and dz/dtau along v.
    """
    alpha, sigma = path.alpha(s), path.sigma(s)
    alpha_slope, sigma_slope = path.alpha_slope(s, s), path.sigma_slope(s, s)
    rho = (alpha**2 + sigma**2).sqrt()
    speed = (alpha * sigma_slope - sigma * alpha_slope) / rho**2
    z = x / rho
    dz = (v - (alpha * alpha_slope + sigma * sigma_slope) / rho * z) / rho / speed
    return torch.atan2(sigma, alpha), rho, speed, z, dz
