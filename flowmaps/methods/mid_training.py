"""Consistency mid-training: Hu, Lai, Mitsufuji and Ermon 2025, arXiv 2509.24526."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..derivative import stop
from ..flow_map import FlowMap
from ..method.method import Method
from ..method.term import Term, noise_alone
from ..steps import Step, euler
from ..times.samplers import Times
from ..velocity import Fixed, Pair
from ..weight import Weight, squared
from .row import TEACHER, landscape_row

__all__ = ["cmt"]


@landscape_row(
    rule="compositional",
    learning=TEACHER,
    notes="mid-training on trajectories of a solver",
    cost=4,
    shared=4,
    paper="hu2025cmt",
    equation="E | V(y_s, s, t) - (y_s - y_t)/(s - t) |^2,  y along the teacher's ODE from noise",
    gradient="V",
    data_free=True,
)
def cmt(teacher: Any = None, *, points: int = 16, solver: Step = euler, weight: Weight = squared) -> Method:
    """Consistency mid-training.

        E || V(y_s, s, t) - (y_s - y_t)/(s - t) ||^2,  y the states of the teacher's ODE from noise, on a uniform grid

    Plain regression on fixed targets, without derivatives: a stage between a diffusion model and any of the other
    methods, as in Stages((0.3, cmt(teacher)), (0.7, meanflow())). The paper's code follows the ODE by DPM-Solver++(2M),
    from data + 80 eps, and compares by LPIPS: `variants.cmt_cifar10`. Hu, Lai, Mitsufuji and Ermon 2025, arXiv
    2509.24526.

    Args:
        teacher: A FlowMap or any object with velocity(x, t).
        points: Number of steps of the grid. As many rows share one trajectory, so a row costs one pass of the teacher
            (two with `steps.heun`).
        solver: Step of the ODE; by default Euler's.
        weight: Distance and weight of the residual; by default the mean square.
    """
    term = Term(
        partial(along_trajectory, points=points, solver=solver),
        OncePerGroup(teacher, points),
        times=trajectory_times(points),
        weight=weight,
        start=noise_alone,
        couple=in_groups(points),
        name="compositional",
    )
    return Method(term, name="cmt")


def groups(rows: int, size: int) -> int:
    """Number of trajectories of `rows` rows, of at most `size` rows each; row r is on trajectory r mod groups."""
    return -(-rows // size)


@dataclass(frozen=True)
class OncePerGroup(Fixed):
    """A given teacher, bound to the conditions of the first row of each group of `size` rows."""

    size: int

    def __call__(self, flow: FlowMap, pair: Pair) -> Any:
        first = slice(groups(len(pair.eps), self.size))
        return super().__call__(flow, replace(pair, condition=_rows(pair.condition, first)))


def in_groups(size: int) -> Callable[[Pair], Pair]:
    """Return a coupling that gives all rows of a group the same noise and condition.

    Args:
        size: Rows of a group.

    Returns:
        Function pair -> pair, for `Term.couple`. It raises ValueError if the groups of a batch cannot be split equally
        between the processes or parts that share it.
    """

    def couple(pair: Pair) -> Pair:
        rows, count = pair.rows, groups(len(pair.eps), size)
        if rows.total and rows.every * count != groups(rows.total, size):
            raise ValueError(
                f"{rows.every} processes or parts cannot share the {groups(rows.total, size)} trajectories of "
                f"{rows.total} rows: take a batch of a multiple of {rows.every * size} rows"
            )
        which = torch.arange(len(pair.eps), device=pair.eps.device) % count
        return replace(pair, eps=pair.eps[which], condition=_rows(pair.condition, which))

    return couple


def _rows(condition: dict[str, Any], rows: Any) -> dict[str, Any]:
    """Return some rows of a condition."""
    return {k: v[rows] if isinstance(v, Tensor) and v.ndim else v for k, v in condition.items()}


def trajectory_times(points: int) -> Times:
    """Sampler of (s, t) on a uniform grid: s = 1/points, ..., 1 equally often, t uniform on the points below s."""

    def draw(n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
        # start at a random point, so that batches with fewer rows than points reach every point
        first = torch.randint(points, (1,), device=like.device)
        within = torch.arange(n, device=like.device) // groups(n, points)
        index = points - (first + within) % points
        below = (torch.rand(n, device=like.device) * index).long()
        dtype = torch.promote_types(like.dtype, torch.float32)
        return index.to(dtype) / points, below.to(dtype) / points

    return draw


def along_trajectory(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, points: int = 16, solver: Step = euler
) -> Tensor:
    """The rule of mid-training:  V(y_s, s, t) - (y_s - y_t)/(s - t).

    The trajectories y start at the first ceil(B / points) rows of x; row r is on trajectory r mod ceil(B / points).

    Args:
        flow: The flow map.
        teacher: The teacher's velocity, for these first rows.
        x: Noise, (B, ...).
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        points: Number of steps of the grid.
        solver: Step of the ODE.

    Returns:
        The residual, of the shape of x.

    Raises:
        ValueError: If a time is not on the grid.
    """
    i, j = ((time.flatten() * points).round().long() for time in (s, t))
    if not torch.compiler.is_compiling() and bool(
        ((i - s.flatten() * points).abs() > 1e-3).any() | ((j - t.flatten() * points).abs() > 1e-3).any()
    ):
        raise ValueError(f"mid-training needs times on its grid, multiples of 1/{points}")
    count = groups(len(x), points)
    states = stop(trajectory)(teacher, x[:count], points, solver)
    which = torch.arange(len(x), device=x.device) % count
    at_s, at_t = states[i, which], states[j, which]
    gap = torch.where(s == t, torch.ones_like(s), s - t)
    return flow.average_velocity(at_s, s, t) - (at_s - at_t) / gap


def trajectory(teacher: Any, noise: Tensor, points: int, solver: Step) -> Tensor:
    """States of the teacher's ODE.

    Args:
        teacher: The teacher's velocity.
        noise: The states at s = 1, (rows, ...).
        points: Number of steps.
        solver: Step of the ODE.

    Returns:
        The states at the times 0, 1/points, ..., 1, (points + 1, rows, ...).
    """
    states = [noise]
    for k in range(points, 0, -1):
        s: Any = noise.new_full((len(noise), *[1] * (noise.ndim - 1)), k / points)
        states.append(solver(teacher, states[-1], s, s - 1 / points))
    return torch.stack(states[::-1])
