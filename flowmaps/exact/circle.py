"""Mixtures of wrapped normal laws on the circle: velocity, density and, for symmetric laws, the flow map."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import at_least
from ..manifolds import Torus
from ..path import Time
from ..path.time_shapes import at_time
from .base import Numbers, beside, check_state, floating, wide
from .curved import LOG_2_PI, OnManifold, gauss_legendre, increasing_root, log_mean, mixture_weights

NARROWEST = 0.01


class Circle(OnManifold):
    """A mixture of wrapped normal laws on the circle `fm.manifolds.Torus(1)`.

    On the geodesic path x_t = x_0 + t u with u uniform in (-pi, pi), so that p_t is p_0 smoothed by a box:

        p_t(x) = E p_0(x - t u),      v(x, t) = E[u | x_t = x],

    by quadrature over u, whose terms are positive. The Fourier coefficients of p_t are the ones of p_0 times
    sin(m pi t)/(m pi t). If p_0(-x) = p_0(x), the flow keeps 0 fixed, and F = C_t^-1(C_s) with the distribution
    function C_t(x), the mass between 0 and x.

    Args:
        weights: Weights of the components, (K,), positive with sum 1.
        means: Angles in radians, (K,).
        stds: Standard deviations in radians before wrapping, (K,) or one number, at least 0.01.

    Attributes:
        symmetric: Whether p_0(-x) = p_0(x), so that `flow_map` exists.

    Raises:
        TypeError: An argument holds no numbers.
        ValueError: Shapes differ, a weight is not positive, their sum is not 1, or a std is below 0.01.
    """

    def __init__(self, weights: Numbers, means: Numbers, stds: Numbers) -> None:
        self.manifold = Torus(1)
        self.shape = torch.Size([1])
        self.means = self.manifold.point(floating(means, "means").double())
        count = len(self.means) if self.means.ndim == 1 else 0
        self.weights = mixture_weights(weights, count)
        self.stds = floating(stds, "stds").double()
        if self.stds.shape not in ((), (count,)) or not bool((self.stds >= NARROWEST).all()):
            raise ValueError(f"stds must be {NARROWEST} or more, one number or {count} of them, got {stds}")
        self.stds = self.stds.expand(count)
        narrow, broad = float(self.stds.min()), float(self.stds.max())
        self._wraps = 1 + math.ceil(8 * broad / (2 * math.pi))
        self._nodes, self._log_quadrature = _box(64 + math.ceil(16 / narrow))
        m = torch.arange(1, 2 + math.ceil(9 / narrow), dtype=torch.float64)  # e^{-std^2 m^2/2} is below 1e-17 after
        sizes = self.weights[:, None] * torch.exp(-((self.stds[:, None] * m) ** 2) / 2)
        self._m = m
        self._cosines, sines = ((sizes * f(self.means[:, None] * m)).sum(0) for f in (torch.cos, torch.sin))
        self.symmetric = bool(sines.abs().max() < 1e-12)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n independent angles, (n, 1), in float64; see `Exact.sample`."""
        at_least(0, n=n)
        which = torch.multinomial(self.weights, max(n, 1), replacement=True, generator=generator)[:n]
        z = torch.randn(n, generator=generator, dtype=torch.float64)
        return self.manifold.point(self.means[which] + self.stds[which] * z)[:, None]

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Compute log p_t(x) per radian, (B,); see `Exact.log_prob`."""
        return self._log_joint(x, at_time(t, x)).flatten(1).logsumexp(1).to(x.dtype)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Compute v(x, t) = E[u | x_t = x], radians per unit of time; see `Exact.velocity`."""
        joint = self._log_joint(x, at_time(t, x))
        return log_mean(joint, beside(self._nodes, x))[:, None].to(x.dtype)

    def flow_map(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Compute F(x, s, t) = C_t^-1(C_s(x)); see `Exact.flow_map`.

        Args:
            x: Angles (B, 1) at time s.
            s: Source time.
            t: Target time.

        Returns:
            Angles (B, 1) at time t.

        Raises:
            ValueError: The law is not symmetric about 0: no point is known to stay fixed, so that its distribution
                functions leave a rotation open.
        """
        check_state(self, x)
        if not self.symmetric:
            raise ValueError(
                "distribution functions give the flow map of a law that is symmetric about 0, whose flow keeps 0 "
                "fixed; for this one they leave a rotation open: use `by_ode`"
            )
        return self.transported(x, s, t, self._move)

    def _move(self, x: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        found, density = increasing_root(
            lambda z: self._mass(z, t), lambda z: self._density(z, t), self._mass(x[:, 0], s), -math.pi, math.pi
        )
        return found[:, None], density

    def _mass(self, x: Tensor, t: Tensor) -> Tensor:
        """Mass between 0 and x at time t of a symmetric law, (B,), by the Fourier series."""
        m = self._m.to(x.device)
        a = self._cosines.to(x.device) * torch.sinc(m * t)
        return x / (2 * math.pi) + (a / (math.pi * m) * torch.sin(m * x[:, None])).sum(1)

    def _density(self, x: Tensor, t: Tensor) -> Tensor:
        m = self._m.to(x.device)
        a = self._cosines.to(x.device) * torch.sinc(m * t)
        return 1 / (2 * math.pi) + (a / math.pi * torch.cos(m * x[:, None])).sum(1)

    def _log_joint(self, x: Tensor, t: Tensor) -> Tensor:
        """Logarithms of the terms of p_t(x), (B, K, wraps, nodes)."""
        check_state(self, x)
        means, stds, weights, nodes, quadrature = (
            beside(one, x) for one in (self.means, self.stds, self.weights, self._nodes, self._log_quadrature)
        )
        turns = 2 * math.pi * torch.arange(-self._wraps, self._wraps + 1, device=x.device)
        start = self.manifold.point(wide(x)[:, :, None] - t[:, :, None] * nodes - means[:, None])  # x_0 less the mean
        gap = (start[:, :, None] + turns[:, None]) / stds[:, None, None]
        return (weights / stds).log()[:, None, None] - gap**2 / 2 - LOG_2_PI / 2 + quadrature

    def __repr__(self) -> str:
        return f"Circle(components={len(self.weights)})"


def _box(n: int) -> tuple[Tensor, Tensor]:
    """Nodes u in (-pi, pi) and logarithms of the weights of the uniform law there."""
    nodes, weights = gauss_legendre(n)
    return math.pi * nodes, (weights / 2).log()
