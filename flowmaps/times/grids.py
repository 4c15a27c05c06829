"""Ascending grids of times, for methods with finite steps: grids, samplers of (s, t) on them, the next lower point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, checked, expect_tensor, is_readable, positive
from .samplers import Times, times_like


def on(grid: Tensor) -> Times:
    """Sampler with t = 0 and s uniform on the points of an ascending grid after its first."""
    _check_grid(grid)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        index = torch.randint(1, len(grid), (n,), device=like.device)
        s = grid.to(**times_like(like))[index]
        return s, torch.zeros_like(s)

    return draw


def on_pairs(grid: Tensor) -> Times:
    """Sampler with s uniform on the points of an ascending grid after its first, then t uniform on those below s."""
    _check_grid(grid)

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        index = torch.randint(1, len(grid), (n,), device=like.device)
        below = (torch.rand(n, device=like.device) * index).long()
        points = grid.to(**times_like(like))
        return points[index], points[below]

    return draw


@checked
def karras(points: int, rho: float = 7.0, low: float = 0.002, high: float = 80.0) -> Tensor:
    """Grid of EDM's noise levels, as times of the linear path (Karras et al. 2022, arXiv 2206.00364).

    Args:
        points: Number of intervals.
        rho: Exponent; larger ones put more points near the data.
        low: Least noise level.
        high: Largest noise level.

    Returns:
        `points` + 1 ascending times in float64, from 0 to 1: sigma/(1 + sigma) for the noise levels sigma =
        (low^(1/rho) + i/points (high^(1/rho) - low^(1/rho)))^rho, with the ends moved to data and to pure noise.

    Raises:
        ValueError: There is less than one interval, or a number is not positive.
    """
    at_least(1, points=points)
    positive(rho=rho, low=low, high=high)
    if not low < high:
        raise ValueError(f"noise levels rise from low to high, got low={low} and high={high}")
    ends = low ** (1 / rho), high ** (1 / rho)
    level = torch.linspace(*ends, points + 1, dtype=torch.float64) ** rho
    times = level / (1 + level)
    times[0], times[-1] = 0.0, 1.0
    return times


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
def below(grid: Tensor, steps: int = 1) -> Callable[[Tensor, Tensor], Tensor]:
    """Function (s, t) -> the time `steps` grid points below s, but not below t.

    Args:
        grid: Ascending times.
        steps: Number of points to go down.

    Returns:
        The function, on times of any shape. It takes an s that is a rounded point of the grid as this point.
    """
    _check_grid(grid)
    at_least(1, steps=steps)

    def nearer(s: Tensor, t: Tensor) -> Tensor:
        points = grid.to(s)
        tiny = 1e-6 if s.dtype == torch.float32 else 1e-12  # s may be a rounded point of the grid
        index = torch.searchsorted(points, (s - tiny).contiguous()) - steps
        return torch.maximum(points[index.clamp(min=0)], t)

    return nearer


def _check_grid(grid: Any) -> None:
    """Check that a grid is a tensor of ascending times."""
    expect_tensor("a grid", grid)
    readable = is_readable(grid)
    ascends = not readable or bool((grid.diff() > 0).all())
    if grid.ndim != 1 or len(grid) < 2 or not grid.is_floating_point() or not ascends:
        raise ValueError(f"a grid needs at least two ascending times, got {grid.dtype} of shape {tuple(grid.shape)}")
    if readable and not (0 <= float(grid[0]) and float(grid[-1]) <= 1):
        raise ValueError(f"the times of a grid must lie in [0, 1], got {float(grid[0]):g} to {float(grid[-1]):g}")
