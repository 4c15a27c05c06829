"""Products of manifolds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import shown
from .base import Manifold


@dataclass(frozen=True, init=False)
class Product(Manifold):
    """Product of manifolds. Coordinates are concatenated, squared lengths add up, and priors are independent.

    Args:
        *manifolds: The factors, such as `Sphere(2), Torus(1)`.
        parts: The same as one sequence, the form that files have.

    Raises:
        TypeError: A factor is no manifold, or both forms are given.
        ValueError: There is no factor.
    """

    parts: tuple[Manifold, ...]

    def __init__(self, *manifolds: Manifold, parts: Sequence[Manifold] = ()) -> None:
        if manifolds and parts:
            raise TypeError("a product takes its factors as arguments or as parts=[...], got both")
        object.__setattr__(self, "parts", (*manifolds, *parts))
        if not self.parts:
            raise ValueError("a product needs at least one factor, such as Product(Sphere(2), Torus(1))")
        for part in self.parts:
            if not isinstance(part, Manifold):
                raise TypeError(f"a factor of a product is a manifold, such as Sphere(2), got {shown(part)}")

    @property
    def size(self) -> int:
        """Number of coordinates of all factors."""
        return sum(part.size for part in self.parts)

    @property
    def dim(self) -> int:
        """Sum of the dimensions."""
        return sum(part.dim for part in self.parts)

    @property
    def reach(self) -> float:
        """The least of the factors."""
        return min(part.reach for part in self.parts)

    @property
    def isometric(self) -> bool:
        """Whether all factors are."""
        return all(part.isometric for part in self.parts)

    def exp(self, x: Tensor, u: Tensor) -> Tensor:
        """The end in each factor."""
        return self._joined(lambda part, x, u: part.exp(x, u), x, u)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The tangent vector in each factor."""
        return self._joined(lambda part, x, y: part.log(x, y), x, y)

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """The projection in each factor."""
        return self._joined(lambda part, x, u: part.tangent(x, u), x, u)

    def point(self, x: Tensor) -> Tensor:
        """The nearest point in each factor."""
        return self._joined(lambda part, x: part.point(x), x)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Root of the sum of the squared distances."""
        return torch.stack(self._each(lambda part, x, y: part.distance(x, y), x, y), -1).norm(dim=-1)

    def scale(self, x: Tensor, u: Tensor) -> Tensor:
        """The coordinates in each factor."""
        return self._joined(lambda part, x, u: part.scale(x, u), x, u)

    def normal(self, x: Tensor, y: Tensor) -> Tensor:
        """The matrices of the factors as blocks."""
        blocks, before, rows = self._each(lambda part, x, y: part.normal(x, y), x, y), 0, []
        for block in blocks:
            size = block.shape[-1]
            rows.append(torch.nn.functional.pad(block, (before, self.size - before - size)))
            before += size
        return torch.cat(rows, -2)

    def to_cut(self, x: Tensor, u: Tensor) -> Tensor:
        """The largest share of the factors."""
        return torch.stack(self._each(lambda part, x, u: part.to_cut(x, u), x, u), -1).amax(-1)

    def to_pole(self, x: Tensor, u: Tensor) -> Tensor:
        """The largest share of the factors."""
        return torch.stack(self._each(lambda part, x, u: part.to_pole(x, u), x, u), -1).amax(-1)

    def noise(self, normal: Tensor) -> Tensor:
        """The prior of each factor, of its own normal numbers."""
        return self._joined(lambda part, normal: part.noise(normal), normal)

    def log_prior(self, x: Tensor) -> Tensor:
        """Sum of the log-densities."""
        return torch.stack(self._each(lambda part, x: part.log_prior(x), x), -1).sum(-1)

    def geodesic(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """The geodesic in each factor."""
        return self._joined(lambda part, x, y: part.geodesic(x, y, t), x, y)

    def speed(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """The velocity in each factor."""
        return self._joined(lambda part, x, y: part.speed(x, y, t), x, y)

    def off(self, x: Tensor) -> Tensor:
        """Root of the sum of the squared distances in the factors."""
        return torch.stack(self._each(lambda part, x: part.off(x), x), -1).norm(dim=-1)

    def _each(self, function: Callable[..., Tensor], *rows: Tensor) -> list[Tensor]:
        """Results of a function of (factor, its coordinates of each tensor of rows), in order."""
        sizes = [part.size for part in self.parts]
        blocks = (torch.split(x, sizes, -1) for x in rows)
        return [function(part, *own) for part, *own in zip(self.parts, *blocks, strict=True)]

    def _joined(self, function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        return torch.cat(self._each(function, *rows), -1)
