"""Methods that follow a teacher over several points, with the settings of their papers' code."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...derivative import stop
from ...draws import whole_numbers
from ...finite_steps import Compare, along_grid, same_endpoint_seen_at_data
from ...flow_map import FlowMap
from ...method.method import Method
from ...method.term import Term
from ...steps import Step, heun_in_sigma
from ...times import mixture
from ...times.grids import diagonal_on, edm_levels, points_below
from ...times.samplers import Times, logit_normal_diagonal
from ...velocity import Pair
from ...weight import by_interval, squared
from ..consistency_models import ctm, grid_of
from ..mid_training import OncePerGroup, cmt, groups, in_groups, trajectory_times
from .consistency_models import FROM_80, distance_and_weight
from .record import variant

__all__ = ["ctm_cifar10", "cmt_cifar10"]


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


@variant(
    cmt,
    setting="the code of the paper, for CIFAR-10",
    sets="16 steps of DPM-Solver++(2M) from data + 80 eps down to 0.002, maps to t = 0, LPIPS",
    equation="E d(F(y_s, s, 0), y_0),  y along the teacher's ODE from x_0 + 80 eps",
    gradient="F(y_s, s, 0)",
    only_target=0.0,
    data_free=False,
    sampled=FROM_80,
    levels=True,
)
def cmt_cifar10(teacher: Any = None, *, points: int = 16, compare: Compare | None = None) -> Method:
    """`cmt` as in the code of the paper for CIFAR-10, which prepares consistency models.

        E d(F(y_s, s, 0), y_0),  y the states of DPM-Solver++(2M) from x_0 + 80 eps, at equidistant log noise levels

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        points: Number of steps of the solver. As many rows share one trajectory.
        compare: Distance of two positions; None for `perceptual.lpips()`.
    """
    compare, weight = distance_and_weight(compare)
    grid = log_levels(points)
    term = Term(
        partial(to_the_end, grid=grid, compare=compare),
        OncePerGroup(teacher, points),
        times=on_grid_points(grid),
        weight=weight,
        start=partial(from_highest, highest=float(grid[-1])),
        couple=in_groups(points),
        name="compositional",
    )
    return Method(term)


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


def log_levels(points: int, low: float = 0.002, high: float = 80.0) -> Tensor:
    """Grid of noise levels whose logarithms are equidistant, as `points` + 1 ascending times of the linear path."""
    level = torch.linspace(math.log(low), math.log(high), points + 1, dtype=torch.float64).exp()
    return level / (1 + level)


def on_grid_points(grid: Tensor) -> Times:
    """Sampler of s on the points of a grid after its first, all equally often, with t = 0."""
    points = len(grid) - 1
    index_of = trajectory_times(points)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s = index_of(n, progress, like)[0]
        s = grid.to(s)[(s * points).round().long()]
        return s, torch.zeros_like(s)

    return draw


def from_highest(flow: FlowMap, pair: Pair, s: Tensor, *, highest: float) -> Tensor:
    """The noisy state at the end of the grid, for every s: where the trajectories start."""
    return pair.path.interpolate(pair.x0, pair.eps, highest)


def to_the_end(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, grid: Tensor, compare: Compare = torch.sub
) -> Tensor:
    """The rule of mid-training for consistency models:  F(y_s, s, 0) against y_0.

    The trajectories y start at the first ceil(B / points) rows of x; row r is on trajectory r mod ceil(B / points).

    Args:
        flow: The flow map.
        teacher: The teacher's velocity, for these first rows.
        x: Starts of the trajectories, (B, ...).
        s: Source times, points of the grid, (B, 1, ...).
        t: Target times, 0.
        grid: Ascending times.
        compare: Function of the two positions.

    Returns:
        The residual.
    """
    count = groups(len(x), len(grid) - 1)
    states = stop(dpm_solver)(teacher, x[:count], grid)
    which = torch.arange(len(x), device=x.device) % count
    points = grid.to(s)
    index = (s.reshape(-1, 1) - points).abs().argmin(1)
    return compare(flow(states[index, which], s, t), states[0, which])


def dpm_solver(teacher: Any, x: Tensor, grid: Tensor) -> Tensor:
    """States of the teacher's ODE on the linear path, by DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095).

        x_t = (t/s) x_s + (1 - t)(1 - q_t/q_s) D,  q = t/(1 - t),
        D = D_s + (D_s - D_r) log(q_s/q_t)/(2 log(q_r/q_s)),  D_s the denoised state at s, r the point before s

    Args:
        teacher: The teacher's velocity.
        x: States at the last point of the grid, (rows, ...).
        grid: Ascending times in (0, 1).

    Returns:
        The states at the points of the grid, (points, rows, ...).
    """
    states, before, width_before = [x], None, 1.0
    for s, t in pairwise(reversed(grid.tolist())):
        time: Any = x.new_full((len(x), *[1] * (x.ndim - 1)), s)
        denoised = x - s * teacher.velocity(x, time)
        ratio = t / (1 - t) * (1 - s) / s
        width = -math.log(ratio)
        ahead = denoised if before is None else denoised + (denoised - before) * (width / (2 * width_before))
        x = t / s * x + (1 - t) * (1 - ratio) * ahead
        states.append(x)
        before, width_before = denoised, width
    return torch.stack(states[::-1])
