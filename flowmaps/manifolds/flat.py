"""Flat manifolds: Euclidean space and the torus."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import at_least
from .base import Manifold


@dataclass(frozen=True)
class _Flat(Manifold):
    """Manifold whose coordinates are lengths.

    Args:
        n: Dimension.

    Raises:
        ValueError: The dimension is below 1.
    """

    n: int

    def __post_init__(self) -> None:
        at_least(1, n=self.n)

    @property
    def size(self) -> int:
        """Number of coordinates, n."""
        return self.n

    @property
    def dim(self) -> int:
        """Dimension n."""
        return self.n

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """Every vector is a tangent vector."""
        return u

    def normal(self, x: Tensor, y: Tensor) -> Tensor:
        """0: no vector is normal."""
        return torch.zeros_like(y[..., :, None] * x[..., None, :])

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Norm of the shortest difference."""
        return self.log(x, y).norm(dim=-1)


@dataclass(frozen=True)
class Euclidean(_Flat):
    """Euclidean space R^n, whose geodesic path is the linear path. The prior is the standard normal law."""

    def exp(self, x: Tensor, u: Tensor) -> Tensor:
        """Add."""
        return x + u

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Subtract."""
        return y - x

    def point(self, x: Tensor) -> Tensor:
        """Every vector is a point."""
        return x

    def noise(self, normal: Tensor) -> Tensor:
        """The normal numbers themselves."""
        return normal

    def log_prior(self, x: Tensor) -> Tensor:
        """Log-density of the standard normal law."""
        return -(x**2).sum(-1) / 2 - self.n / 2 * math.log(2 * math.pi)

    def geodesic(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """(1 - t) x + t y, in the arithmetic of the linear path."""
        return (1 - t) * x + t * y

    def speed(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """The difference y - x, in the arithmetic of the linear path."""
        return -torch.ones_like(t) * x + torch.ones_like(t) * y


@dataclass(frozen=True)
class Torus(_Flat):
    """Torus of n angles in radians, each in (-pi, pi]. The prior is uniform."""

    @property
    def reach(self) -> float:
        """An angle of pi is the cut locus."""
        return math.pi

    def to_cut(self, x: Tensor, u: Tensor) -> Tensor:
        """Largest angle as a share of pi."""
        return u.abs().amax(-1) / math.pi

    def to_pole(self, x: Tensor, u: Tensor) -> Tensor:
        """0: the derivative of `log` is the same everywhere."""
        return torch.zeros_like(u[..., 0])

    def exp(self, x: Tensor, u: Tensor) -> Tensor:
        """Add, and wrap."""
        return self.point(x + u)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Difference, each angle wrapped to (-pi, pi]."""
        return self.point(y - x)

    def point(self, x: Tensor) -> Tensor:
        """Angles wrapped to (-pi, pi]; their derivative is 1."""
        turns = torch.ceil((x - math.pi) / (2 * math.pi))
        return x - turns * (2 * math.pi)

    def off(self, x: Tensor) -> Tensor:
        """Norm of the parts of angles beyond a full turn, which are likely in degrees; other angles are points."""
        return (x.abs() - 2 * math.pi).clamp(min=0).norm(dim=-1)

    def noise(self, normal: Tensor) -> Tensor:
        """Uniform angles, 2 pi Phi(normal) - pi."""
        return self.point(2 * math.pi * torch.special.ndtr(normal) - math.pi)

    def log_prior(self, x: Tensor) -> Tensor:
        """Minus n log(2 pi)."""
        return torch.full_like(x[..., 0], -self.n * math.log(2 * math.pi))
