"""Eulerian methods: the source moves."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..consistency import eulerian
from ..derivative import Derivative, detached, jvp, keep, stop, time_part
from ..method.method import Method
from ..method.stages import Stages
from ..method.term import Term
from ..times.samplers import Times, angle_normal, gap, uniform_diagonal, uniform_triangle
from ..velocity import Discriminator, fixed, own
from ..weight import Weight, adaptive, by_interval, normalised, squared, summed
from .adversarial import ADVERSARIAL_SHARE, adversarial_term
from .parts import tangent_warm_up, with_diffusion
from .row import SELF, TEACHER, landscape_row

__all__ = ["emd", "esd", "ayf_emd", "facm"]


@landscape_row(
    rule="eulerian",
    learning=TEACHER,
    notes="JVP, nothing stopped",
    published_cost=7,
    cost=7,
    shared=7,
    paper="boffi2024flow",
    equation="E | V - v(x_s, s) - (t - s)(dV/ds + grad_x V . v) |^2",
    gradient="V, dV/ds and grad_x V . v",
    gradient_of=("value", "time", "space"),
)
def emd(
    teacher: Any = None, *, times: Times = uniform_triangle(), weight: Weight = squared, derivative: Derivative = jvp
) -> Method:
    """Eulerian map distillation.

        E || V - v(x_s, s) - (t - s)(dV/ds + grad_x V . v) ||^2,  v the teacher's velocity, nothing stopped

    Boffi, Albergo and Vanden-Eijnden 2024, arXiv 2406.07507.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        times: Sampler of (s, t); by default uniform on the triangle t <= s.
        weight: Distance and weight of the residual; by default the mean square.
        derivative: Mode of the slope; by default forward mode with gradient.
    """
    rule = partial(eulerian, derivative=derivative, slope=keep)
    return Method(Term(rule, fixed(teacher), times=times, weight=weight), name="emd")


@landscape_row(
    rule="eulerian",
    learning=SELF,
    notes="JVP, its part in space stopped",
    published_cost=10,
    cost=12,
    shared=4.5,
    paper="boffi2025build",
    equation="E | V - (t - s) dV/ds - sg[w + (t - s) grad_x V . w] |^2  +  E | V(x_s, s, s) - u |^2,  w = V(x_s, s, s)",
    gradient="V and dV/ds",
    gradient_of=("value", "time"),
)
def esd(
    *,
    diagonal: float = 0.75,
    times: Times = uniform_triangle(),
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = squared,
    derivative: Derivative = time_part(),
) -> Method:
    """Eulerian self-distillation.

        E || V - (t - s) dV/ds - sg[w + (t - s) grad_x V . w] ||^2  +  E || V(x_s, s, s) - u ||^2,  w = V(x_s, s, s)

    Boffi, Albergo and Vanden-Eijnden 2025, arXiv 2505.18825.

    Args:
        diagonal: Share of the batch for the second term.
        times: Sampler of (s, t) in the first term; by default uniform on the triangle t <= s.
        diagonal_times: Sampler of s in the second term; by default uniform, as in the paper.
        weight: Distance and weight of both residuals; by default the mean square.
        derivative: Mode of the slope; by default two derivatives, in time with gradient and in space without.
    """
    rule = partial(eulerian, derivative=derivative, slope=keep)
    term = Term(rule, own, times=times, weight=weight)
    return Method(*with_diffusion(diagonal, term, diagonal_times), name="esd")


@landscape_row(
    rule="eulerian",
    learning=TEACHER,
    notes="JVP stopped",
    published_cost=6,
    cost=5,
    shared=5,
    paper="sabour2025align",
    equation="E | V - sg[v(x_s, s) + r (t - s)(dV/ds + grad_x V . v)] |^2",
    gradient="V",
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
    """Align Your Flow, Eulerian.

        E || V - sg[v(x_s, s) + r (t - s)(dV/ds + grad_x V . v)] ||^2,  v the teacher's velocity

    With a discriminator the last part of training is the paper's second stage, which adds an adversarial loss on
    one-jump samples (`methods.adversarial`), balanced by last-layer gradients. Sabour, Fidler and Kreis 2025, arXiv
    2506.14603.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        times: Sampler of (s, t); by default the gap is logit-normal.
        weight: Distance and weight of the residual; by default tangent normalisation (`weight.normalised`).
        warm_up: Share of training over which r rises linearly; 0 for r = 1 from the start.
        largest: Value of r after the warm-up.
        derivative: Mode of the slope; by default forward mode without gradient.
        discriminator: A network x -> logits; None for no adversarial stage.
        fine_tuning: Share of training for the adversarial stage.
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


@landscape_row(
    rule="eulerian",
    learning=TEACHER,
    notes="t = 0 only, with the diagonal for an anchor, JVP stopped",
    published_cost=8,
    cost=8,
    shared=8,
    paper="peng2025facm",
    equation="E | V - sg[V - a(s) clamp(V - v - (t - s)(dV/ds + grad_x V . v))] |^2 at t = 0\n"
    "  +  E | V(x_s, s, s) - v |^2  +  E [1 - cos(V(x_s, s, s), v)]",
    gradient="V(x_s, s, 0) and V(x_s, s, s)",
    only_target=0.0,
)
def facm(
    teacher: Any = None,
    *,
    times: Times = angle_normal(-0.8, 1.6),
    weight: Weight | None = None,
    relax: float = 0.5,
    bound: float = 1.0,
    derivative: Derivative = detached,
) -> Method:
    """Flow-anchored consistency.

        E || V - sg[V - a(s) clamp(R)] ||^2,  R = V - v(x_s, s) - (t - s)(dV/ds + grad_x V . v), at t = 0,
          +  E || V(x_s, s, s) - v ||^2  +  E [1 - cos(V(x_s, s, s), v)]  for the anchor

    v is the teacher's velocity, a(s) = 1 - (1 - s)^relax. The paper's single time in [0, 2], which keeps the two tasks
    apart, is a network's `times=embeddings.expanded`. The map goes to t = 0 only, so several steps are restarts. The
    cosine is taken over all values of a row, so that it is meaningful for few channels too. Peng et al. 2025, arXiv
    2507.03738.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        times: Sampler of s, with t = 0; by default normal in the logarithm of the noise level.
        weight: Distance and weight of the first part; None for sin(pi s / 2) / sg[(|R|^2/D + 1e-3)^(1/2)].
        relax: Power in a(s).
        bound: Bound of R, in both directions.
        derivative: Mode of the slope; by default forward mode without gradient.
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
    """FACM's three residuals, with one call of the teacher.

        eulerian:   V - sg[V - a(s) clamp(R)],  a(s) = 1 - (1 - s)^relax
        anchor:     V(x_s, s, s) - v
        direction:  V(x_s, s, s)/|V(x_s, s, s)| - v/|v|

    Args:
        flow: The flow map.
        teacher: The teacher's velocity v.
        x: Points x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        derivative: Mode of the slope in R.
        relax: Power in a(s).
        bound: Bound of R, in both directions.

    Returns:
        The residuals by name, of the shape of x.
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
