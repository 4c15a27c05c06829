"""Rewards that are quadratic in the data, the form that `GaussianMixture.tilted` reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True)
class Quadratic:
    """The reward r(x) = constant + linear . x - x^T precision x / 2 over the D flattened coordinates of one draw.

    Args:
        linear: (D,).
        precision: (D, D), symmetric. None: the reward is linear.
        constant: A number, or a tensor without dimensions.

    A linear reward c . x is `Quadratic(c)`. The Gaussian likelihood log N(y; A x, std^2 I) of M numbers y has the
    linear part A^T y / std^2, the precision A^T A / std^2 and the constant -|y|^2 / (2 std^2) - M log(2 pi std^2) / 2.
    Two rewards add, and `scaled` multiplies one by a number.
    """

    linear: Tensor
    precision: Tensor | None = None
    constant: Tensor | float = 0.0

    def __add__(self, other: Quadratic) -> Quadratic:
        """Sum of two rewards."""
        both = [part for part in (self.precision, other.precision) if part is not None]
        precision = torch.stack(both).sum(0) if both else None
        return Quadratic(self.linear + other.linear, precision, self.constant + other.constant)

    def scaled(self, k: float) -> Quadratic:
        """The reward times a number."""
        precision = None if self.precision is None else k * self.precision
        return Quadratic(k * self.linear, precision, k * self.constant)

    def isotropic(self) -> Tensor | None:
        """Return the number q of a precision q I, 0 for a linear reward; None for any other precision."""
        if self.precision is None:
            return torch.zeros((), dtype=self.linear.dtype, device=self.linear.device)
        q = self.precision[0, 0]
        return q if torch.equal(self.precision, q * torch.eye(len(self.precision)).to(self.precision)) else None

    def __call__(self, x0: Tensor) -> Tensor:
        """Evaluate the reward of data (B, *shape), (B,)."""
        rows = x0.flatten(1)
        value = torch.matmul(rows, self.linear.to(rows)) + self.constant
        if self.precision is None:
            return value
        return value - (torch.matmul(rows, self.precision.to(rows)) * rows).sum(1) / 2


@runtime_checkable
class QuadraticReward(Protocol):
    """A reward x0 (B, *shape) -> (B,) that can tell its quadratic form.

    `GaussianMixture.tilted` takes any object with this one method. It is all that the exact distributions know of a
    reward; linear rewards, Gaussian likelihoods of linear measurements, and sums and multiples of them have it.
    """

    def quadratic(self, shape: torch.Size) -> Quadratic:
        """Write the reward as a polynomial of degree two.

        Args:
            shape: Shape of one draw, with D coordinates in all.

        Returns:
            The polynomial over the flattened coordinates, in any floating-point dtype.

        Raises:
            ValueError: The reward takes data of another shape, or is not quadratic, such as a nonlinear measurement.
        """
