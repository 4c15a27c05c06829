"""Lagrangian methods: the target moves."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..consistency import diffusion, lagrangian
from ..derivative import Derivative, detached, jvp, keep, stop
from ..method.method import Method
from ..method.term import Term
from ..times.samplers import Times, gap, gap_logit_normal, logit_normal_diagonal, uniform_diagonal, uniform_triangle
from ..velocity import averaged, fixed, own
from ..weight import Weight, normalised, squared
from .parts import tangent_warm_up


def lmd(
    teacher: Any = None, *, times: Times = uniform_triangle(), weight: Weight = squared, derivative: Derivative = jvp
) -> Method:
    """Lagrangian map distillation:  E || V + (t - s) dV/dt - v(F(x_s, s, t), t) ||^2,  v the teacher's velocity,
    nothing stopped.

    The gradient passes through the derivative and through the teacher's input. Boffi, Albergo and Vanden-Eijnden 2024,
    arXiv 2406.07507.
    """
    rule = partial(lagrangian, derivative=derivative, slope=keep, target=keep)
    return Method(Term(rule, fixed(teacher), times=times, weight=weight), name="lmd")


def lsd(
    *,
    diagonal: float = 0.75,
    times: Times = uniform_triangle(),
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = squared,
    derivative: Derivative = jvp,
) -> Method:
    """Lagrangian self-distillation:  E || V + (t - s) dV/dt - sg[V(F(x_s, s, t), t, t)] ||^2  +  E || V(x_s, s, s) - u
    ||^2.

    The derivative keeps its gradient; derivative=detached drops it, for less cost. The second term has times of its
    own, uniform as in the paper. Boffi, Albergo and Vanden-Eijnden 2025, arXiv 2505.18825.
    """
    return Method(
        Term(diffusion, share=diagonal, times=diagonal_times, weight=weight),
        Term(
            partial(lagrangian, derivative=derivative, slope=keep, target=stop),
            own,
            share=1 - diagonal,
            times=times,
            weight=weight,
        ),
        name="lsd",
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
    """Align Your Flow, Lagrangian:  E || V - sg[v(F(x_s, s, t), t) - r (t - s) dV/dt] ||^2,  v the teacher's velocity.

    Tangent normalisation is a weight (`weight.normalised`); r rises linearly to `largest` over the first `warm_up` of
    training (0: r = 1). Sabour, Fidler and Kreis 2025, arXiv 2506.14603.
    """
    rule = partial(lagrangian, derivative=derivative, slope=stop, target=stop)
    return Method(
        Term(rule, fixed(teacher), times=times, weight=weight, curriculum=tangent_warm_up(warm_up, largest)),
        name="ayf_lmd",
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
    """Terminal velocity matching:  E || V + (t - s) dV/dt - sg[V*(F(x_s, s, t), t, t)] ||^2  +  E || V(x_s, s, s) - u
    ||^2,  V* of averaged weights.

    The derivative keeps its gradient. The gap is drawn before the target, and the second term has times of its own.
    In the paper both terms see the whole batch, and the network is made Lipschitz (`networks.DiT.lipschitz`). Zhou,
    Parger, Haque and Song 2025, arXiv 2511.19797.
    """
    return Method(
        Term(diffusion, share=diagonal, times=diagonal_times, weight=weight),
        Term(
            partial(lagrangian, derivative=derivative, slope=keep, target=stop),
            averaged(ema),
            share=1 - diagonal,
            times=times,
            weight=weight,
        ),
        name="tvm",
    )
