"""Compositional methods: one jump is two jumps."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..consistency import compositional, diffusion, midpoint
from ..derivative import Derivative, jvp, stop
from ..draws import Numbers, uniform
from ..method.method import Method
from ..method.term import Term
from ..times.samplers import (
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


def shortcut(*, diagonal: float = 0.75, levels: int = 7, ema: float = 0.999, weight: Weight = squared) -> Method:
    """Shortcut models:  E || V(x_s, s, s - 2h) - sg[mean of two jumps of h] ||^2  +  E || V(x_t, t, t) - u ||^2,  jumps
    by averaged weights.

    On a dyadic grid of 2^levels steps. Frans et al. 2024, arXiv 2410.12557. There the step is embedded by its
    logarithm, and the diffusion rows are labelled with the smallest step; here the times are continuous and the
    diagonal is the diagonal.
    """
    return Method(
        Term(diffusion, share=diagonal, times=grid(2**levels), weight=weight),
        Term(
            compositional,
            averaged(ema),
            share=1 - diagonal,
            times=dyadic(levels),
            weight=weight,
        ),
        name="shortcut",
    )


def psd(
    *,
    diagonal: float = 0.75,
    split: Numbers = uniform,
    times: Times = uniform_triangle(),
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = squared,
) -> Method:
    """Progressive self-distillation:  E || V(x_s, s, t) - sg[(1 - g) V(x_s, s, m) + g V(F(x_s, s, m), m, t)] ||^2  +  E
    || V(x_s, s, s) - u ||^2.

    m = g s + (1 - g) t; split=draws.uniform draws g (PSD-U), split=consistency.midpoint fixes g = 1/2 (PSD-M).
    The second term has times of its own, uniform as in the paper. Boffi, Albergo and Vanden-Eijnden 2025, arXiv
    2505.18825.
    """
    return Method(
        Term(diffusion, share=diagonal, times=diagonal_times, weight=weight),
        Term(compositional, own, share=1 - diagonal, times=times, weight=weight, draws={"g": split}),
        name="psd",
    )


def splitmeanflow(
    teacher: Any = None, *, boundary: float = 0.5, times: Times = uniform_triangle(), weight: Weight = squared
) -> Method:
    """SplitMeanFlow:  the compositional rule with g ~ U[0, 1] on the flow's own jumps, and V(x_s, s, s) = v(x_s, s) of
    the teacher on the rest.

    `boundary` is the share of rows for the teacher's velocity (the paper draws it for a whole batch). Guo et al. 2025,
    arXiv 2507.16884.
    """
    return Method(
        Term(diffusion, fixed(teacher), share=boundary, times=times, weight=weight),
        Term(compositional, own, share=1 - boundary, times=times, weight=weight, draws={"g": uniform}),
        name="splitmeanflow",
    )


def pfmm(
    teacher: Any = None,
    *,
    phases: int = 1,
    split: Numbers = midpoint,
    times: Times | None = None,
    weight: Weight = squared,
) -> Method:
    """Progressive flow map matching:  E || V(x_s, s, t) - [(1 - g) V'(x_s, s, m) + g V'(F'(x_s, s, m), m, t)] ||^2,
    V', F' the teacher's jumps.

    The teacher is a FlowMap that is right over half the gap; an object with velocity(x, t) alone makes each jump by one
    Euler step. With phases > 1 the widest gap doubles from phase to phase, up to 1 in the last, and from the second on
    the teacher is the flow itself as it was when the phase before ended. Measured in units of velocity;
    `by_interval(lambda s, t: (t - s) ** 2)` gives the paper's units of position. times: by default uniform with those
    gaps. Boffi, Albergo and Vanden-Eijnden 2024, arXiv 2406.07507.
    """
    times = times or (uniform_triangle() if phases == 1 else doubling_strip(phases))
    velocity = fixed(teacher) if phases == 1 else Phased(fixed(teacher), phases)
    return Method(Term(compositional, velocity, times=times, weight=weight, draws={"g": split}), name="pfmm")


def progressive_distillation(teacher: Any = None, *, levels: int = 7, weight: Weight = squared) -> Method:
    """Progressive distillation:  E || V(x_s, s, t) - (V'(x_s, s, m) + V'(F'(x_s, s, m), m, t))/2 ||^2,  m = (s +
    t)/2, one step in the place of two of the teacher's.

    `levels` equal phases on a uniform grid of 2^levels steps, half as many from phase to phase, down to one; in the
    first the teacher makes Euler steps of its velocity (DDIM on the linear path), then the flow is its own teacher as
    it was when the phase before ended. Start the flow from the teacher. The map knows the steps of its last grid
    alone. Salimans and Ho 2022, arXiv 2202.00512.
    """
    velocity = Phased(by_velocity(teacher), levels)
    return Method(
        Term(compositional, velocity, times=doubling_steps(levels), weight=weight),
        name="progressive_distillation",
    )


def fmm(
    *, times: Times = both_directions(strip(0.02, 0.25)), weight: Weight = squared, derivative: Derivative = jvp
) -> Method:
    """Flow map matching:  E || dF(z, t, s)/ds - u ||^2  +  E || F(z, t, s) - x_s ||^2,  z = F(x_s, s, t), nothing
    stopped.

    A jump and its way back; the velocity on the way back at x_s is held to the conditional one, which is unbiased
    there. Needs both directions of time, and gaps of limited size: sample with as many steps as these need. Boffi,
    Albergo and Vanden-Eijnden 2024, arXiv 2406.07507.
    """
    rule = partial(there_and_back, derivative=derivative)
    return Method(Term(rule, times=times, weight=weight, name="compositional"), name="fmm")


def there_and_back(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, derivative: Derivative = jvp) -> Tensor:
    """The residuals dF(z, t, s)/ds - v(x_s, s) and F(z, t, s) - x_s side by side, (B, 2, ...),  z = F(x_s, s, t)."""
    z = flow(x, s, t)
    V, dV = derivative(flow.average_velocity, (z, t, s), (0, 0, 1))
    velocity_back, back = V + (s - t) * dV, z + (s - t) * V
    return torch.stack([velocity_back - stop(teacher.velocity)(x, s), back - x], dim=1)
