"""Eulerian methods: the source moves."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..consistency import diffusion, eulerian
from ..derivative import Derivative, detached, jvp, keep, stop, time_part
from ..method import Method, Term
from ..times import Times, gap, logit_normal_pairs, uniform_diagonal, uniform_triangle
from ..velocity import conditional, fixed, own
from ..weight import Weight, adaptive, normalised, squared
from .parts import tangent_warm_up


def emd(
    teacher: Any = None, *, times: Times = uniform_triangle(), weight: Weight = squared, derivative: Derivative = jvp
) -> Method:
    """Eulerian map distillation:  E || V - v(x_s, s) - (t - s)(dV/ds + grad_x V . v) ||^2,  v the teacher's velocity,
    nothing stopped.

    Boffi, Albergo and Vanden-Eijnden 2024, arXiv 2406.07507.
    """
    return Method(
        Term(partial(eulerian, derivative=derivative, slope=keep), fixed(teacher), times=times, weight=weight),
        name="emd",
    )


def esd(
    *,
    diagonal: float = 0.75,
    times: Times = uniform_triangle(),
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = squared,
    derivative: Derivative = time_part(),
) -> Method:
    """Eulerian self-distillation:  E || V - (t - s) dV/ds - sg[w + (t - s) grad_x V . w] ||^2  +  E || V(x_s, s, s) - u
    ||^2,  w = V(x_s, s, s).

    The derivative in time keeps its gradient and the one in space is stopped, so it takes two of them
    (`derivative.time_part`). The second term has times of its own, uniform as in the paper. Boffi, Albergo and
    Vanden-Eijnden 2025, arXiv 2505.18825.
    """
    return Method(
        Term(diffusion, share=diagonal, times=diagonal_times, weight=weight),
        Term(partial(eulerian, derivative=derivative, slope=keep), own, share=1 - diagonal, times=times, weight=weight),
        name="esd",
    )


def ayf_emd(
    teacher: Any = None,
    *,
    times: Times = gap(),
    weight: Weight = normalised(),
    warm_up: float = 0.1,
    largest: float = 0.99,
) -> Method:
    """Align Your Flow, Eulerian:  E || V - sg[v(x_s, s) + r (t - s)(dV/ds + grad_x V . v)] ||^2,  v the teacher's
    velocity.

    Tangent normalisation is a weight (`weight.normalised`); r rises linearly to `largest` over the first `warm_up` of
    training (0: r = 1). Sabour, Fidler and Kreis 2025, arXiv 2506.14603.
    """
    rule = partial(eulerian, derivative=detached, slope=stop)
    return Method(
        Term(rule, fixed(teacher), times=times, weight=weight, curriculum=tangent_warm_up(warm_up, largest)),
        name="ayf_emd",
    )


def meanflow(
    *,
    diagonal: float = 0.75,
    times: Times = logit_normal_pairs(),
    power: float = 1.0,
    weight: Weight | None = None,
    derivative: Derivative = detached,
) -> Method:
    """MeanFlow:  E || V - sg[u + (t - s)(dV/ds + grad_x V . u)] ||^2,  u = eps - x_0;  `diagonal` is the share of rows
    with t = s.

    weight: by default adaptive(power). Geng et al. 2025, arXiv 2505.13447.
    """
    weight = adaptive(power) if weight is None else weight
    return Method(
        Term(diffusion, share=diagonal, times=times, weight=weight),
        Term(partial(eulerian, derivative=derivative), conditional, share=1 - diagonal, times=times, weight=weight),
        name="meanflow",
    )


def imf(
    *,
    diagonal: float = 0.5,
    times: Times = logit_normal_pairs(),
    power: float = 1.0,
    weight: Weight | None = None,
    derivative: Derivative = detached,
) -> Method:
    """Improved MeanFlow:  E || W - u ||^2,  W = V + (s - t) sg[dV/ds + grad_x V . V(x_s, s, s)],  u = eps - x_0.

    The derivative runs along the flow's own velocity. (The post prints (t - s) in W; the identity it starts from gives
    (s - t).) weight: by default adaptive(power). Geng et al. 2025, arXiv 2512.02012.
    """
    weight = adaptive(power) if weight is None else weight
    return Method(
        Term(diffusion, share=diagonal, times=times, weight=weight),
        Term(
            partial(eulerian, derivative=derivative),
            conditional,
            share=1 - diagonal,
            times=times,
            weight=weight,
            sources={"along": own},
        ),
        name="imf",
    )
