"""Rules over an interval that stays finite: the compositional rule with one short step by a velocity.

- eulerian_step, a short step first:  V(x_s, s, t) = a v(x_s, s) + (1 - a) V(x_m, m, t),  m = s + a (t - s)
- lagrangian_step, a short step last:  V(x_s, s, t) = (1 - a) V(x_s, s, m) + a v(F(x_s, s, m), m),  m = t + a (s - t)
- same_endpoint, consistency models:  F(x_s, s, t) = F(x_m, m, t),  x_m one step of a solver from x_s

In the limit of short steps they are the Eulerian and the Lagrangian rule; at a finite step they hold up to the error of
the step, and with the conditional velocity up to a bias of first order in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .arguments import at_least
from .consistency import guarded, needs_marginal_at_the_endpoint
from .derivative import keep, rewound, stop
from .perceptual import Compare
from .steps import Step, euler
from .times.grids import below

Nearer = Callable[[Tensor, Tensor], Tensor]


def eulerian_step(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    ratio: float,
    jumps: Any = None,
    limit: Callable[[Tensor], Tensor] = keep,
) -> Tensor:
    """Eulerian rule over a finite step: a short step by the velocity, then a jump.

    Args:
        flow: The flow map.
        teacher: The velocity v of the short step.
        x: State x_s, (B, ...).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise.
        ratio: Share a of the short step in the interval, in (0, 1]. 1 needs no second pass.
        jumps: Flow map of the right side, such as an averaged one. None: `flow`.
        limit: Function that bounds the right side; by default nothing is bounded.

    Returns:
        The residual, of x's shape:

            [V(x_s, s, t)  -  sg[a v(x_s, s) + (1 - a) V(x_m, m, t)]] / sqrt(a),

        m = s + a (t - s),  x_m = x_s + (m - s) v(x_s, s).

    The square is AlphaFlow's loss (arXiv 2510.20771), whose gradient is SoFlow's (arXiv 2512.15657). For short steps
    the gradient tends to MeanFlow's.
    """
    m = s + ratio * (t - s)
    v = stop(teacher.velocity)(x, s)
    with rewound(x.device):
        V = flow.average_velocity(x, s, t)
    target = ratio * v
    if ratio < 1:
        target = target + (1 - ratio) * stop(_or(jumps, flow).average_velocity)(x + (m - s) * v, m, t)
    return (V - limit(target)) / ratio**0.5


@guarded(needs_marginal_at_the_endpoint)
def lagrangian_step(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, step: float) -> Tensor:
    """Lagrangian rule over a finite step: a jump, then a short step by the velocity.

    Args:
        flow: The flow map.
        teacher: The velocity v of the short step, marginal, for it is evaluated at the end of a jump.
        x: State x_s, (B, ...).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise.
        step: Length of the short step in time.

    Returns:
        The residual, of x's shape:

            V(x_s, s, t)  -  sg[((s - m) V(x_s, s, m) + (m - t) v(F(x_s, s, m), m)) / (s - t)],

        m = min(t + step, s), or max(t - step, s) in rows that go from data to noise.

    Raises:
        ValueError: The teacher is the conditional velocity.

    From s = 1 this is BOOT in its convex form, without a pole at t = 1 (Gu et al. 2023, arXiv 2306.05544). The gradient
    reaches the farther one of the two endpoints.
    """
    m = torch.where(s >= t, torch.minimum(t + step, s), torch.maximum(t - step, s))
    with rewound(x.device):
        V = flow.average_velocity(x, s, t)
    before = stop(flow.average_velocity)(x, s, m)
    v = stop(teacher.velocity)(x + (m - s) * before, m)
    share = torch.where(s == t, torch.ones_like(s), (m - t) / torch.where(s == t, torch.ones_like(s), s - t))
    return V - ((1 - share) * before + share * v)


def same_endpoint(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    to: Nearer,
    jumps: Any = None,
    solver: Step = euler,
    compare: Compare = torch.sub,
) -> Tensor:
    """Two jumps from one trajectory end at the same point: the rule of consistency models.

    Args:
        flow: The flow map.
        teacher: The velocity that the solver follows.
        x: State x_s, (B, ...).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise; 0 in the papers.
        to: Function (s, t) -> m, the intermediate time.
        jumps: Flow map of the second jump, such as an averaged one. None: `flow`.
        solver: Step from x_s to x_m.
        compare: Function of the two endpoints; the difference, or a distance such as `perceptual.lpips()`.

    Returns:
        The residual F(x_s, s, t)  -  sg[F(x_m, m, t)],  x_m = solver(teacher, x_s, s, m), in units of position.

    Song et al. 2023, arXiv 2303.01469.
    """
    m = to(s, t)
    x_m = stop(solver)(teacher, x, s, m)
    with rewound(x.device):
        here = flow(x, s, t)
    there = stop(_or(jumps, flow))(x_m, m, t)
    return compare(here, there)


def same_endpoint_seen_at_data(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    to: Nearer,
    outer: Any,
    solver: Step = euler,
    compare: Compare = torch.sub,
) -> Tensor:
    """Two jumps from one trajectory to the same t, compared after a further jump to the data.

    Args:
        flow: The flow map.
        teacher: The velocity that the solver follows.
        x: State x_s, (B, ...).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise.
        to: Function (s, t) -> m, the intermediate time.
        outer: Flow map F' of the jump to the data. Its weights are constants; gradients pass through its input.
        solver: Step from x_s to x_m.
        compare: Function of the two endpoints; the difference, or a distance such as `perceptual.lpips()`.

    Returns:
        The residual F'(F(x_s, s, t), t, 0)  -  sg[F'(F(x_m, m, t), t, 0)], in units of position.

    Consistency trajectory models, Kim et al. 2023, arXiv 2310.02279.
    """
    m, data = to(s, t), torch.zeros_like(t)
    x_m = stop(solver)(teacher, x, s, m)
    with rewound(x.device):
        here = flow(x, s, t)
    there = stop(flow)(x_m, m, t)
    with rewound(x.device):
        end = outer(here, t, data)
    return compare(end, stop(outer)(there, t, data))


def several(solver: Step, count: int) -> Step:
    """Step that divides its interval into `count` equal steps of a solver.

    Args:
        solver: The step to repeat.
        count: Number of repetitions.

    Returns:
        The step.
    """
    at_least(1, count=count)

    def step(flow: Any, x: Tensor, s: Any, t: Any) -> Tensor:
        for k in range(count):
            x = solver(flow, x, s + (t - s) * (k / count), s + (t - s) * ((k + 1) / count))
        return x

    return step


def along_grid(solver: Step, grid: Tensor, most: int) -> Step:
    """Step that goes down an ascending grid from point to point, by a solver.

    Args:
        solver: The step from each point to the next one below.
        grid: Ascending times.
        most: Largest number of steps that any row takes. All rows cost this number of steps.

    Returns:
        The step.
    """
    at_least(1, most=most)
    nearer = below(grid)

    def step(flow: Any, x: Tensor, s: Any, t: Any) -> Tensor:
        for _ in range(most):
            m: Any = nearer(s, t)
            x, s = solver(flow, x, s, m), m
        return x

    return step


def _or(chosen: Any, otherwise: Any) -> Any:
    return otherwise if chosen is None else chosen
