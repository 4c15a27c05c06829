"""The log-density by the ODE:  log p_0(x_0) = log N(x_1) + int_0^1 div v dt  along the path of x_0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..arguments import refuse_factory, shown, within
from ..velocity.divergence import Divergence, usual
from .result import LogProb, expect_velocity, log_noise, path_of
from .solvers import Grid, Solver, grid, keeps_probes


@dataclass(frozen=True)
class Ode:
    """Log-densities by the probability-flow ODE; see `ode`."""

    divergence: Divergence | None = None
    solver: Solver = grid()
    start: float = 0.0

    def __post_init__(self) -> None:
        if self.divergence is not None and (isinstance(self.divergence, type) or not hasattr(self.divergence, "draw")):
            raise TypeError(
                f"a divergence is exact(), hutchinson(probes) or differences(probes), got {shown(self.divergence)}"
            )
        for kind in ("Grid", "Adaptive"):
            refuse_factory("a solver", self.solver, kind)
        if not callable(self.solver) or isinstance(self.solver, type):
            raise TypeError(f"a solver is grid(steps) or adaptive(method), got {shown(self.solver)}")
        within(0, 1, start=self.start)
        if self.start == 1:
            raise ValueError("start must be below 1, the time of the noise")

    def __call__(self, flow: Any, x0: Tensor) -> LogProb:
        """Log-densities of rows.

        Args:
            flow: Any object with velocity(x, t), its condition bound.
            x0: Rows, (B, ...).

        Returns:
            The log-densities. They have a standard error if the divergence is estimated with several probes.

        Raises:
            TypeError: The flow has no velocity.
            ValueError: It is a partial map, its velocity was not trained, or the metric of its manifold is not the
                one of the ambient coordinates.
        """
        expect_velocity(flow, "the log-density by the ODE follows the velocity")
        path = path_of(flow)
        if not path.isometric:
            raise ValueError(
                f"on {path} the metric is not the one of the coordinates, so the divergence is no trace: take "
                "fm.manifolds.Hyperbolic(n), or another manifold of fm.manifolds"
            )
        values = x0[0].numel()
        trace = usual(values) if self.divergence is None else self.divergence
        kept = trace.draw(x0)
        fresh = trace.fresh and not keeps_probes(self.solver)
        evaluations = 0

        def rate(y: Tensor, t: float) -> Tensor:
            nonlocal evaluations
            evaluations += 1
            # the network may want its own half precision; solvers leave a manifold a little
            x = path.point(y[:, :values].reshape(x0.shape).to(x0.dtype))
            probes = trace.draw(x0) if fresh else kept
            v, divergence = trace(lambda z: path.tangent(x, flow.velocity(path.point(z), t)), x, probes)
            return torch.cat([v.flatten(1).to(y), divergence.to(y)], 1)

        estimates = trace.estimates
        y = torch.cat([x0.flatten(1), x0.new_zeros(len(x0), estimates)], 1)
        y = self.solver(rate, y.to(torch.promote_types(x0.dtype, torch.float32)), self.start, 1.0)
        noise, change = path.point(y[:, :values].reshape(x0.shape)), y[:, values:]
        error = change.std(1) / estimates**0.5 if estimates > 1 else None
        return LogProb(log_noise(flow, noise) + change.mean(1), noise, error, evaluations * trace.passes(values))


def ode(
    divergence: Divergence | None = None, solver: Solver | None = None, *, steps: int = 50, start: float = 0.0
) -> Ode:
    """Estimator: the change of variables of the probability-flow ODE.

        log p_0(x_0) = log N(x_1; 0, sigma(1)^2 I) + int_0^1 tr(dv/dx)(x_t, t) dt,   x_t from x_0

    On a manifold the density is one with respect to its volume, the noise has the manifold's prior, and the divergence
    is tr(P dv/dx), with P the projection to the tangent space at x_t. The trace of dv/dx alone would count the way in
    which v is continued off the manifold.

    Args:
        divergence: `exact()`, `hutchinson(probes)` or `differences(probes)`. None: exact for at most 64 values in a
            row, else Hutchinson's estimate with four probes.
        solver: `grid(steps, rule)`, or `adaptive(method, rtol, atol)` of torchdiffeq. None: `grid(steps)`.
        steps: Number of equal steps of the classical Runge-Kutta rule, four evaluations each.
        start: Time at which the path begins. Data on a lower-dimensional set have no density, so images begin at 1e-5
            to 1e-3, or are dequantised.

    Returns:
        The estimator, for `log_prob(flow, x0, by=...)`. Chen et al. 2018, arXiv 1806.07366; Grathwohl et al. 2019,
        arXiv 1810.01367; Song et al. 2021, arXiv 2011.13456. On manifolds: Mathieu and Nickel 2020, arXiv 2006.10605.

    Raises:
        TypeError: The divergence or the solver is something else.
        ValueError: The number of steps or the start is out of range.
    """
    return Ode(divergence, Grid(steps) if solver is None else solver, start)
