"""Ascending grids of times, for methods of finite steps: samplers of (s, t) on them, and the point below."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .samplers import Times, times_like


def on(grid: Tensor) -> Times:
    """t = 0 and s uniform on the points of an ascending grid after its first."""

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        index = torch.randint(1, len(grid), (n,), device=like.device)
        s = grid.to(**times_like(like))[index]
        return s, torch.zeros_like(s)

    return draw


def on_pairs(grid: Tensor) -> Times:
    """s uniform on the points of an ascending grid after its first, then t uniform on those below s."""

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        index = torch.randint(1, len(grid), (n,), device=like.device)
        below = (torch.rand(n, device=like.device) * index).long()
        points = grid.to(**times_like(like))
        return points[index], points[below]

    return draw


def karras(points: int, rho: float = 7.0, low: float = 0.002, high: float = 80.0) -> Tensor:
    """An ascending grid of `points` + 1 times from 0 to 1: EDM's noise levels (low^(1/rho) + i/points (high^(1/rho) -
    low^(1/rho)))^rho as times sigma/(1 + sigma) of the linear path, its ends moved to data and to pure noise (Karras et
    al. 2022, arXiv 2206.00364). Raises ValueError for fewer than one point.
    """
    _check(points)
    ends = low ** (1 / rho), high ** (1 / rho)
    level = torch.linspace(*ends, points + 1, dtype=torch.float64) ** rho
    times = level / (1 + level)
    times[0], times[-1] = 0.0, 1.0
    return times


def uniform_grid(points: int) -> Tensor:
    """0, 1/points, ..., 1. Raises ValueError for fewer than one point."""
    _check(points)
    return torch.linspace(0, 1, points + 1, dtype=torch.float64)


def below(grid: Tensor, steps: int = 1) -> Callable[[Tensor, Tensor], Tensor]:
    """(s, t) -> the time `steps` grid points below s, but not below t."""

    def nearer(s: Tensor, t: Tensor) -> Tensor:
        points = grid.to(s)
        tiny = 1e-6 if s.dtype == torch.float32 else 1e-12  # s may be a rounded point of the grid
        index = torch.searchsorted(points, (s - tiny).contiguous()) - steps
        return torch.maximum(points[index.clamp(min=0)], t)

    return nearer


def _check(points: int) -> None:
    if points < 1:
        raise ValueError(f"a grid needs at least one point, got {points}")
