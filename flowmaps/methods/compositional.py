"""Compositional methods: one jump is two jumps. No derivatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from ..consistency import compositional, diffusion, midpoint, uniform
from ..method import Method, Term
from ..times import Times, dyadic, grid, uniform_diagonal, uniform_triangle
from ..velocity import averaged, fixed, own
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
            partial(compositional, split=midpoint),
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
    split: Callable[[Tensor], Tensor] = uniform,
    times: Times = uniform_triangle(),
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = squared,
) -> Method:
    """Progressive self-distillation:  E || V(x_s, s, t) - sg[(1 - g) V(x_s, s, m) + g V(F(x_s, s, m), m, t)] ||^2  +  E
    || V(x_s, s, s) - u ||^2.

    m = g s + (1 - g) t; split=consistency.uniform draws g (PSD-U), split=consistency.midpoint fixes g = 1/2 (PSD-M).
    The second term has times of its own, uniform as in the paper. Boffi, Albergo and Vanden-Eijnden 2025, arXiv
    2505.18825.
    """
    return Method(
        Term(diffusion, share=diagonal, times=diagonal_times, weight=weight),
        Term(partial(compositional, split=split), own, share=1 - diagonal, times=times, weight=weight),
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
        Term(partial(compositional, split=uniform), own, share=1 - boundary, times=times, weight=weight),
        name="splitmeanflow",
    )


def pfmm(
    teacher: Any = None,
    *,
    split: Callable[[Tensor], Tensor] = midpoint,
    times: Times = uniform_triangle(),
    weight: Weight = squared,
) -> Method:
    """Progressive flow map matching:  E || V(x_s, s, t) - [(1 - g) V'(x_s, s, m) + g V'(F'(x_s, s, m), m, t)] ||^2,
    V', F' the teacher's jumps.

    The teacher is a FlowMap that is right over half the gap; an object with velocity(x, t) alone makes each jump by one
    Euler step. Measured in units of velocity; `by_interval(lambda s, t: (t - s) ** 2)` gives the paper's units of
    position. Arrange `times` so that the gaps are at most twice those that the teacher knows. Boffi, Albergo and
    Vanden-Eijnden 2024, arXiv 2406.07507.
    """
    return Method(Term(partial(compositional, split=split), fixed(teacher), times=times, weight=weight), name="pfmm")
