"""Methods of maps on manifolds: the path is `path.Geodesic`, and V is a tangent vector."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..consistency import Rule
from ..derivative import Derivative, detached, jvp
from ..draws import Numbers, uniform
from ..method.method import Method
from ..method.term import Term
from ..riemannian import compositional, diffusion, eulerian, lagrangian, mean_flow, same_endpoint
from ..steps import Step, euler
from ..times import Times, uniform_diagonal, uniform_triangle
from ..times.grids import Grid, below, on, uniform_grid
from ..velocity import VelocitySource, averaged, conditional, fixed, own
from ..weight import Weight, summed
from .consistency_models import grid_of
from .row import MARGINAL, POSITION, SELF, TEACHER, landscape_row

__all__ = [
    "riemannian_flow_matching", "gfm_lsd", "gfm_esd", "gfm_psd", "riemannian_meanflow", "riemannian_consistency",
]  # fmt: skip

DIAGONAL = "E | V(x_s, s, s) - u |^2"
"""The loss of the diagonal, in words of a row."""


@landscape_row(
    rule="diffusion",
    learning=MARGINAL,
    notes="the diagonal only",
    cost=3,
    shared=3,
    paper="chen2023riemannian",
    equation=f"{DIAGONAL},  u = -log_x(x_0)/s at x = x_s",
    gradient="V",
    gradient_of=("diagonal",),
)
def riemannian_flow_matching(
    *, times: Times = uniform_diagonal(), weight: Weight = summed, velocity: VelocitySource = conditional
) -> Method:
    """Flow matching on a manifold.

        E || V(x_s, s, s) - u ||^2,  u = -log_x(x_0)/s at x = x_s

    It trains the diagonal only: sample it with `steps.euler`, not with jumps. Chen and Lipman 2023, arXiv 2302.03660.

    Args:
        times: Sampler of s; by default uniform.
        weight: Distance and weight of the residual; by default the squared length.
        velocity: Source of u; by default the velocity of the sampled pair.
    """
    return Method(Term(diffusion, velocity, times=times, weight=weight), name="riemannian_flow_matching")


def _distilled(
    rule: Rule, share: float, times: Times, at: Times, weight: Weight, method: str, **options: Any
) -> Method:
    """A rule with the flow's own velocity, beside the diffusion rule on a share of the batch."""
    diagonal = Term(diffusion, share=share, times=at, weight=weight)
    return Method(diagonal, Term(rule, share=1 - share, times=times, weight=weight, **options), name=method)


@landscape_row(
    rule="lagrangian",
    learning=SELF,
    notes="JVP through exp",
    cost=10,
    shared=4,
    paper="davis2025generalised",
    equation=f"E | dF/dt - sg[v(F(x_s, s, t), t)] |^2  +  {DIAGONAL}",
    gradient="V and dV/dt, through exp",
    gradient_of=("value", "time"),
)
def gfm_lsd(
    *,
    diagonal: float = 0.75,
    times: Times = uniform_triangle(),
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = summed,
    derivative: Derivative = jvp,
) -> Method:
    """Generalised flow maps, Lagrangian self-distillation (G-LSD).

        E || dF/dt - sg[v(F(x_s, s, t), t)] ||^2  +  E || V(x_s, s, s) - u ||^2

    Davis et al. 2025, arXiv 2510.21608.

    Args:
        diagonal: Share of the batch for the second term.
        times: Sampler of (s, t) in the first term; by default uniform on the triangle t <= s.
        diagonal_times: Sampler of s in the second term; by default uniform.
        weight: Distance and weight of both residuals; by default the squared length.
        derivative: Mode of dF/dt; by default forward mode with gradient.
    """
    rule = partial(lagrangian, derivative=derivative)
    return _distilled(rule, diagonal, times, diagonal_times, weight, "gfm_lsd", velocity=own)


@landscape_row(
    rule="eulerian",
    learning=SELF,
    notes="JVP through exp, velocity stopped",
    cost=10,
    shared=4,
    paper="davis2025generalised",
    equation=f"E | dF/ds + grad_x F . sg[v(x_s, s)] |^2  +  {DIAGONAL}",
    gradient="V, dV/ds and grad_x V, through exp",
    gradient_of=("value", "time", "space"),
)
def gfm_esd(
    *,
    diagonal: float = 0.75,
    times: Times = uniform_triangle(),
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = summed,
    derivative: Derivative = jvp,
) -> Method:
    """Generalised flow maps, Eulerian self-distillation (G-ESD).

        E || dF/ds + grad_x F . sg[v(x_s, s)] ||^2  +  E || V(x_s, s, s) - u ||^2

    Davis et al. 2025, arXiv 2510.21608.

    Args:
        diagonal: Share of the batch for the second term.
        times: Sampler of (s, t) in the first term; by default uniform on the triangle t <= s.
        diagonal_times: Sampler of s in the second term; by default uniform.
        weight: Distance and weight of both residuals; by default the squared length.
        derivative: Mode of the derivative; by default forward mode with gradient.
    """
    rule = partial(eulerian, derivative=derivative)
    return _distilled(rule, diagonal, times, diagonal_times, weight, "gfm_esd", velocity=own)


