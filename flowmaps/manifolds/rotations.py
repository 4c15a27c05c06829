"""Rotations of space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Manifold, dot
from .sphere import Sphere

_SPHERE = Sphere(3)


@dataclass(frozen=True)
class SO3(Manifold):
    """Rotations of space as unit quaternions (w, x, y, z); q and -q are the same rotation. The prior is uniform.

    The metric is the angle between quaternions, half of the rotation angle: the distance of two rotations is at most
    pi/2, and the volume is pi^2. States keep either sign. `log` reads the sign of y that is nearer to x, while
    `geodesic` and `speed` take the sign of x that is nearer to y. On a geodesic path x is data and y is noise, so the
    noise stays uniform on the whole sphere S^3, and so do the signs of the states.
    """

    @property
    def size(self) -> int:
        """Number of coordinates, 4."""
        return 4

    @property
    def dim(self) -> int:
        """Dimension 3."""
        return 3

    @property
    def reach(self) -> float:
        """Half turns, at distance pi/2, are the cut locus."""
        return math.pi / 2

    def exp(self, x: Tensor, u: Tensor) -> Tensor:
        """End of the great circle from x along u."""
        return _SPHERE.exp(x, u)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Tangent vector at x to the nearer one of y and -y; to y itself if both are at pi/2."""
        return _SPHERE.log(x, nearer(y, x))

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """Part of u orthogonal to x."""
        return _SPHERE.tangent(x, u)

    def normal(self, x: Tensor, y: Tensor) -> Tensor:
        """The matrix y x^T."""
        return _SPHERE.normal(x, y)

    def point(self, x: Tensor) -> Tensor:
        """Divide by the norm; the sign stays."""
        return _SPHERE.point(x)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Angle between the quaternions up to sign, half of the rotation angle from x to y; radians in [0, pi/2]."""
        same, other = (x - y).norm(dim=-1), (x + y).norm(dim=-1)
        return 2 * torch.atan2(torch.minimum(same, other), torch.maximum(same, other))

    def noise(self, normal: Tensor) -> Tensor:
        """Uniform rotations, uniform on S^3: normal numbers divided by their norm."""
        return _SPHERE.noise(normal)

    def log_prior(self, x: Tensor) -> Tensor:
        """Minus log(pi^2): the density of rotations, which counts q and -q as one."""
        return torch.full_like(x[..., 0], -2 * math.log(math.pi))

    def geodesic(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """Point at time t of the great circle from the nearer one of x and -x, at 0, to y, at 1."""
        return _SPHERE.geodesic(nearer(x, y), y, t)

    def speed(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """Velocity of `geodesic` at time t."""
        return _SPHERE.speed(nearer(x, y), y, t)


def nearer(x: Tensor, y: Tensor) -> Tensor:
    """The nearer one of x and -x to y: x itself if <x, y> >= 0."""
    return torch.where(dot(x, y) >= 0, x, -x)
