"""Consistency trajectory models with the settings of the paper's code."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...draws import whole_numbers
from ...finite_steps import Compare, along_grid, same_endpoint_seen_at_data
from ...method.method import Method
from ...steps import Step, heun_in_sigma
from ...times import mixture
from ...times.grids import diagonal_on, edm_levels, points_below
from ...times.samplers import logit_normal_diagonal
from ...weight import by_interval, squared
from ..consistency_models import ctm, grid_of
from .consistency_models import FROM_80, distance_and_weight
from .record import variant

__all__ = ["ctm_cifar10"]


@variant(
    ctm,
    setting="the code of the paper, for CIFAR-10",
    sets="1 to 17 Heun steps in the noise level, LPIPS, denoising loss with times of its own, grid from 0.002 to 80",
    cost=45,
    shared=22.5,
    sampled=FROM_80,
    levels=True,
)
def ctm_cifar10(
    teacher: Any = None,
    *,
    points: int = 18,
    steps: int = 17,
    denoising: float = 0.5,
    compare: Compare | None = None,
    discriminator: torch.nn.Module | None = None,
) -> Method:
    """`ctm` as in the code of the paper, for CIFAR-10.

    The teacher goes down 1 to `steps` points of the grid by Heun's step in the noise level. The distance is LPIPS. The
    denoising loss is on, with EDM's weight; half of its noise levels are log-normal, half on the noisier 70% of EDM's
    grid. In the code the number of steps is drawn once for a batch, and before s and t; here it is drawn for each row,
    and m is not below t. All rows cost `steps` steps.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        points: Size of the grid.
        steps: Largest number of the teacher's steps.
        denoising: Share of the batch for the denoising loss.
        compare: Distance of two positions; None for `perceptual.lpips()`.
        discriminator: A network x -> logits for the adversarial loss; None for none, the first stage of the code.
    """
    compare, weight = distance_and_weight(compare)
    method = ctm(
        teacher,
        points=points,
        grid=edm_levels,
        denoising=denoising,
        denoising_times=mixture(0.5, logit_normal_diagonal(-1.2, 1.2), diagonal_on(edm_levels(1000)[300:])),
        denoising_weight=by_interval(edm_weight, squared),
        discriminator=discriminator,
        weight=weight,
    )
    rule = partial(several_points, grid=grid_of(edm_levels, points), steps=steps, compare=compare)
    return Method(replace(method.terms[0], rule=rule, draws={"count": whole_numbers(steps)}), *method.terms[1:])


def several_points(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    count: Tensor,
    outer: Any,
    grid: Tensor,
    steps: int,
    solver: Step = heun_in_sigma,
    compare: Compare = torch.sub,
) -> Tensor:
    """Rule `finite_steps.same_endpoint_seen_at_data` with m several grid points below s, by as many steps.

    Args:
        flow: The flow map.
        teacher: The velocity that the solver follows.
        x: Points x_s, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        count: Number of grid points from s down to m, (B, 1, ...); m is not below t.
        outer: Flow map of the jump to the data.
        grid: Ascending times.
        steps: Largest `count`.
        solver: Step from a grid point to the next one; by default Heun's in the noise level.
        compare: Function of the two endpoints.

    Returns:
        The residual, in units of position.
    """
    to = partial(points_below, grid=grid, count=count)
    walk = along_grid(solver, grid, steps)
    return same_endpoint_seen_at_data(flow, teacher, x, s, t, to=to, outer=outer, solver=walk, compare=compare)


def edm_weight(s: Tensor, t: Tensor) -> Tensor:
    """EDM's weight for data of standard deviation 1/2, for residuals in units of velocity: (1 - s)^2 + 4 s^2.

    It is (q^2 + 1/4)/(q/2)^2 for the denoised data, with the noise level q = s/(1 - s); the residual of the denoised
    data is s times the one of the velocity.

    Args:
        s: Times, (B,).
        t: Not used.

    Returns:
        The factor, (B,).
    """
    return (1 - s) ** 2 + 4 * s**2
