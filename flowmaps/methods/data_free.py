"""Lagrangian methods that never see data: everything starts at s = 1, from noise. Their maps know s = 1 alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..consistency import lagrangian
from ..derivative import Derivative, finite_difference, keep, stop
from ..draws import normal
from ..finite_steps import Compare, lagrangian_step
from ..flow_map import FlowMap
from ..method.balance import residual_ratio
from ..method.method import Method
from ..method.term import Term, from_noise
from ..times.samplers import Times, logit_normal_diagonal, uniform_diagonal
from ..times.samplers import from_noise as at_noise
from ..velocity import Auxiliary, MakeOptimizer, fixed
from ..weight import Weight, squared


def pid(
    teacher: Any = None,
    *,
    times: Times = at_noise(uniform_diagonal()),
    weight: Weight = squared,
    derivative: Derivative = finite_difference(0.005, central=False),
    compare: Compare | None = None,
) -> Method:
    """Physics-informed distillation:  E || V(eps, 1, t) + (t - 1) dV/dt - sg[v(F(eps, 1, t), t)] ||^2,  v the teacher's
    velocity, the derivative by finite differences.

    Both branches of the difference carry gradient. The paper measures in units of the denoised field, where the
    residual is t times this one; compare= does so with a distance of images such as `perceptual.lpips()`, and then
    weight= is to be `weight.plain`. The paper's network predicts a position (`Endpoint` here). Tee et al. 2024,
    Transactions on Machine Learning Research.
    """
    rule = partial(lagrangian, derivative=derivative, slope=keep, target=stop)
    if compare is not None:
        rule = partial(denoised_residual, derivative=derivative, compare=compare)
    term = Term(rule, fixed(teacher), times=times, weight=weight, start=from_noise, name="lagrangian")
    return Method(term, name="pid")


def denoised_residual(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, derivative: Derivative, compare: Compare
) -> Tensor:
    """compare(F - t dF/dt, sg[F - t v(F, t)]),  F = F(x_s, s, t): the Lagrangian rule between denoised fields of the
    linear path.
    """
    V, dV = derivative(flow.average_velocity, (x, s, t), (0, 0, 1))
    end = x + (t - s) * V
    return compare(end - t * (V + (t - s) * dV), stop(end) - t * stop(teacher.velocity)(end, t))


def boot(
    teacher: Any = None,
    *,
    step: float = 0.04,
    times: Times = at_noise(uniform_diagonal()),
    weight: Weight = squared,
) -> Method:
    """BOOT:  E || V(eps, 1, t) - sg[((1 - m) V(eps, 1, m) + (m - t) v(F(eps, 1, m), m)) / (1 - t)] ||^2,  m = t +
    step, v the teacher's velocity.

    The paper's signal y = (x_t - t eps)/(1 - t) is eps - V(eps, 1, t); an Euler step of x is, in terms of V,
    this convex combination, which has no pole at t = 1 and holds the boundary there by itself; the paper's Euler step
    of y has 1/(1 - m) for 1/(1 - t). Gu et al. 2023, arXiv 2306.05544.
    """
    rule = partial(lagrangian_step, step=step)
    term = Term(rule, fixed(teacher), times=times, weight=weight, start=from_noise, name="lagrangian")
    return Method(term, name="boot")


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
    """FreeFlow:  E || V(eps, 1, t) - sg[v(F(eps, 1, t), t) - (t - 1) dV/dt] ||^2  +  lambda E <V(eps, 1, 0),
    sg[w(x_r, r)
    - v(x_r, r)]>  and, for the auxiliary velocity w,  E || w(x_r, r) - u ||^2  on samples noised again.

    x_r = (1 - r) sg[F(eps, 1, 0)] + r n, u = n - sg[F(eps, 1, 0)], v the teacher's velocity; lambda = strength times
    the ratio of the mean residuals. w starts from the teacher where that is a FlowMap, from the flow otherwise, and
    has an optimizer of its own. Tong, Ma, Xie and Jaakkola 2025, arXiv 2511.19428.
    """
    auxiliary = Auxiliary(teacher if isinstance(teacher, FlowMap) else None, optimizer)
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
            sources={"auxiliary": auxiliary},
            start=from_noise,
            balance={"correction": residual_ratio(strength)},
        ),
        name="freeflow",
    )


def correct(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, noise: Tensor, auxiliary: Any
) -> dict[str, Tensor]:
    """correction: V - sg[V] + sg[w(x_t, t) - v(x_t, t)] at V(x_s, s, 0), whose square has the gradient of 2 <V, w - v>;
    auxiliary: w(x_t, t) - u. Both at x_t, the sample F(x_s, s, 0) noised to t.

    With w the velocity of the samples' own distribution this moves them down the gradient of the divergence from it to
    the teacher's.
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
