"""The protocol of manifolds, and functions with the right derivatives at zero that they share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Manifold(ABC):
    """Base class of Riemannian manifolds. Points x and tangent vectors u are (..., size), in ambient coordinates.

    Attributes:
        size: Number of ambient coordinates of a point, the size of the last axis.
        dim: Dimension of the manifold.
        isometric: Whether the metric is a constant product of ambient vectors, and `tangent` the orthogonal projection
            in it. The divergence of a field v is then the trace of u -> tangent(x, Dv(x)[u]).
        reach: Length up to which `log(x, exp(x, u))` is u, the least over all directions; infinite if it always is.
    """

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of ambient coordinates of a point."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Dimension of the manifold."""

    @property
    def reach(self) -> float:
        """Length up to which `log(x, exp(x, u))` is u."""
        return math.inf

    @property
    def isometric(self) -> bool:
        """Whether the metric is a constant product of ambient vectors."""
        return True

    @abstractmethod
    def exp(self, x: Tensor, u: Tensor) -> Tensor:
        """End of the geodesic from a point.

        Args:
            x: Points (..., size).
            u: Tangent vectors there: direction and length of the geodesic.

        Returns:
            Points (..., size).
        """

    @abstractmethod
    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Tangent vector at x of the shortest geodesic to y; its length is the distance.

        Args:
            x: Points (..., size).
            y: Other points, likewise.

        Returns:
            Tangent vectors at x. At the cut locus of x, where several geodesics are shortest, one of them.
        """

    @abstractmethod
    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """Orthogonal projection of ambient vectors to the tangent space at x.

        Args:
            x: Points (..., size).
            u: Ambient vectors, likewise.

        Returns:
            Tangent vectors at x.
        """

    @abstractmethod
    def point(self, x: Tensor) -> Tensor:
        """Nearest point of the manifold, against rounding.

        Args:
            x: Ambient vectors (..., size).

        Returns:
            Points, in coordinates of one normal form.
        """

    @abstractmethod
    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Length of the shortest geodesic between points (..., size); (...), exact also for close points."""

    def scale(self, x: Tensor, u: Tensor) -> Tensor:
        """Coordinates of tangent vectors whose sum of squares is their squared length in the metric.

        Args:
            x: Points (..., size).
            u: Tangent vectors there.

        Returns:
            The coordinates, (..., size): u itself if the metric is the ambient one.
        """
        return u

    @abstractmethod
    def noise(self, normal: Tensor) -> Tensor:
        """The prior, as a function of standard normal numbers.

        Args:
            normal: Independent standard normal numbers (..., size).

        Returns:
            Points (..., size).
        """

    @abstractmethod
    def log_prior(self, x: Tensor) -> Tensor:
        """Log-density of the prior at points (..., size), with respect to the volume of the manifold; nats, (...)."""

    def normal(self, x: Tensor, y: Tensor) -> Tensor:
        """Isometry from the normal space at x to the one at y, as a matrix that is 0 on tangent vectors.

        Args:
            x: Points (..., size).
            y: Other points, likewise.

        Returns:
            Matrices (..., size, size). Added to a linear map of tangent vectors, they make its determinant one of a
            square matrix.

        Raises:
            NotImplementedError: The manifold tells no normal vectors.
        """
        raise NotImplementedError(f"{self} tells no normal vectors, so jumps on it have no determinants here")

    def geodesic(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """Point at time t of the shortest geodesic from x, at 0, to y, at 1.

        Args:
            x: Points (..., size).
            y: Other points, likewise.
            t: Time, which broadcasts against them.

        Returns:
            Points (..., size).
        """
        return self.exp(x, t * self.log(x, y))

    def speed(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """Velocity at time t of the geodesic from x to y.

        Args:
            x: Points (..., size).
            y: Other points, likewise.
            t: Time, which broadcasts against them.

        Returns:
            Tangent vectors at `geodesic(x, y, t)`: log_z(y)/(1 - t), or -log_z(x)/t if its denominator is larger.
        """
        z = self.geodesic(x, y, t)
        late = t > 0.5
        ahead = self.log(z, y) / torch.where(late, torch.ones_like(t), 1 - t)
        behind = -self.log(z, x) / torch.where(late, t, torch.ones_like(t))
        return torch.where(late, behind, ahead)

    def to_cut(self, x: Tensor, u: Tensor) -> Tensor:
        """Length of a tangent vector as a share of the distance of the cut locus in its direction.

        Args:
            x: Points (..., size).
            u: Tangent vectors there.

        Returns:
            The share, (...): 0 if there is no cut locus, and 1 where `log(x, exp(x, u))` ceases to be u.
        """
        return self.scale(x, u).norm(dim=-1) / self.reach

    def to_pole(self, x: Tensor, u: Tensor) -> Tensor:
        """As `to_cut`, for the derivative of `log` at exp(x, u); 0 in flat factors, whose `log` has a constant one."""
        return self.to_cut(x, u)

    def off(self, x: Tensor) -> Tensor:
        """Distance (...) of ambient vectors to the manifold, |x - point(x)|; not finite for rows that are not."""
        return (x - self.point(x)).norm(dim=-1)


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Sum of products along the last axis, which is kept: (..., 1)."""
    return (x * y).sum(-1, keepdim=True)


def sinc(q: Tensor) -> Tensor:
    """Evaluate sin(r)/r of q = r^2 >= 0; smooth at 0 with all derivatives."""
    small = q < 1e-2
    r = torch.where(small, torch.ones_like(q), q).sqrt()
    return torch.where(small, 1 - q / 6 * (1 - q / 20 * (1 - q / 42 * (1 - q / 72))), torch.sin(r) / r)


def cosine(q: Tensor) -> Tensor:
    """Evaluate cos(r) of q = r^2 >= 0; smooth at 0 with all derivatives."""
    small = q < 1e-2
    r = torch.where(small, torch.ones_like(q), q).sqrt()
    return torch.where(small, 1 - q / 2 * (1 - q / 12 * (1 - q / 30 * (1 - q / 56))), torch.cos(r))
