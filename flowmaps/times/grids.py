"""Ascending grids of times, for methods with finite steps: grids, samplers of (s, t) on them, the next lower point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, checked, expect_tensor, is_readable, positive
from .samplers import Times, times_like

Grid = Callable[[int], Tensor]
"""Function from a number of intervals to an ascending grid of times."""


def on(grid: Tensor) -> Times:
    """Sampler with t = 0 and s uniform on the points of an ascending grid after its first."""
    expect_grid(grid)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        index = torch.randint(1, len(grid), (n,), device=like.device)
        s = grid.to(**times_like(like))[index]
        return s, torch.zeros_like(s)

    return draw


def diagonal_on(grid: Tensor) -> Times:
    """Sampler of the diagonal s = t, uniform on all points of an ascending grid."""
    expect_grid(grid)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        s = grid.to(**times_like(like))[torch.randint(len(grid), (n,), device=like.device)]
        return s, s

    return draw


def on_pairs(grid: Tensor) -> Times:
    """Sampler with s uniform on the points of an ascending grid after its first, then t uniform on those below s."""
    expect_grid(grid)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        index = torch.randint(1, len(grid), (n,), device=like.device)
        below = (torch.rand(n, device=like.device) * index).long()
        points = grid.to(**times_like(like))
        return points[index], points[below]

    return draw


def neighbours(grid: Tensor) -> Times:
    """Sampler with s uniform on the points of an ascending grid after its first, and t the point below s."""
    expect_grid(grid)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        index = torch.randint(1, len(grid), (n,), device=like.device)
        points = grid.to(**times_like(like))
        return points[index], points[index - 1]

    return draw


@checked
def karras(points: int, rho: float = 7.0, low: float = 0.002, high: float = 80.0) -> Tensor:
    """Grid of EDM's noise levels as `edm_levels`, with its ends moved to data and to pure noise.

    Args:
        points: Number of intervals.
        rho: Exponent; larger ones put more points near the data.
        low: Least noise level.
        high: Largest noise level.

    Returns:
        `points` + 1 ascending times in float64, from 0 to 1.

    Raises:
        ValueError: There is less than one interval, or a number is not positive.
    """
    times = edm_levels(points, rho, low, high)
    times[0], times[-1] = 0.0, 1.0
    return times


@checked
def edm_levels(points: int, rho: float = 7.0, low: float = 0.002, high: float = 80.0) -> Tensor:
    """Grid of EDM's noise levels, as times of the linear path (Karras et al. 2022, arXiv 2206.00364).

    Args:
        points: Number of intervals.
        rho: Exponent; larger ones put more points near the data.
        low: Least noise level.
        high: Largest noise level.

    Returns:
        `points` + 1 ascending times in float64: sigma/(1 + sigma) for the noise levels sigma = (low^(1/rho) + i/points
        (high^(1/rho) - low^(1/rho)))^rho, by default from 0.002/1.002 to 80/81.

    Raises:
        ValueError: There is less than one interval, or a number is not positive.
    """
    at_least(1, points=points)
    positive(rho=rho, low=low, high=high)
    if not low < high:
        raise ValueError(f"noise levels rise from low to high, got low={low} and high={high}")
    ends = low ** (1 / rho), high ** (1 / rho)
    level = torch.linspace(*ends, points + 1, dtype=torch.float64) ** rho
    return level / (1 + level)


@checked
def ddim_levels(points: int = 50) -> Tensor:
    """Grid of DDIM's equidistant steps on the schedule of Stable Diffusion, as times of the linear path.

    The schedule has 1000 steps, with betas between 0.00085 and 0.012 whose roots are equidistant. On a path
    `path.Discrete` of this schedule the same steps are `uniform_grid`.

    Args:
        points: Number of intervals, a divisor of 1000.

    Returns:
        `points` + 1 ascending times in float64: sigma/(1 + sigma) for the noise levels sigma of the steps 0, q - 1,
        2q - 1, ..., 999 with q = 1000/points.

    Raises:
        ValueError: `points` does not divide 1000.
    """
    at_least(1, points=points)
    if 1000 % points:
        raise ValueError(f"the schedule has 1000 steps, so points must divide 1000, got {points}")
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    level = ((1 - betas).cumprod(0).reciprocal() - 1).sqrt()
    steps = torch.arange(points + 1) * (1000 // points) - 1
    level = level[steps.clamp(min=0)]
    return level / (1 + level)


@checked
def uniform_grid(points: int) -> Tensor:
    """Uniform grid 0, 1/points, ..., 1.

    Args:
        points: Number of intervals.

    Returns:
        `points` + 1 ascending times in float64.

    Raises:
        ValueError: There is less than one interval.
    """
    at_least(1, points=points)
    return torch.linspace(0, 1, points + 1, dtype=torch.float64)


@checked
def on_clock(clock: Callable[[Tensor], Tensor], points: int) -> Tensor:
    """Grid of equal steps on a clock.

    Args:
        clock: Ascending function from [0, 1] to [0, 1], such as `times.flm_clock(classes)`.
        points: Number of intervals.

    Returns:
        `points` + 1 ascending times in float64, from 0 to 1.

    Raises:
        ValueError: There is less than one interval.
    """
    return clock(uniform_grid(points))


@checked
def below(grid: Tensor, steps: int = 1) -> Callable[[Tensor, Tensor], Tensor]:
    """Function (s, t) -> the time `steps` grid points below s, but not below t.

    Args:
        grid: Ascending times.
        steps: Number of points to go down.

    Returns:
        The function, on times of any shape. It takes an s that is a rounded point of the grid as this point.
    """
    expect_grid(grid)
    at_least(1, steps=steps)

    def nearer(s: Tensor, t: Tensor) -> Tensor:
        return points_below(s, t, grid=grid, count=steps)

    return nearer


def points_below(s: Tensor, t: Tensor, *, grid: Tensor, count: Tensor | int) -> Tensor:
    """The time `count` grid points below s, but not below t: `below` with a count for each row."""
    points = grid.to(s)
    return torch.maximum(points[(_index(points, s) - count).clamp(min=0)], t)


def neighbour(grid: Tensor) -> Callable[[Tensor], Tensor]:
    """Function from a time on an ascending grid to the point below it, or from the lowest point to the one above."""
    expect_grid(grid)

    def next_point(t: Tensor) -> Tensor:
        points = grid.to(t)
        return points[(_index(points, t) - 1).abs()]

    return next_point


def _index(points: Tensor, s: Tensor) -> Tensor:
    """Index of the first point that is not below s; an s that is a rounded point counts as this point."""
    tiny = 1e-6 if s.dtype == torch.float32 else 1e-12
    return torch.searchsorted(points, (s - tiny).contiguous())


def expect_grid(grid: Any) -> None:
    """Check that a grid is a tensor of ascending times."""
    expect_tensor("a grid", grid)
    readable = is_readable(grid)
    ascends = not readable or bool((grid.diff() > 0).all())
    if grid.ndim != 1 or len(grid) < 2 or not grid.is_floating_point() or not ascends:
        raise ValueError(f"a grid needs at least two ascending times, got {grid.dtype} of shape {tuple(grid.shape)}")
    if readable and not (0 <= float(grid[0]) and float(grid[-1]) <= 1):
        raise ValueError(f"the times of a grid must lie in [0, 1], got {float(grid[0]):g} to {float(grid[-1]):g}")
