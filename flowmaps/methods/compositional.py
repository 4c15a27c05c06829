"""Compositional methods: one jump is two jumps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..consistency import compositional, diffusion, midpoint
from ..derivative import Derivative, jvp, keep, stop
from ..draws import Numbers, uniform
from ..method.method import Method
from ..method.term import Term
from ..times import (
    Times,
    both_directions,
    doubling_steps,
    doubling_strip,
    dyadic,
    grid,
    strip,
    uniform_diagonal,
    uniform_triangle,
)
from ..velocity import Phased, averaged, by_velocity, fixed, own
from ..weight import Weight, squared
from .parts import with_diffusion
from .row import MARGINAL, SELF, TEACHER, landscape_row

__all__ = ["shortcut", "splitmeanflow", "psd", "fmm", "pfmm", "progressive_distillation"]


@landscape_row(
    rule="compositional",
    learning=SELF,
    notes="averaged target, dyadic grid",
    published_cost=8,
    cost=8,
    shared=3.5,
    paper="frans2024one",
    equation="E | V(x_s, s, s - 2h) - sg[mean of two jumps of h] |^2  +  E | V(x_s, s, s) - u |^2",
    gradient="V",
)
def shortcut(
    *,
    diagonal: float = 0.75,
    levels: int = 7,
    ema: float = 0.999,
    weight: Weight = squared,
    limit: Callable[[Tensor], Tensor] = keep,
) -> Method:
    """Shortcut models.

        E || V(x_s, s, s - 2h) - sg[mean of two jumps of h] ||^2  +  E || V(x_s, s, s) - u ||^2,
        jumps by averaged weights, times on a dyadic grid of 2^levels steps

    Unlike in the paper, where the network sees the logarithm of the step and diffusion rows have the smallest step,
    times are continuous and diffusion rows have t = s. The paper's code has two jumps on an eighth of the rows, and
    clamps targets: `variants.shortcut_official`. Frans et al. 2024, arXiv 2410.12557.

    Args:
        diagonal: Share of the batch for the second term.
        levels: Number of halvings, from the whole interval to the smallest step.
        ema: Decay of the averaged weights, for each step.
        weight: Distance and weight of both residuals; by default the mean square.
        limit: Function that bounds targets and the states between two jumps; by default nothing is bounded.
    """
    rule = compositional if limit is keep else partial(compositional, limit=limit)
    term = Term(rule, averaged(ema), times=dyadic(levels), weight=weight)
    return Method(*with_diffusion(diagonal, term, grid(2**levels)), name="shortcut")


@landscape_row(
    rule="compositional",
    learning=TEACHER,
    notes="target stopped",
    published_cost=9,
    cost=9,
    shared=4.5,
    paper="guo2025splitmeanflow",
    equation="E | V(x_s, s, t) - sg[(1 - g) V(x_s, s, m) + g V(F(x_s, s, m), m, t)] |^2  +  "
    "E | V(x_s, s, s) - v(x_s, s) |^2",
    gradient="V",
)
def splitmeanflow(
    teacher: Any = None, *, boundary: float = 0.5, times: Times = uniform_triangle(), weight: Weight = squared
) -> Method:
    """SplitMeanFlow.

        E || V(x_s, s, t) - sg[(1 - g) V(x_s, s, m) + g V(F(x_s, s, m), m, t)] ||^2
          +  E || V(x_s, s, s) - v(x_s, s) ||^2,  m = g s + (1 - g) t,  g ~ U[0, 1],  v the teacher's velocity

    Guo et al. 2025, arXiv 2507.16884.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        boundary: Share of the rows for the second term. (The paper draws the term for a whole batch.)
        times: Sampler of (s, t); by default uniform on the triangle t <= s.
        weight: Distance and weight of both residuals; by default the mean square.
    """
    return Method(
        Term(diffusion, fixed(teacher), share=boundary, times=times, weight=weight),
        Term(compositional, own, share=1 - boundary, times=times, weight=weight, draws={"g": uniform}),
        name="splitmeanflow",
    )


@landscape_row(
    rule="compositional",
    learning=SELF,
    notes="target stopped",
    published_cost=8,
    cost=8,
    shared=3.5,
    paper="boffi2025build",
    equation="E | V(x_s, s, t) - sg[(1 - g) V(x_s, s, m) + g V(F(x_s, s, m), m, t)] |^2  +  E | V(x_s, s, s) - u |^2",
    gradient="V",
)
def psd(
    *,
    diagonal: float = 0.75,
    split: Numbers = uniform,
    times: Times = uniform_triangle(),
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = squared,
) -> Method:
    """Progressive self-distillation.

        E || V(x_s, s, t) - sg[(1 - g) V(x_s, s, m) + g V(F(x_s, s, m), m, t)] ||^2  +  E || V(x_s, s, s) - u ||^2,
        m = g s + (1 - g) t

    Boffi, Albergo and Vanden-Eijnden 2025, arXiv 2505.18825.

    Args:
        diagonal: Share of the batch for the second term.
        split: Sampler of g: `draws.uniform` (PSD-U) by default, `consistency.midpoint` for g = 1/2 (PSD-M).
        times: Sampler of (s, t) in the first term; by default uniform on the triangle t <= s.
        diagonal_times: Sampler of s in the second term; by default uniform, as in the paper.
        weight: Distance and weight of both residuals; by default the mean square.
    """
    term = Term(compositional, own, times=times, weight=weight, draws={"g": split})
    return Method(*with_diffusion(diagonal, term, diagonal_times), name="psd")


@landscape_row(
    rule="compositional",
    learning=MARGINAL,
    notes="JVP, nothing stopped, both directions",
    published_cost=9,
    cost=9,
    shared=9,
    paper="boffi2024flow",
    equation="E | dF(z, t, s)/ds - u |^2  +  E | F(z, t, s) - x_s |^2,  z = F(x_s, s, t)",
    gradient="everything",
    gradient_of=("value", "time", "space"),
    few_step=8,
)
def fmm(
    *, times: Times = both_directions(strip(0.02, 0.25)), weight: Weight = squared, derivative: Derivative = jvp
) -> Method:
    """Flow map matching.

        E || dF(z, t, s)/ds - u ||^2  +  E || F(z, t, s) - x_s ||^2,  z = F(x_s, s, t), nothing stopped

    A jump and its way back; the velocity on the way back at x_s is held to the conditional one, which is unbiased
    there. Needs both directions of time, and gaps of limited size: sample with as many steps as these need.
    `variants.fmm_square` has gaps of any size. Boffi, Albergo and Vanden-Eijnden 2024, arXiv 2406.07507.

    Args:
        times: Sampler of (s, t); by default gaps from 0.02 to 0.25 in both directions.
        weight: Distance and weight of both residuals together; by default the mean square.
        derivative: Mode of dF/ds; by default forward mode with gradient.
    """
    rule = partial(there_and_back, derivative=derivative)
    return Method(Term(rule, times=times, weight=weight, name="compositional"), name="fmm")


def there_and_back(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, derivative: Derivative = jvp) -> Tensor:
    """Flow map matching's two residuals side by side.

        dF(z, t, s)/ds - v(x_s, s)  and  F(z, t, s) - x_s,  z = F(x_s, s, t)

    Args:
        flow: The flow map.
        teacher: The velocity v, the sampled pair's.
        x: Points x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        derivative: Mode of dF/ds.

    Returns:
        Both residuals, (B, 2, ...).
    """
    z = flow(x, s, t)
    V, dV = derivative(flow.average_velocity, (z, t, s), (0, 0, 1))
    velocity_back, back = V + (s - t) * dV, z + (s - t) * V
    return torch.stack([velocity_back - stop(teacher.velocity)(x, s), back - x], dim=1)


@landscape_row(
    rule="compositional",
    learning=TEACHER,
    notes="a flow map as teacher",
    published_cost=5,
    cost=5,
    shared=5,
    paper="boffi2024flow",
    equation="E | V(x_s, s, t) - [(1 - g) V'(x_s, s, m) + g V'(F'(x_s, s, m), m, t)] |^2,  V', F' the teacher's jumps",
    gradient="V",
)
def pfmm(
    teacher: Any = None,
    *,
    phases: int = 1,
    split: Numbers = midpoint,
    times: Times | None = None,
    weight: Weight = squared,
) -> Method:
    """Progressive flow map matching.

        E || V(x_s, s, t) - [(1 - g) V'(x_s, s, m) + g V'(F'(x_s, s, m), m, t)] ||^2,  V', F' the teacher's jumps

    With phases > 1 the widest gap doubles in each phase, up to 1 in the last. From the second phase on, the teacher is
    the flow at the end of the previous phase. Boffi, Albergo and Vanden-Eijnden 2024, arXiv 2406.07507.

    Args:
        teacher: A FlowMap that is accurate over half the gap. An object with velocity(x, t) only makes each jump by one
            Euler step.
        phases: Number of equal phases of training.
        split: Sampler of g; by default 1/2.
        times: Sampler of (s, t); None for uniform ones with the gaps of the phase.
        weight: Distance and weight of the residual; by default the mean square, in units of velocity.
            `by_interval(lambda s, t: (t - s) ** 2)` gives the paper's units of position.
    """
    times = times or (uniform_triangle() if phases == 1 else doubling_strip(phases))
    velocity = fixed(teacher) if phases == 1 else Phased(fixed(teacher), phases)
    return Method(Term(compositional, velocity, times=times, weight=weight, draws={"g": split}), name="pfmm")


@landscape_row(
    rule="compositional",
    learning=TEACHER,
    notes="one step for two, phase after phase",
    cost=5,
    shared=5,
    paper="salimans2022progressive",
    equation="E | V(x_s, s, t) - (V'(x_s, s, m) + V'(F'(x_s, s, m), m, t))/2 |^2,  V' the teacher's, then "
    "the flow's at the end of the previous phase",
    gradient="V",
)
def progressive_distillation(teacher: Any = None, *, levels: int = 7, weight: Weight = squared) -> Method:
    """Progressive distillation.

        E || V(x_s, s, t) - (V'(x_s, s, m) + V'(F'(x_s, s, m), m, t))/2 ||^2,  m = (s + t)/2:
        one step replaces two steps of the teacher

    The grid is uniform, with 2^levels steps at first and half as many in each later phase, down to one step. In the
    first phase the teacher makes Euler steps of its velocity (DDIM on the linear path); later the teacher is the flow
    at the end of the previous phase. Start the flow from the teacher. The trained map knows only the steps of its last
    grid. Salimans and Ho 2022, arXiv 2202.00512.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        levels: Number of equal phases of training.
        weight: Distance and weight of the residual; by default the mean square.
    """
    velocity = Phased(by_velocity(teacher), levels)
    term = Term(compositional, velocity, times=doubling_steps(levels), weight=weight)
    return Method(term, name="progressive_distillation")
