"""Exact laws on manifolds: their interface, quadrature nodes and the transport by distribution functions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NoReturn

import torch
from torch import Tensor

from ..manifolds import Manifold
from ..path import Geodesic, Path, Time
from ..path.time_shapes import at_time
from .base import Exact, Numbers, floating
from .solve import solve

RARE = 1e-9
"""Density below which a distribution function, whose digits end at 1e-16, places no point within 1e-6."""
BISECTIONS = 60


class OnManifold(Exact):
    """A law on a manifold, on its path along geodesics. Points of a manifold have no mean, so it has no denoiser.

    Attributes:
        manifold: The manifold.
    """

    manifold: Manifold

    @property
    def path(self) -> Path:
        """The path along geodesics."""
        return Geodesic(self.manifold)

    @path.setter
    def path(self, path: Path) -> None:
        if path != self.path:
            raise ValueError(f"{self} is exact on the path {self.path} alone, got {path}")

    def denoise(self, x: Tensor, t: Time) -> NoReturn:
        """Refuse: points of a manifold have no mean.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"{type(self).__name__} has no denoiser: the mean of points of {self.manifold} is none of its points; "
            "`velocity`, `flow_map`, `score` and `log_prob` exist"
        )

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Compute the gradient of log p_t on the manifold, a tangent vector, by automatic differentiation.

        Args:
            x: Points (B, *shape) at time t.
            t: Time.

        Returns:
            (B, *shape).
        """
        with torch.enable_grad():
            y = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.log_prob(y, t).sum(), y)
        return self.manifold.tangent(x, slope)

    def by_ode(self, x: Tensor, s: Time, t: Time, *, tolerance: float = 1e-8) -> Tensor:
        """Compute F(x, s, t) by `solve` in ambient coordinates, for laws and places without a closed form.

        Args:
            x: Points (B, *shape) at time s.
            s: Source time.
            t: Target time.
            tolerance: Absolute error.

        Returns:
            Points (B, *shape) at time t, in x's dtype.
        """
        point = self.manifold.point
        y = solve(lambda y, t: self.velocity(point(y), t), x.double(), s, t, tolerance=tolerance)
        return point(y).to(x.dtype)

    def transported(self, x: Tensor, s: Time, t: Time, move: Callable[..., tuple[Tensor, Tensor]]) -> Tensor:
        """Compute F(x, s, t) by distribution functions, and by the ODE where the density at the end is below 1e-9.

        Args:
            x: Points (B, *shape) at time s.
            s: Source time.
            t: Target time.
            move: Function (x, s, t), with times (B, 1), to the points and the densities (B,) there.

        Returns:
            Points (B, *shape) at time t, in x's dtype.
        """
        y = self.manifold.point(x.double())
        s, t = at_time(s, y), at_time(t, y)
        found, density = move(y, s, t)
        rare = (density < RARE).reshape(-1, 1)
        if bool(rare.any()):
            still = torch.where(rare, t, s)
            found = torch.where(rare, self.by_ode(y, s, still), found)
        return found.to(x.dtype)


def mixture_weights(weights: Numbers, count: int) -> Tensor:
    """Weights of components, checked, with sum 1.

    Args:
        weights: Numbers (K,).
        count: Number of components.

    Returns:
        The weights, in float64.

    Raises:
        ValueError: Their number differs, one is not positive, or their sum is not 1.
    """
    found = floating(weights, "weights").double()
    if found.shape != (count,) or bool((found <= 0).any()) or abs(float(found.sum()) - 1) > 1e-5:
        raise ValueError(f"{count} components need {count} positive weights with sum 1, got {weights}")
    return found / found.sum()


@functools.cache
def gauss_legendre(n: int) -> tuple[Tensor, Tensor]:
    """Nodes in (-1, 1) and weights of the quadrature with n nodes, in float64 (Golub and Welsch 1969)."""
    k = torch.arange(1, n, dtype=torch.float64)
    off = k / (4 * k**2 - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return nodes, 2 * vectors[0] ** 2


def increasing_root(
    function: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor], value: Tensor, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """Solve function(z) = value in [low, high] by bisection; a Newton step at the end carries the derivatives.

    Args:
        function: An increasing function of z (B,).
        slope: Its derivative.
        value: Values (B,).
        low: Lower end.
        high: Upper end.

    Returns:
        The roots z and the slopes there, (B,). First derivatives of z are right; the slopes are constants.
    """
    wanted = value.detach()
    with torch.no_grad():
        a, b = torch.full_like(wanted, low), torch.full_like(wanted, high)
        for _ in range(BISECTIONS):
            middle = (a + b) / 2
            below = function(middle).detach() < wanted
            a, b = torch.where(below, middle, a), torch.where(below, b, middle)
        z = (a + b) / 2
        rate = slope(z).detach()
    step = (value - function(z)) / rate.clamp(min=RARE)
    return (z + step).clamp(low, high), rate


def log_mean(log_terms: Tensor, values: Tensor) -> Tensor:
    """Mean of values (B, ...) under weights with logarithms of the same shape, (B,)."""
    weights = log_terms.flatten(1).softmax(1)
    return (weights * values.expand(log_terms.shape).flatten(1)).sum(1)


LOG_2_PI = math.log(2 * math.pi)
