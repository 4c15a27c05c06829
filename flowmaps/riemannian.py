"""The consistency rules on manifolds, where F(x, s, t) = exp_x((t - s) V(x, s, t)).

- diffusion:      V(x, s, s) = v(x, s)
- lagrangian, the target moves:    dF/dt = v(F, t)
- eulerian, the source moves:      dF/ds + grad_x F . v = 0
- compositional:  F(x, s, t) = F(F(x, s, m), m, t),  m = g s + (1 - g) t
- mean_flow, the Eulerian rule seen from x:  V = (t - s) D_s V - d(log_. F)_x [v]
- same_endpoint, consistency models:  F(x_s, s, t) = F(x_m, m, t),  x_m one step of a solver from x_s

They are rules as those of `flowmaps.consistency`, and hold on flat paths too, where they say the same. A residual is a
tangent vector, in coordinates whose sum of squares is its squared length. The derivative D_s runs along (v, 1, 0).

Published slips that these forms avoid: a velocity at x is no velocity at F, so the Eulerian rule pushes it forward by
the derivative of F and does not project it; and the flat rule V = v + (t - s) D_s V is wrong on a curved manifold.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import finite_steps
from .consistency import geometric, guarded, needs_jumps, needs_marginal_at_the_endpoint, on_the_diagonal
from .derivative import Derivative, detached, jvp, stop
from .finite_steps import Nearer
from .steps import Step, euler
from .velocity import is_conditional


@geometric
@on_the_diagonal
def diffusion(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Diffusion rule at the source time:  V(x, s, s) = v(x, s).

    Args:
        flow: The flow map.
        teacher: The velocity v. With the conditional velocity this is Riemannian flow matching (arXiv 2302.03660).
        x: State x_s, (B, size).
        s: Source time, (B, 1).
        t: Not used.

    Returns:
        The residual, of x's shape.
    """
    return flow.path.scale(x, flow.velocity(x, s) - stop(teacher.velocity)(x, s))


@geometric
@guarded(needs_marginal_at_the_endpoint)
def lagrangian(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, derivative: Derivative = jvp) -> Tensor:
    """Lagrangian rule, the target moves:  dF(x, s, t)/dt  =  sg[v(F, t)].

    Args:
        flow: The flow map.
        teacher: The velocity v, marginal, for it is evaluated at the end of a jump.
        x: State x_s, (B, size).
        s: Source time, (B, 1).
        t: Target time, likewise.
        derivative: Mode of dF/dt, through exp.

    Returns:
        The residual at F, of x's shape.

    Raises:
        ValueError: The teacher is the conditional velocity.
    """
    y, dy = derivative(flow, (x, s, t), (0, 0, 1))
    return flow.path.scale(y, dy - stop(teacher.velocity)(y, t))


def _needs_marginal(velocity: Any, options: Any) -> str | None:
    if is_conditional(velocity):
        return (
            "the Eulerian rule keeps the gradient of a derivative along the velocity, so with the conditional velocity "
            "its loss is biased; use own, averaged(...) or fixed(teacher), or the rule `riemannian.mean_flow`, which "
            "stops the derivative"
        )
    return None


@geometric
@guarded(_needs_marginal)
def eulerian(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, derivative: Derivative = jvp) -> Tensor:
    """Eulerian rule, the source moves:  dF/ds + grad_x F . sg[v(x, s)]  =  0.

    Args:
        flow: The flow map.
        teacher: The velocity v, marginal.
        x: State x_s, (B, size).
        s: Source time, (B, 1).
        t: Target time, likewise.
        derivative: Mode of the derivative, through exp.

    Returns:
        Minus the left side, a residual at F, of x's shape; in flat space it is V - v - (t - s) D_s V.

    Raises:
        ValueError: The teacher is the conditional velocity.
    """
    v = stop(teacher.velocity)(x, s)
    y, dy = derivative(flow, (x, s, t), (v, 1, 0))
    return flow.path.scale(y, -dy)


@geometric
@guarded(needs_jumps)
def compositional(
    flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, g: Tensor | float = 0.5, least: float = 1e-3
) -> Tensor:
    """Compositional rule, one jump is two jumps:  F(x, s, t)  =  sg[F(F(x, s, m), m, t)],  m = g s + (1 - g) t.

    Args:
        flow: The flow map, on the left.
        teacher: The flow map of the two jumps on the right.
        x: State x_s, (B, size).
        s: Source time, (B, 1).
        t: Target time, likewise.
        g: Share of the second jump in the interval.
        least: Least interval |t - s| of the division, against rounding.

    Returns:
        The residual log_y(F(x, s, t))/(t - s) at y, the right side, of x's shape. Its length is the distance of the two
        ends over the interval. It is seen from y and not from x, because ends are close to each other, but may be
        farther from x than the cut locus.

    Raises:
        ValueError: The teacher is the conditional velocity.
    """
    m = g * s + (1 - g) * t
    y = stop(teacher)(stop(teacher)(x, s, m), m, t)
    gap = torch.where(t < s, -1.0, 1.0) * (t - s).abs().clamp(min=least)
    return flow.path.scale(y, flow.path.between(y, flow(x, s, t)) / gap)


@geometric
def mean_flow(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    derivative: Derivative = detached,
    share: float = 0.75,
) -> Tensor:
    """Riemannian MeanFlow:  V  =  sg[(t - s) D_s V - d(log_. F)_x [v]],  with all vectors projected at x.

    Args:
        flow: The flow map.
        teacher: The velocity v; the conditional one is right, for the right side is linear in it and is stopped.
        x: State x_s, (B, size).
        s: Source time, (B, 1).
        t: Target time, likewise.
        derivative: Mode of the derivatives.
        share: Longest jump, as a share of the distance of the cut locus, where the derivative of log has a pole. Rows
            with a longer one have residual 0. On a torus the derivative is constant, and all rows count.

    Returns:
        The residual at x, of x's shape. In flat space d(log_. F)_x [v] = -v, so V = v + (t - s) D_s V.
    """
    v, path = stop(teacher.velocity)(x, s), flow.path
    V, dV = derivative(flow.average_velocity, (x, s, t), (v, 1, 0))
    jump = stop((t - s) * V)
    end = path.move(x, jump)
    _, dlog = detached(lambda z, *_: path.between(z, end), (x, s, t), (v, 0, 0))
    residual = path.scale(x, path.tangent(x, V - stop((t - s) * dV - dlog)))
    return torch.where(path.to_pole(x, jump)[..., None] <= share, residual, torch.zeros_like(residual))


@geometric
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
) -> Tensor:
    """Two jumps from one trajectory end at the same point: the rule of consistency models.

    Args:
        flow: The flow map.
        teacher: The velocity that the solver follows.
        x: State x_s, (B, size).
        s: Source time, (B, 1).
        t: Target time, likewise; 0 in the paper.
        to: Function (s, t) -> m, the intermediate time.
        jumps: Flow map of the second jump, such as an averaged one. None: `flow`.
        solver: Step from x_s to x_m.

    Returns:
        The residual log_y(F(x_s, s, t)) at y = sg[F(x_m, m, t)],  x_m = solver(teacher, x_s, s, m), in units of
        position (arXiv 2510.00983).
    """
    path = flow.path

    def compare(here: Tensor, y: Tensor) -> Tensor:
        return path.scale(y, path.between(y, here))

    return finite_steps.same_endpoint(flow, teacher, x, s, t, to=to, jumps=jumps, solver=solver, compare=compare)
