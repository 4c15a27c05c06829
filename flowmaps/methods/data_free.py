"""Lagrangian methods without data: they start from noise at s = 1, the only source time of their maps."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..consistency import lagrangian
from ..derivative import Derivative, finite_difference, keep, stop
from ..draws import normal
from ..finite_steps import Compare, lagrangian_step
from ..method.balance import residual_ratio
from ..method.method import Method
from ..method.term import Term, from_noise
from ..times import from_noise as at_noise
from ..times.samplers import Times, logit_normal_diagonal, uniform_diagonal
from ..velocity import MakeOptimizer, fixed
from ..weight import Weight, squared
from .parts import of_samples
from .row import POSITION, TEACHER, landscape_row

__all__ = ["freeflow", "pid", "boot"]


@landscape_row(
    rule="lagrangian",
    learning=TEACHER,
    notes="s = 1 only, finite difference stopped, auxiliary network",
    published_cost=12,
    cost=12,
    shared=5.5,
    paper="tong2025flow",
    equation="E | V(eps, 1, t) - sg[v(F(eps, 1, t), t) - (t - 1) dV/dt] |^2  +  "
    "lambda E <V(eps, 1, 0), sg[w - v](x_r, r)>,\n"
    "E | w(x_r, r) - (n - sg[F(eps, 1, 0)]) |^2 for the auxiliary w,  x_r = (1 - r) sg[F(eps, 1, 0)] + r n",
    gradient="V(eps, 1, t) and V(eps, 1, 0); the auxiliary loss reaches w alone",
    only_source=1.0,
    data_free=True,
)
def freeflow(
    teacher: Any = None,
    *,
    correction: float = 0.25,
    strength: float = 1.0,
    times: Times = at_noise(uniform_diagonal()),
    noise_levels: Times = at_noise(logit_normal_diagonal(0.8, 1.0)),
    weight: Weight = squared,
    optimizer: MakeOptimizer | None = None,
    derivative: Derivative = finite_difference(0.005, central=False, around=stop),
) -> Method:
    """FreeFlow.

        E || V(eps, 1, t) - sg[v(F(eps, 1, t), t) - (t - 1) dV/dt] ||^2
          +  lambda E <V(eps, 1, 0), sg[w(x_r, r) - v(x_r, r)]>,
        E || w(x_r, r) - u ||^2 for the auxiliary velocity w, on samples noised again

    x_r = (1 - r) sg[F(eps, 1, 0)] + r n, u = n - sg[F(eps, 1, 0)], v the teacher's velocity; lambda = strength times
    the ratio of the mean residuals. Tong, Ma, Xie and Jaakkola 2025, arXiv 2511.19428.

    Args:
        teacher: A FlowMap or any object with velocity(x, t). The auxiliary network starts from it if it is a FlowMap,
            else from the flow.
        correction: Share of the batch for the correction and the auxiliary loss.
        strength: Factor of lambda.
        times: Sampler of t in the first loss; by default uniform.
        noise_levels: Sampler of r; by default logit-normal, towards noise.
        weight: Distance and weight of the residuals; by default the mean square.
        optimizer: Function that makes the optimizer of the auxiliary network; by default one like the flow's.
        derivative: Mode of dV/dt; by default a one-sided finite difference without gradient.
    """
    return Method(
        Term(
            partial(lagrangian, derivative=derivative, slope=stop, target=stop),
            fixed(teacher),
            share=1 - correction,
            times=times,
            weight=weight,
            start=from_noise,
        ),
        Term(
            correct,
            fixed(teacher),
            share=correction,
            times=noise_levels,
            weight=weight,
            draws={"noise": normal},
            sources={"auxiliary": of_samples(teacher, optimizer)},
            start=from_noise,
            balance={"correction": residual_ratio(strength)},
        ),
        name="freeflow",
    )


def correct(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, noise: Tensor, auxiliary: Any
) -> dict[str, Tensor]:
    """FreeFlow's rule for the correction and for the auxiliary velocity w.

        correction:  V - sg[V] + sg[w(x_t, t) - v(x_t, t)],  V = V(x_s, s, 0)
        auxiliary:   w(x_t, t) - u

    Both are at x_t, the sample F(x_s, s, 0) noised to t. The square of the correction has the gradient of 2 <V, w - v>.
    If w is the velocity of the distribution of samples, this moves the samples down the gradient of the divergence from
    their distribution to the teacher's.

    Args:
        flow: The flow map.
        teacher: The teacher's velocity v.
        x: Noise, (B, ...).
        s: Source times, (B, 1, ...).
        t: Noise levels of x_t, (B, 1, ...).
        noise: Noise n of x_t, of the shape of x.
        auxiliary: The flow map of w.

    Returns:
        Both residuals by name, of the shape of x.
    """
    data = torch.zeros_like(t)
    V = flow.average_velocity(x, s, data)
    sample = stop(x + (data - s) * V)
    x_t = flow.path.interpolate(sample, noise, t)
    w = auxiliary.velocity(x_t, t)
    return {
        "correction": V - stop(V) + stop(w) - stop(teacher.velocity)(x_t, t),
        "auxiliary": w - flow.path.velocity(sample, noise, t),
    }


@landscape_row(
    rule="lagrangian",
    learning=TEACHER,
    output=POSITION,
    notes="s = 1 only, finite difference, target stopped",
    published_cost=7,
    cost=7,
    shared=7,
    paper="tee2024physics",
    equation="E | V(eps, 1, t) + (t - 1) dV/dt - sg[v(F(eps, 1, t), t)] |^2",
    gradient="V and both branches of the difference",
    gradient_of=("value", "time"),
    only_source=1.0,
    data_free=True,
)
def pid(
    teacher: Any = None,
    *,
    times: Times = at_noise(uniform_diagonal()),
    weight: Weight = squared,
    derivative: Derivative = finite_difference(0.005, central=False),
    compare: Compare | None = None,
) -> Method:
    """Physics-informed distillation.

        E || V(eps, 1, t) + (t - 1) dV/dt - sg[v(F(eps, 1, t), t)] ||^2,  v the teacher's velocity

    Both branches of the finite difference carry gradient. The paper's network predicts a position (`Endpoint`). Its
    code has a grid of noise levels and LPIPS: `variants.pid_official`. Tee et al. 2024, Transactions on Machine
    Learning Research.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        times: Sampler of t; by default uniform.
        weight: Distance and weight of the residual; by default the mean square. `weight.plain` with compare=.
        derivative: Mode of dV/dt; by default a one-sided finite difference with gradient.
        compare: Distance between denoised fields, as in the paper, such as `perceptual.lpips()`; their difference is t
            times the residual above. None for this residual, in units of velocity.
    """
    rule = partial(lagrangian, derivative=derivative, slope=keep, target=stop)
    if compare is not None:
        rule = partial(denoised_residual, derivative=derivative, compare=compare)
    term = Term(rule, fixed(teacher), times=times, weight=weight, start=from_noise, name="lagrangian")
    return Method(term, name="pid")


def denoised_residual(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, derivative: Derivative, compare: Compare
) -> Tensor:
    """The Lagrangian rule between denoised fields of the linear path.

        compare(F - t dF/dt, sg[F - t v(F, t)]),  F = F(x_s, s, t)

    Args:
        flow: The flow map.
        teacher: The teacher's velocity v.
        x: Points x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        derivative: Mode of dF/dt.
        compare: Distance of two fields.

    Returns:
        The distance returned by `compare`, (B, ...).
    """
    V, dV = derivative(flow.average_velocity, (x, s, t), (0, 0, 1))
    end = x + (t - s) * V
    return compare(end - t * (V + (t - s) * dV), stop(end) - t * stop(teacher.velocity)(end, t))


@landscape_row(
    rule="lagrangian",
    learning=TEACHER,
    output=POSITION,
    notes="s = 1 only, finite step, target stopped",
    cost=5,
    shared=5,
    paper="gu2023boot",
    equation="E | V(eps, 1, t) - sg[((1 - m) V(eps, 1, m) + (m - t) v(F(eps, 1, m), m)) / (1 - t)] |^2,  m = t + step",
    gradient="V at the farther point t",
    only_source=1.0,
    data_free=True,
)
def boot(
    teacher: Any = None,
    *,
    step: float = 0.04,
    times: Times = at_noise(uniform_diagonal()),
    weight: Weight = squared,
) -> Method:
    """BOOT.

        E || V(eps, 1, t) - sg[((1 - m) V(eps, 1, m) + (m - t) v(F(eps, 1, m), m)) / (1 - t)] ||^2,  m = t + step

    v is the teacher's velocity. The paper's signal y = (x_t - t eps)/(1 - t) is eps - V(eps, 1, t). An Euler step of x
    is this convex combination of V and v, which has no pole at t = 1 and satisfies the boundary condition there. The
    paper's Euler step of y has 1/(1 - m) instead of 1/(1 - t). Gu et al. 2023, arXiv 2306.05544.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        step: Size of the Euler step in time.
        times: Sampler of t; by default uniform.
        weight: Distance and weight of the residual; by default the mean square.
    """
    rule = partial(lagrangian_step, step=step)
    term = Term(rule, fixed(teacher), times=times, weight=weight, start=from_noise, name="lagrangian")
    return Method(term, name="boot")
