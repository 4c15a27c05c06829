"""Hyperbolic space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import at_least
from .base import Manifold, dot


@dataclass(frozen=True)
class Hyperbolic(Manifold):
    """Hyperbolic space of dimension n and curvature -1, in the Lorentz model.

    Points are (x_0, ..., x_n) with <x, x> = -x_0^2 + x_1^2 + ... + x_n^2 = -1 and x_0 > 0. The prior is the wrapped
    normal law exp_o(N(0, I)) at the origin o = (1, 0, ..., 0) (Nagano et al. 2019, arXiv 1902.02992).

        exp_x(u) = cosh|u| x + sinh|u| u/|u|,      |u|^2 = <u, u>

    The last n coordinates fix a point, and x_0 is computed from them. `exp` and `log` move x to the origin by a
    boost, where both are radial. Rounding grows with the distance r to the origin, by about e^r: in float32 points at
    r = 6 are exact to 1e-4, and points at r = 10 to 3e-3.

    Args:
        n: Dimension.

    Raises:
        ValueError: The dimension is below 1.
    """

    n: int = 2

    def __post_init__(self) -> None:
        at_least(1, n=self.n)

    @property
    def size(self) -> int:
        """Number of coordinates, n + 1."""
        return self.n + 1

    @property
    def dim(self) -> int:
        """Dimension n."""
        return self.n

    def exp(self, x: Tensor, u: Tensor) -> Tensor:
        """End of the geodesic from x along u."""
        x_, w = x[..., 1:], _at_origin(x, u)
        q = dot(w, w)
        z = _sinhc(q) * w
        return _lifted(z + (dot(x_, z) / (1 + _height(x_)) + _cosh(q)) * x_)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Tangent vector of the geodesic to y."""
        x_, gap = x[..., 1:], (y - x)[..., 1:]
        z = self._boosted(x_, y[..., 1:], gap)
        w = _arsinhc(dot(z, z)) * z
        along = dot(x_, w)
        return torch.cat([along, w + along / (1 + _height(x_)) * x_], -1)

    def _boosted(self, x: Tensor, y: Tensor, gap: Tensor) -> Tensor:
        """Last coordinates of y after the boost of x to the origin, y + (<x, y>/(1 + x_0) - y_0) x.

        Their length is sinh(distance). Far from the origin the part along x is a quotient without cancellation, and
        near it, where x has no direction, the same vector is gap + k x.
        """
        x0, y0, q = _height(x), _height(y), dot(x, x)
        rise = dot(gap, x + y) / (x0 + y0)  # y_0 - x_0
        k = ((rise - 2) * dot(x, gap) - (1 + x0) * dot(gap, gap)) / ((1 + x0) * (x0 + y0))
        near = q < 0.25
        r = torch.where(near, torch.ones_like(q), q).sqrt()
        axis = x / r
        forward, along = dot(gap, axis), dot(y, axis)
        across = gap - forward * axis
        ahead = along > 0
        quotient = (forward * (along + r) - r**2 * dot(across, across)) / torch.where(ahead, x0 * along + r * y0, 1.0)
        part = torch.where(ahead, quotient, x0 * along - r * y0)  # x_0 <y, axis> - r y_0
        return torch.where(near, gap + k * x, across + part * axis)

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """Part of u that is orthogonal to x in the Lorentz product, u + <x, u> x."""
        x_ = x[..., 1:]
        x0 = _height(x_)
        product = dot(x_, u[..., 1:]) - x0 * u[..., :1]
        return u + product * torch.cat([x0, x_], -1)

    def normal(self, x: Tensor, y: Tensor) -> Tensor:
        """The matrix -y <x, .>, in the Lorentz product."""
        return y[..., :, None] * torch.cat([x[..., :1], -x[..., 1:]], -1)[..., None, :]

    def point(self, x: Tensor) -> Tensor:
        """The point with the same last n coordinates, x_0 = sqrt(1 + x_1^2 + ... + x_n^2)."""
        return _lifted(x[..., 1:])

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Length of the geodesic, arsinh of the length after the boost of x to the origin."""
        return torch.asinh(self._boosted(x[..., 1:], y[..., 1:], (y - x)[..., 1:]).norm(dim=-1))

    def scale(self, x: Tensor, u: Tensor) -> Tensor:
        """Tangent vectors moved to the origin by the boost of x, (0, w), where the metric is the ambient one."""
        w = _at_origin(x, u)
        return torch.cat([torch.zeros_like(w[..., :1]), w], -1)

    def noise(self, normal: Tensor) -> Tensor:
        """exp_o of the last n of the n + 1 normal numbers; the first is not used."""
        w = normal[..., 1:]
        return _lifted(_sinhc(dot(w, w)) * w)

    def log_prior(self, x: Tensor) -> Tensor:
        """Log-density of the wrapped normal law, log N(w; 0, I) - (n - 1) log(sinh(r)/r) with r = |w|, x = exp_o(w)."""
        q = dot(x[..., 1:], x[..., 1:])[..., 0]
        shrink = _arsinhc(q)  # r/sinh(r)
        return -q * shrink**2 / 2 - self.n / 2 * math.log(2 * math.pi) + (self.n - 1) * shrink.log()


def _height(x: Tensor) -> Tensor:
    """First coordinate of the point with these last coordinates (..., n); (..., 1)."""
    return (1 + dot(x, x)).sqrt()


def _lifted(x: Tensor) -> Tensor:
    """Point with these last coordinates."""
    return torch.cat([_height(x), x], -1)


def _at_origin(x: Tensor, u: Tensor) -> Tensor:
    """Last coordinates of tangent vectors after the boost of x to the origin; the first one is 0 there."""
    x_, u_ = x[..., 1:], u[..., 1:]
    x0 = _height(x_)
    return u_ - dot(x_, u_) / (x0 * (1 + x0)) * x_


def _root(q: Tensor) -> tuple[Tensor, Tensor]:
    """Whether q is small, and sqrt(q), or 1 where it is, so that its derivatives stay finite."""
    small = q < 1e-2
    return small, torch.where(small, torch.ones_like(q), q).sqrt()


def _sinhc(q: Tensor) -> Tensor:
    """Evaluate sinh(r)/r of q = r^2 >= 0; smooth at 0 with all derivatives."""
    small, r = _root(q)
    return torch.where(small, 1 + q / 6 * (1 + q / 20 * (1 + q / 42 * (1 + q / 72))), torch.sinh(r) / r)


def _cosh(q: Tensor) -> Tensor:
    """Evaluate cosh(r) of q = r^2 >= 0; smooth at 0 with all derivatives."""
    small, r = _root(q)
    return torch.where(small, 1 + q / 2 * (1 + q / 12 * (1 + q / 30 * (1 + q / 56))), torch.cosh(r))


def _arsinhc(q: Tensor) -> Tensor:
    """Evaluate arsinh(p)/p of q = p^2 >= 0; smooth at 0 with all derivatives."""
    small, p = _root(q)
    series = 1 - q / 6 * (1 - q * 9 / 20 * (1 - q * 25 / 42 * (1 - q * 49 / 72 * (1 - q * 81 / 110))))
    return torch.where(small, series, torch.asinh(p) / p)
