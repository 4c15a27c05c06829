"""The sphere."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import at_least
from .base import Manifold, cosine, dot, sinc


@dataclass(frozen=True)
class Sphere(Manifold):
    """Unit sphere of dimension n in n + 1 coordinates; Sphere(2) is the globe. The prior is uniform.

        exp_x(u) = cos|u| x + sin|u| u/|u|,      log_x(y) = theta p/|p|,  p = y - <x, y> x,  theta the angle

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

    @property
    def reach(self) -> float:
        """The antipode, at distance pi, is the cut locus."""
        return math.pi

    def exp(self, x: Tensor, u: Tensor) -> Tensor:
        """End of the great circle from x along u."""
        q = dot(u, u)
        return self.point(cosine(q) * x + sinc(q) * u)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Tangent vector of the shortest great circle; an arbitrary one of length pi between antipodes."""
        gap = y - x
        p = gap - dot(x, gap) * x  # y - <x, y> x, without cancellation of close points
        q, near = dot(p, p), 1 + dot(x, gap) > 0  # sin^2 of the angle, and whether it is below a right angle
        small = q < 1e-2
        sine = torch.where(small, torch.ones_like(q), q).sqrt()
        series = 1 + q / 6 * (1 + q * 9 / 20 * (1 + q * 25 / 42 * (1 + q * 49 / 72 * (1 + q * 81 / 110))))  # asin(r)/r
        cos = 1 + dot(x, gap)
        close = torch.where(small, series, torch.atan2(sine, cos) / sine)
        # beyond the right angle the sine may vanish again, near the antipode
        far_sine = q.clamp(min=torch.finfo(q.dtype).tiny).sqrt()
        far = torch.atan2(far_sine, cos) / far_sine
        opposite = ~near & (q < torch.finfo(q.dtype).eps ** 2)
        found = torch.where(near, close, torch.where(opposite, torch.ones_like(far), far)) * p
        return torch.where(opposite, math.pi * self._across(x), found)

    def _across(self, x: Tensor) -> Tensor:
        """A unit tangent vector at x: the axis of the smallest coordinate, projected."""
        axis = torch.nn.functional.one_hot(x.abs().argmin(-1), self.size).to(x.dtype)
        u = self.tangent(x, axis)
        return u / u.norm(dim=-1, keepdim=True)

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """Part of u orthogonal to x."""
        return u - dot(x, u) * x

    def normal(self, x: Tensor, y: Tensor) -> Tensor:
        """The matrix y x^T."""
        return y[..., :, None] * x[..., None, :]

    def point(self, x: Tensor) -> Tensor:
        """Divide by the norm."""
        return x / dot(x, x).sqrt()

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Angle in radians, 2 atan2(|x - y|, |x + y|)."""
        return 2 * torch.atan2((x - y).norm(dim=-1), (x + y).norm(dim=-1))

    def noise(self, normal: Tensor) -> Tensor:
        """Uniform points: normal numbers divided by their norm."""
        return self.point(normal)

    def log_prior(self, x: Tensor) -> Tensor:
        """Minus the logarithm of the area, 2 pi^(size/2) / Gamma(size/2)."""
        half = self.size / 2
        area = math.log(2) + half * math.log(math.pi) - math.lgamma(half)
        return torch.full_like(x[..., 0], -area)