@landscape_row(
    rule="compositional",
    learning=SELF,
    notes="two jumps, no derivative",
    cost=8,
    shared=4,
    paper="davis2025generalised",
    equation=f"E | log_y(F(x_s, s, t))/(t - s) |^2,  y = sg[F(F(x_s, s, m), m, t)]  +  {DIAGONAL}",
    gradient="V, through exp",
)
def gfm_psd(
    *,
    diagonal: float = 0.5,
    times: Times = uniform_triangle(),
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = summed,
    split: Numbers = uniform,
) -> Method:
    """Generalised flow maps, progressive self-distillation (G-PSD).

        E || log_y(F(x_s, s, t))/(t - s) ||^2  +  E || V(x_s, s, s) - u ||^2,  y = sg[F(F(x_s, s, m), m, t)]

    The length is the distance of the ends of one jump and of two. Davis et al. 2025, arXiv 2510.21608.

    Args:
        diagonal: Share of the batch for the second term.
        times: Sampler of (s, t) in the first term; by default uniform on the triangle t <= s.
        diagonal_times: Sampler of s in the second term; by default uniform.
        weight: Distance and weight of both residuals; by default the squared length.
        split: Sampler of g in m = g s + (1 - g) t; by default uniform.
    """
    options = {"velocity": own, "draws": {"g": split}}
    return _distilled(compositional, diagonal, times, diagonal_times, weight, "gfm_psd", **options)


@landscape_row(
    rule="eulerian",
    learning=MARGINAL,
    notes="JVP through tangent and log, stopped",
    cost=7,
    shared=3.25,
    paper="woo2026riemannian",
    equation=f"E | V - sg[(t - s) D_s V - d(log_. F)_x [u]] |^2  +  {DIAGONAL}",
    gradient="V",
)
def riemannian_meanflow(
    *,
    diagonal: float = 0.75,
    times: Times = uniform_triangle(),
    diagonal_times: Times = uniform_diagonal(),
    weight: Weight = summed,
    derivative: Derivative = detached,
    velocity: VelocitySource = conditional,
) -> Method:
    """Riemannian MeanFlow.

        E || V - sg[(t - s) D_s V - d(log_. F)_x [u]] ||^2  +  E || V(x_s, s, s) - u ||^2

    The weight must not depend on the residual, as adaptive weights do: with the velocity of a pair they bias the mean.
    Woo et al. 2026, Riemannian MeanFlow, arXiv.

    Args:
        diagonal: Share of the batch for the second term.
        times: Sampler of (s, t) in the first term; by default uniform on the triangle t <= s.
        diagonal_times: Sampler of s in the second term; by default uniform.
        weight: Distance and weight of both residuals; by default the squared length.
        derivative: Mode of D_s V; by default forward mode without gradient.
        velocity: Source of u; by default the velocity of the sampled pair.
    """
    rule, options = partial(mean_flow, derivative=derivative), {"velocity": velocity, "name": "eulerian"}
    return _distilled(rule, diagonal, times, diagonal_times, weight, "riemannian_meanflow", **options)


@landscape_row(
    rule="eulerian",
    learning=TEACHER,
    output=POSITION,
    notes="t = 0 only, finite step, averaged target",
    cost=5,
    shared=5,
    paper="cheng2025riemannian",
    equation="E | log_y(F(x_s, s, 0)) |^2,  y = sg[F*(x_m, m, 0)],  x_m a step of the teacher's ODE from x_s",
    gradient="F(x_s, s, 0)",
    only_target=0.0,
)
def riemannian_consistency(
    teacher: Any = None,
    *,
    points: int = 50,
    grid: Grid = uniform_grid,
    ema: float = 0.95,
    solver: Step = euler,
    weight: Weight = summed,
) -> Method:
    """Consistency distillation on a manifold (RCD).

        E || log_y(F(x_s, s, 0)) ||^2,  y = sg[F*(x_m, m, 0)],  x_m a step of the teacher's ODE from x_s

    Cheng et al. 2025, arXiv 2510.00983, in discrete time.

    Args:
        teacher: A FlowMap on the same path, or any object with velocity(x, t).
        points: Size of the grid.
        grid: Function from a number of intervals to the grid; by default equal ones.
        ema: Decay of the averaged weights of F*, for each step.
        solver: Step along the teacher's velocity; by default Euler's, by exp.
        weight: Distance and weight of the residual; by default the squared distance.
    """
    times = grid_of(grid, points)
    rule = partial(same_endpoint, to=below(times), solver=solver)
    term = Term(rule, fixed(teacher), times=on(times), weight=weight, sources={"jumps": averaged(ema)}, name="eulerian")
    return Method(term, name="riemannian_consistency")
