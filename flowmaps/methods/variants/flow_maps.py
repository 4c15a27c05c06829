"""Lagrangian and compositional methods with the settings of their papers' code."""

from __future__ import annotations

from typing import Any

import torch

from ...derivative import difference_to
from ...finite_steps import Compare
from ...method.method import Method
from ...perceptual import lpips
from ...times import both_directions, uniform_triangle
from ...times import from_noise as at_noise
from ...times.grids import diagonal_on, edm_levels, neighbour
from ...weight import Weight, plain, squared
from ..compositional import fmm, shortcut
from ..data_free import pid
from ..lagrangian import lmd
from ..parts import clamped
from .record import variant

__all__ = ["lmd_both_orders", "pid_official", "shortcut_official", "fmm_square"]


@variant(
    lmd,
    setting="the paper",
    sets="both orders of s and t",
)
def lmd_both_orders(teacher: Any = None, *, weight: Weight = squared) -> Method:
    """`lmd` with both orders of s and t, uniform on the square, as in the paper: the map also goes to noise.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        weight: Distance and weight of the residual; by default the mean square.
    """
    return lmd(teacher, times=both_directions(uniform_triangle()), weight=weight)


@variant(
    pid,
    setting="the code of the paper",
    sets="times on a grid of 250 noise levels, difference to the next one towards data, distance of denoised fields",
    levels=True,
)
def pid_official(teacher: Any = None, *, points: int = 250, compare: Compare | None = None) -> Method:
    """`pid` as in the code of the paper: EDM's grid, a difference of one grid cell, LPIPS between denoised fields.

    The difference of two fields (`compare=torch.sub`) is t times the residual of `pid`, so the weight is t^2.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        points: Size of the grid.
        compare: Distance of two fields; None for `perceptual.lpips()`.
    """
    grid = edm_levels(points - 1)
    return pid(
        teacher,
        times=at_noise(diagonal_on(grid)),
        weight=squared if compare is torch.sub else plain,
        derivative=difference_to(neighbour(grid)),
        compare=lpips() if compare is None else compare,
    )


@variant(
    shortcut,
    setting="the code of the paper",
    sets="two jumps on an eighth of the rows; targets and the states between two jumps clamped at 4",
    shared=3.25,
)
def shortcut_official(*, diagonal: float = 0.875, bound: float = 4.0, weight: Weight = squared) -> Method:
    """`shortcut` as in the code of the paper: an eighth of the rows learns from two jumps, which are clamped.

    The code's optimizer has a weight decay of 0.1. Its diffusion rows have the smallest step in place of t = s, and its
    network sees the logarithm of the step.

    Args:
        diagonal: Share of the batch for the second term.
        bound: Bound of the values of a target, and of a state between two jumps.
        weight: Distance and weight of both residuals; by default the mean square.
    """
    return shortcut(diagonal=diagonal, weight=weight, limit=clamped(bound))


@variant(
    fmm,
    setting="the paper",
    sets="gaps of any size, in both orders",
    few_step=1,
)
def fmm_square(*, weight: Weight = squared) -> Method:
    """`fmm` on the whole square of times, in both orders, in place of gaps of limited size.

    Args:
        weight: Distance and weight of both residuals together; by default the mean square.
    """
    return fmm(times=both_directions(uniform_triangle()), weight=weight)
