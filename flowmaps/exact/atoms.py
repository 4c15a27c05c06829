"""The law of finitely many points of the globe, such as a data set: posterior, velocity and density."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..arguments import at_least
from ..manifolds import Sphere
from ..manifolds.base import dot, sinc
from ..path import Time
from ..path.time_shapes import at_time
from .base import Numbers, beside, check_state, floating, wide
from .curved import OnManifold, mixture_weights

EARLIEST = 1e-3
"""Time from which the ODE is solved; below it the nearest point is the posterior, and the jump follows a geodesic."""
VALUES = 2**22
"""Largest number of pairs of a row and a point that are in memory at once."""


class Atoms(OnManifold):
    """A law of N points of `fm.manifolds.Sphere(2)`: the oracle of a finite data set, which memorises it.

    The angle phi between x_0 and x_t is t u, where u has density sin(u)/2 on (0, pi). Therefore

        p(x_t | x_0) = sin(phi/t) / (4 pi t sin(phi)) for phi < pi t, else 0,
        v(x, t) = sum_i p(x_i | x_t = x) (-log_x(x_i)/t),

    and p_t is the mean of the first line over the points. Where no point is nearer than pi t there is no density; the
    velocity there follows the nearest point. At t = 0 the law has no density with respect to area.

    Args:
        points: Points (N, 3), of length 1 within 1e-3.
        weights: Positive weights (N,) with sum 1. None: equal ones.

    Raises:
        TypeError: The points are no numbers.
        ValueError: They have another shape or lie off the sphere, or the weights do not fit.
    """

    def __init__(self, points: Numbers, weights: Numbers | None = None) -> None:
        self.manifold = Sphere(2)
        self.shape = torch.Size([3])
        found = floating(points, "points").double()
        if found.ndim != 2 or found.shape[1] != 3 or not len(found):
            raise ValueError(f"points of the sphere are (N, 3), got {tuple(found.shape)}")
        off = self.manifold.off(found)
        if not bool((off < 1e-3).all()):
            raise ValueError(
                f"points of the sphere have length 1, but {int((~(off < 1e-3)).sum())} of {len(found)} are more than "
                "0.001 off it"
            )
        self.points = self.manifold.point(found)
        count = len(found)
        self.weights = mixture_weights(torch.full((count,), 1 / count) if weights is None else weights, count)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n of the points with replacement, (n, 3), in float64; see `Exact.sample`."""
        at_least(0, n=n)
        return self.points[torch.multinomial(self.weights, max(n, 1), replacement=True, generator=generator)[:n]]

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Compute log p_t(x) with respect to area, (B,).

        Args:
            x: Points (B, 3).
            t: Time above 0.

        Returns:
            Nats, (B,); -inf where no point of the law is nearer than pi t.

        Raises:
            ValueError: A time is 0.
        """
        if bool((at_time(t, x) == 0).any()):
            raise ValueError("at t = 0 the law of finitely many points has no density; take a time above 0")
        return self._by_parts(lambda y, t: self._log_joint(y, t)[0].logsumexp(1), x, t)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Compute v(x, t) = sum_i p(x_i | x) (-log_x(x_i)/t). Times below 1e-6 count as 1e-6; see `Exact.velocity`."""
        return self._by_parts(self._velocity, x, t)

    def posterior(self, x: Tensor, t: Time) -> Tensor:
        """Compute the posterior weights p(x_0 = x_i | x_t = x).

        Args:
            x: Points (B, 3) at time t.
            t: Time.

        Returns:
            Weights (B, N), with sum 1 in each row; one-hot at the nearest point if the density is 0.
        """
        return self._by_parts(self._posterior, x, t)

    def flow_map(self, x: Tensor, s: Time, t: Time, *, tolerance: float = 1e-4) -> Tensor:
        """Compute F(x, s, t) by `solve`, in float64, and along the geodesic to the nearest point below t = 0.001.

        Args:
            x: Points (B, 3) at time s. A source time below 0.001 counts as 0.001.
            s: Source time.
            t: Target time.
            tolerance: Absolute error, in radians.

        Returns:
            Points (B, 3) at time t, in x's dtype.
        """
        y = self.manifold.point(x.double())
        s, t = at_time(s, y), at_time(t, y)
        early = t.clamp(min=EARLIEST)
        y = self.by_ode(y, s.clamp(min=EARLIEST), early, tolerance=tolerance)
        nearest = self.points.to(y.device)[self.posterior(y, early).argmax(1)]
        return self.manifold.exp(y, (1 - t / early) * self.manifold.log(y, nearest)).to(x.dtype)

    def _velocity(self, x: Tensor, t: Tensor) -> Tensor:
        _, logs = self._log_joint(x, t)
        return -(self._posterior(x, t)[:, :, None] * logs).sum(1) / t

    def _posterior(self, x: Tensor, t: Tensor) -> Tensor:
        joint, logs = self._log_joint(x, t)
        nearest = torch.nn.functional.one_hot(dot(logs, logs)[:, :, 0].detach().argmin(1), len(self.points))
        none = (joint == -math.inf).all(1, keepdim=True)
        return torch.where(none, nearest.to(joint), torch.where(none, torch.zeros_like(joint), joint).softmax(1))

    def _log_joint(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of weight_i p(x | x_i), (B, N), and the vectors log_x(x_i), (B, N, 3)."""
        logs = self.manifold.log(x[:, None], beside(self.points, x)[None])
        q = dot(logs, logs)[:, :, 0]
        inside = q < (math.pi * t) ** 2
        ratio = sinc(torch.where(inside, q / t**2, torch.zeros_like(q))) / sinc(q)
        density = ratio.clamp(min=torch.finfo(q.dtype).tiny).log() - torch.log(4 * math.pi * t**2)
        return torch.where(inside, density + beside(self.weights, x).log(), -math.inf), logs

    def _by_parts(self, function: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: Time) -> Tensor:
        """Apply a function of points and times (B, 1) to some rows after the others, so that memory is bounded."""
        check_state(self, x)
        t = at_time(t, x).clamp(min=1e-6)
        rows = max(1, VALUES // len(self.points))
        parts = [function(y, u) for y, u in zip(wide(x).split(rows), t.split(rows), strict=True)]
        return torch.cat(parts).to(x.dtype)

    def __repr__(self) -> str:
        return f"Atoms({len(self.points)} points)"
