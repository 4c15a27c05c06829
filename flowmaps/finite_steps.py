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

from .consistency import guarded, needs_marginal_at_the_endpoint
from .derivative import rewound, stop
from .steps import Step, euler

Nearer = Callable[[Tensor, Tensor], Tensor]
Compare = Callable[[Tensor, Tensor], Tensor]


def eulerian_step(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, ratio: float, jumps: Any = None
) -> Tensor:
    """[V(x_s, s, t)  -  sg[a v(x_s, s) + (1 - a) V(x_m, m, t)]] / sqrt(a),  a = ratio in (0, 1],  m = s + a (t - s),
    x_m = x_s + (m - s) v.

    The square is AlphaFlow's loss (arXiv 2510.20771), whose gradient is SoFlow's (arXiv 2512.15657): with the step it
    goes to MeanFlow's. a = 1 needs no second pass. jumps: another flow for the right side, such as an averaged one.
    """
    m = s + ratio * (t - s)
    v = stop(teacher.velocity)(x, s)
    with rewound(x.device):
        V = flow.average_velocity(x, s, t)
    target = ratio * v
    if ratio < 1:
        target = target + (1 - ratio) * stop(_or(jumps, flow).average_velocity)(x + (m - s) * v, m, t)
    return (V - target) / ratio**0.5


@guarded(needs_marginal_at_the_endpoint)
def lagrangian_step(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, step: float) -> Tensor:
    """V(x_s, s, t)  -  sg[((s - m) V(x_s, s, m) + (m - t) v(F(x_s, s, m), m)) / (s - t)],  m = min(t + step, s), or
    max(t - step, s) in rows that go from data to noise.

    From s = 1 this is BOOT in its convex form, without a pole at t = 1 (Gu et al. 2023, arXiv 2306.05544): of the two
    points the gradient reaches the farther one.
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
    """F(x_s, s, t)  -  sg[F(x_m, m, t)],  m = to(s, t), x_m = solver(teacher, x_s, s, m); in units of position.

    Consistency models (Song et al. 2023, arXiv 2303.01469), at t = 0 in the papers. compare: another distance than the
    difference, as `perceptual` has them.
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
    """F'(F(x_s, s, t), t, 0)  -  sg[F'(F(x_m, m, t), t, 0)]: two jumps to the same t, compared where they would end.

    F' is `outer`, whose weights are constants while gradients pass through its input. (Consistency trajectory models,
    Kim et al. 2023, arXiv 2310.02279.)
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
    """`count` equal steps of a solver in the place of one."""

    def step(flow: Any, x: Tensor, s: Any, t: Any) -> Tensor:
        for k in range(count):
            x = solver(flow, x, s + (t - s) * (k / count), s + (t - s) * ((k + 1) / count))
        return x

    return step


def _or(chosen: Any, otherwise: Any) -> Any:
    return otherwise if chosen is None else chosen
