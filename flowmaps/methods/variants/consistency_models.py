"""Consistency models with the settings of their papers' code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ...finite_steps import Compare
from ...method.method import Method
from ...path import Discrete, linear
from ...perceptual import lpips
from ...steps import heun_in_sigma
from ...times import to_data
from ...times.grids import ddim_levels, edm_levels, uniform_grid
from ...times.samplers import logit_normal_diagonal
from ...weight import Weight, plain, squared
from ..consistency_models import cd, ct, lcm
from ..consistency_training import ict
from ..trig_flow import scd, sct
from .record import OnPath, variant

__all__ = [
    "cd_cifar10", "cd_imagenet64", "ct_cifar10", "ict_cifar10", "lcm_ddim50", "sct_linear", "scd_linear",
]  # fmt: skip

FROM_80 = "from noise at s = 80/81: fm.sample(flow, 80/81 * noise, times=[80/81, 0])"
TRIGFLOW = to_data(logit_normal_diagonal(-1.0 + 0.6931471805599453, 1.4))
"""TrigFlow's noise levels on the linear path: s/(1 - s) is exp(N(-1, 1.4^2)) over a standard deviation of 0.5."""


@variant(
    cd,
    setting="the code of the paper, for CIFAR-10",
    sets="Heun's step in the noise level, LPIPS, target without average, grid from 0.002 to 80",
    cost=6,
    shared=6,
    sampled=FROM_80,
    levels=True,
)
def cd_cifar10(teacher: Any = None, *, points: int = 18, ema: float = 0.0, compare: Compare | None = None) -> Method:
    """`cd` as in the code of the paper, for CIFAR-10.

    The teacher's step is Heun's in the noise level (`steps.heun_in_sigma`), the distance LPIPS, the target has the
    flow's own weights, and the grid ends at the noise levels 0.002 and 80, the times 0.002/1.002 and 80/81.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        points: Size of the grid.
        ema: Decay of the averaged weights, for each step; 0 for none.
        compare: Distance of two positions; None for `perceptual.lpips()`.
    """
    compare, weight = distance_and_weight(compare)
    solver = heun_in_sigma
    return cd(teacher, points=points, grid=edm_levels, ema=ema, solver=solver, weight=weight, compare=compare)


@variant(
    cd,
    setting="the code of the paper, for ImageNet 64 x 64",
    sets="40 points, Heun's step in the noise level, LPIPS, grid from 0.002 to 80",
    cost=6,
    shared=6,
    sampled=FROM_80,
    levels=True,
)
def cd_imagenet64(
    teacher: Any = None, *, points: int = 40, ema: float = 0.95, compare: Compare | None = None
) -> Method:
    """`cd` as in the code of the paper, for ImageNet 64 x 64: as `cd_cifar10`, with another grid and average.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        points: Size of the grid.
        ema: Decay of the averaged weights, for each step.
        compare: Distance of two positions; None for `perceptual.lpips()`.
    """
    return cd_cifar10(teacher, points=points, ema=ema, compare=compare)


@variant(
    ct,
    setting="the code of the paper, for images of pixels",
    sets="LPIPS, grid from 0.002 to 80",
    sampled=FROM_80,
    levels=True,
)
def ct_cifar10(*, compare: Compare | None = None) -> Method:
    """`ct` as in the code of the paper: LPIPS, and a grid that ends at the noise levels 0.002 and 80.

    Args:
        compare: Distance of two positions; None for `perceptual.lpips()`.
    """
    compare, weight = distance_and_weight(compare)
    return ct(grid=edm_levels, weight=weight, compare=compare)


@variant(
    ict,
    setting="the paper; no code of it is public",
    sets="grid from 0.002 to 80",
    sampled=FROM_80,
    levels=True,
)
def ict_cifar10(*, first: int = 10, last: int = 1280) -> Method:
    """`ict` on a grid that ends at the noise levels 0.002 and 80, the times 0.002/1.002 and 80/81.

    Args:
        first: Size of the first grid; it doubles in equal parts of training.
        last: Size of the last grid.
    """
    return ict(first=first, last=last, grid=edm_levels)


@variant(
    lcm,
    setting="the training script of diffusers",
    sets="the 50 DDIM times of Stable Diffusion, mean square",
)
def lcm_ddim50(teacher: Any = None, *, ema: float = 0.95, weight: Weight = squared) -> Method:
    """`lcm` on the 50 DDIM times of Stable Diffusion (`times.grids.ddim_levels`), with the script's mean square.

    A teacher on a path `path.Discrete` has a schedule of its own. There the grid is uniform, which is DDIM's.

    Args:
        teacher: A FlowMap or any object with velocity(x, t). The script guides it with scales from 5 to 15.
        ema: Decay of the averaged weights, for each step.
        weight: Distance and weight of the residual; by default the mean square, as in the script.
    """
    path = getattr(teacher, "path", linear)
    grid = uniform_grid if isinstance(path, Discrete) else ddim_levels
    (term,) = lcm(teacher, points=50, grid=grid, ema=ema, weight=weight).terms
    return Method(replace(term, couple=OnPath("lcm_ddim50", "lcm", path if grid is uniform_grid else linear)))


@variant(
    sct,
    setting="the paper, on the linear path",
    sets="the paper's noise levels on the linear path; `sct` reads its times on the trigonometric one",
    levels=True,
)
def sct_linear(*, warm_up: float = 0.1, c: float = 0.1) -> Method:
    """`sct` with the noise levels of the paper on the linear path.

    On `path.trigonometric` the method has them by default.

    Args:
        warm_up: Share of training over which the second half of g warms up; 0 for none.
        c: Constant of the tangent normalisation; 0 for none.
    """
    return sct(times=TRIGFLOW, warm_up=warm_up, c=c)


@variant(
    scd,
    setting="the paper, on the linear path",
    sets="the paper's noise levels on the linear path; `scd` reads its times on the trigonometric one",
    levels=True,
)
def scd_linear(teacher: Any = None, *, warm_up: float = 0.1, c: float = 0.1) -> Method:
    """`scd` with the noise levels of the paper on the linear path.

    On `path.trigonometric` the method has them by default.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        warm_up: Share of training over which the second half of g warms up; 0 for none.
        c: Constant of the tangent normalisation; 0 for none.
    """
    return scd(teacher, times=TRIGFLOW, warm_up=warm_up, c=c)


def distance_and_weight(compare: Compare | None) -> tuple[Compare, Weight]:
    """A distance with its weight; LPIPS if none is given, and the mean square for a difference."""
    if compare is torch.sub:
        return compare, squared
    return (lpips() if compare is None else compare), plain
