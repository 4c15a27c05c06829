"""Eulerian methods: the source moves."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..consistency import diffusion, eulerian
from ..derivative import Derivative, detached, jvp, keep, stop, time_part
from ..method.method import Method
from ..method.stages import Stages
from ..method.term import Term
from ..times.samplers import Times, angle_normal, gap, uniform_diagonal, uniform_triangle
from ..velocity import Discriminator, fixed, own
from ..weight import Weight, adaptive, by_interval, normalised, squared, summed
from .adversarial import ADVERSARIAL_SHARE, adversarial_term
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
    derivative: Derivative = detached,
    discriminator: nn.Module | None = None,
    fine_tuning: float = 0.2,
) -> Method:
    """Align Your Flow, Eulerian:  E || V - sg[v(x_s, s) + r (t - s)(dV/ds + grad_x V . v)] ||^2,  v the teacher's
    velocity.

    Tangent normalisation is a weight (`weight.normalised`); r rises linearly to `largest` over the first `warm_up` of
    training (0: r = 1). With a discriminator, a network x -> logits, the last `fine_tuning` of training is the paper's
    second stage: an adversarial loss on one-jump samples joins in (`methods.adversarial`), held in proportion by the
    gradients of the last layer. Sabour, Fidler and Kreis 2025, arXiv 2506.14603.
    """
    rule = partial(eulerian, derivative=derivative, slope=stop)
    term = Term(rule, fixed(teacher), times=times, weight=weight)
    first = Method(replace(term, curriculum=tangent_warm_up(warm_up, largest)), name="ayf_emd")
    if discriminator is None:
        return first
    share = ADVERSARIAL_SHARE
    second = Method(
        replace(term, rule=partial(rule, slope=lambda d: stop(largest * d)), share=1 - share),
        adversarial_term(Discriminator(discriminator), share),
        name="ayf_emd_adversarial",
    )
    return Stages((1 - fine_tuning, first), (fine_tuning, second), name="ayf_emd")


def facm(
    teacher: Any = None,
    *,
    times: Times = angle_normal(-0.8, 1.6),
    weight: Weight | None = None,
    relax: float = 0.5,
    bound: float = 1.0,
    derivative: Derivative = detached,
) -> Method:
    """Flow-anchored consistency:  E || V - sg[V - a(s) clamp(R)] ||^2,  R = V - v(x_s, s) - (t - s)(dV/ds + grad_x V
    . v), at t = 0, and the anchor  E || V(x_s, s, s) - v ||^2 + E [1 - cos(V(x_s, s, s), v)].

    v is the teacher's velocity, a(s) = 1 - (1 - s)^relax, R is clamped to +-bound. weight: of the first part, by
    default sin(pi s / 2) / sg[(|R|^2/D + 1e-3)^(1/2)]. The paper's single time in [0, 2], which keeps the two tasks
    apart, is a network's `times=embeddings.expanded`. The map is one to t = 0: several steps are restarts. The cosine
    is taken over all values of a row, so that it means something for few channels too. Peng et al. 2025, arXiv
    2507.03738.
    """
    first = by_interval(lambda s, t: torch.sin(s * (math.pi / 2)), adaptive(0.5, 1e-3, squared))
    return Method(
        Term(
            partial(flow_anchored, derivative=derivative, relax=relax, bound=bound),
            fixed(teacher),
            times=times,
            weight={"eulerian": weight or first, "anchor": squared, "direction": by_interval(half, summed)},
        ),
        name="facm",
    )


def half(s: Tensor, t: Tensor) -> Tensor:
    """1/2: half the square distance of two unit vectors is 1 - cos."""
    return torch.full_like(s, 0.5)


def flow_anchored(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    derivative: Derivative = detached,
    relax: float = 0.5,
    bound: float = 1.0,
) -> dict[str, Tensor]:
    """eulerian: V - sg[V - a(s) clamp(R)]; anchor: V(x_s, s, s) - v; direction: V(x_s, s, s)/|V| - v/|v|. One call of
    the teacher serves all.
    """
    v = stop(teacher.velocity)(x, s)
    V, dV = derivative(flow.average_velocity, (x, s, t), (v, 1, 0))
    residual = stop(V - v - (t - s) * dV)
    diagonal = flow.unlimited().velocity(x, s)
    return {
        "eulerian": V - stop(V) + (1 - (1 - s) ** relax) * residual.clamp(-bound, bound),
        "anchor": diagonal - v,
        "direction": unit(diagonal) - unit(v),
    }


def unit(v: Tensor) -> Tensor:
    """Each row divided by its norm."""
    return torch.nn.functional.normalize(v.flatten(1), dim=1).reshape(v.shape)
