"""Lagrangian methods: the target moves."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..consistency import lagrangian
from ..derivative import Derivative, detached, jvp, keep, stop
from ..method.method import Method
from ..method.term import Term
from ..times.samplers import Times, gap, gap_logit_normal, logit_normal_diagonal, uniform_diagonal, uniform_triangle
from ..velocity import averaged, fixed, own
from ..weight import Weight, normalised, squared
from .parts import tangent_warm_up, with_diffusion
from .row import SELF, TEACHER, landscape_row

__all__ = ["lmd", "lsd", "ayf_lmd", "tvm"]


@landscape_row(
    rule="lagrangian",
    learning=TEACHER,
    notes="JVP, nothing stopped",
    published_cost=9,
    cost=8,
    shared=8,
    paper="boffi2024flow",
    equation="E | V + (t - s) dV/dt - v(F(x_s, s, t), t) |^2",
    gradient="V, dV/dt, and through the input of the teacher",
    gradient_of=("value", "time", "teacher"),
)
def lmd(
    teacher: Any = None, *, times: Times = uniform_triangle(), weight: Weight = squared, derivative: Derivative = jvp
) -> Method:
    """Lagrangian map distillation.

        E || V + (t - s) dV/dt - v(F(x_s, s, t), t) ||^2,  v the teacher's velocity, nothing stopped

    The gradient passes through the derivative and through the teacher's input. The paper has both orders of s and t:
    `variants.lmd_both_orders`. Boffi, Albergo and Vanden-Eijnden 2024, arXiv 2406.07507.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        times: Sampler of (s, t); by default uniform on the triangle t <= s.
        weight: Distance and weight of the residual; by default the mean square.
        derivative: Mode of dV/dt; by default forward mode with gradient.
    """
    rule = partial(lagrangian, derivative=derivative, slope=keep, target=keep)
    return Method(Term(rule, fixed(teacher), times=times, weight=weight), name="lmd")


@landscape_row(
    rule="lagrangian",
    learning=SELF,
    notes="JVP, target stopped",
    published_cost=10,
    cost=10,
    shared=4,
    paper="boffi2025build",
    equation="E | V + (t - s) dV/dt - sg[V(F(x_s, s, t), t, t)] |^2  +  E | V(x_s, s, s) - u |^2",
    gradient="V and dV/dt",
    gradient_of=("value", "time"),
)
def lsd(
    *,
    diagonal: float = 0.75,
    times: Times = uniform_triangle(),
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = squared,
    derivative: Derivative = jvp,
) -> Method:
    """Lagrangian self-distillation.

        E || V + (t - s) dV/dt - sg[V(F(x_s, s, t), t, t)] ||^2  +  E || V(x_s, s, s) - u ||^2

    Boffi, Albergo and Vanden-Eijnden 2025, arXiv 2505.18825.

    Args:
        diagonal: Share of the batch for the second term.
        times: Sampler of (s, t) in the first term; by default uniform on the triangle t <= s.
        diagonal_times: Sampler of s in the second term; by default uniform, as in the paper.
        weight: Distance and weight of both residuals; by default the mean square.
        derivative: Mode of dV/dt; by default forward mode with gradient. `derivative.detached` drops the gradient, at
            less cost.
    """
    rule = partial(lagrangian, derivative=derivative, slope=keep, target=stop)
    term = Term(rule, own, times=times, weight=weight)
    return Method(*with_diffusion(diagonal, term, diagonal_times), name="lsd")


@landscape_row(
    rule="lagrangian",
    learning=TEACHER,
    notes="JVP stopped",
    published_cost=6,
    cost=5,
    shared=5,
    paper="sabour2025align",
    equation="E | V - sg[v(F(x_s, s, t), t) - r (t - s) dV/dt] |^2",
    gradient="V",
)
def ayf_lmd(
    teacher: Any = None,
    *,
    times: Times = gap(),
    weight: Weight = normalised(),
    warm_up: float = 0.1,
    largest: float = 0.99,
    derivative: Derivative = detached,
) -> Method:
    """Align Your Flow, Lagrangian.

        E || V - sg[v(F(x_s, s, t), t) - r (t - s) dV/dt] ||^2,  v the teacher's velocity

    Sabour, Fidler and Kreis 2025, arXiv 2506.14603.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        times: Sampler of (s, t); by default the gap is logit-normal.
        weight: Distance and weight of the residual; by default tangent normalisation (`weight.normalised`).
        warm_up: Share of training over which r rises linearly; 0 for r = 1 from the start.
        largest: Value of r after the warm-up.
        derivative: Mode of dV/dt; by default forward mode without gradient.
    """
    rule = partial(lagrangian, derivative=derivative, slope=stop, target=stop)
    return Method(
        Term(rule, fixed(teacher), times=times, weight=weight, curriculum=tangent_warm_up(warm_up, largest)),
        name="ayf_lmd",
    )


@landscape_row(
    rule="lagrangian",
    learning=SELF,
    notes="JVP, averaged target",
    published_cost=10,
    cost=10,
    shared=5,
    paper="zhou2025terminal",
    equation="E | V + (t - s) dV/dt - sg[V*(F(x_s, s, t), t, t)] |^2  +  E | V(x_s, s, s) - u |^2,  V* averaged",
    gradient="V and dV/dt",
    gradient_of=("value", "time"),
)
def tvm(
    *,
    diagonal: float = 0.5,
    ema: float = 0.99,
    times: Times = gap_logit_normal(-0.8, 1.0, -0.4, 1.0),
    diagonal_times: Times = logit_normal_diagonal(-0.4, 1.0),
    weight: Weight = squared,
    derivative: Derivative = jvp,
) -> Method:
    """Terminal velocity matching.

        E || V + (t - s) dV/dt - sg[V*(F(x_s, s, t), t, t)] ||^2  +  E || V(x_s, s, s) - u ||^2,  V* of averaged weights

    In the paper both terms see the whole batch, and the network is made Lipschitz (`networks.DiT.lipschitz`). Zhou,
    Parger, Haque and Song 2025, arXiv 2511.19797.

    Args:
        diagonal: Share of the batch for the second term.
        ema: Decay of the averaged weights, for each step.
        times: Sampler of (s, t) in the first term; by default a logit-normal gap, then a logit-normal target.
        diagonal_times: Sampler of s in the second term; by default logit-normal.
        weight: Distance and weight of both residuals; by default the mean square.
        derivative: Mode of dV/dt; by default forward mode with gradient.
    """
    rule = partial(lagrangian, derivative=derivative, slope=keep, target=stop)
    term = Term(rule, averaged(ema), times=times, weight=weight)
    return Method(*with_diffusion(diagonal, term, diagonal_times), name="tvm")
