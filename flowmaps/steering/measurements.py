"""Linear rewards, and the likelihoods of measurements."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..arguments import brief_repr, expect_finite, positive, shown
from ..exact.quadratic import Quadratic
from .operators import Linearised, as_operator
from .reward import Reward
from .spread import Spread, log_normal


@dataclass(frozen=True, repr=False)
class Linear(Reward):
    """Linear reward c . x0.

    Args:
        c: Coefficients, of the shape of one row; or one row for each row of data.

    Raises:
        TypeError: c is no tensor of floating-point numbers.
        ValueError: A coefficient is not finite.
    """

    c: Tensor

    def __post_init__(self) -> None:
        c = self.c if isinstance(self.c, Tensor) else torch.as_tensor(self.c)
        if not c.is_floating_point():
            raise TypeError(f"the coefficients of a linear reward are floating-point numbers, got {shown(self.c)}")
        expect_finite("the coefficients of a linear reward", c.reshape(1, -1))
        object.__setattr__(self, "c", c)

    def __call__(self, x0: Tensor) -> Tensor:
        """The reward c . x0, (B,)."""
        return (self._like(x0) * x0).flatten(1).sum(1)

    def widened(self, x0: Tensor, spread: Spread, k: float = 1.0) -> Tensor:
        """The value k c . x0 + k^2 c . spread(c)/2."""
        c = k * self._like(x0).expand(x0.shape)
        return k * self(x0) + (c * spread(c)).flatten(1).sum(1) / 2

    def isotropic(self, x: Tensor) -> tuple[Tensor, float]:
        """The coefficients and 0."""
        return self._like(x), 0.0

    def quadratic(self, shape: torch.Size) -> Quadratic:
        """The coefficients, flattened."""
        if self.c.shape != shape:
            raise ValueError(f"a linear reward of shape {tuple(self.c.shape)} does not fit rows of {tuple(shape)}")
        return Quadratic(self.c.flatten())

    def _like(self, x: Tensor) -> Tensor:
        c = self.c.to(x)
        if c.shape not in (x.shape[1:], x.shape):
            raise ValueError(
                f"the coefficients of a linear reward have the shape of a row, {tuple(x.shape[1:])}, got "
                f"{tuple(c.shape)}"
            )
        return c

    __repr__ = brief_repr


@dataclass(frozen=True, repr=False)
class Likelihood(Reward):
    """Gaussian log-likelihood of a measurement, log N(y; A(x0), std^2 I): the reward of an inverse problem.

    Args:
        A: Measurement operator: `mask(kept)`, `blur(sigma)`, `downsample(factor)`, a matrix (M, D) on flattened rows, a
            number a for a x0, or a differentiable function x0 -> measurement (B, ...).
        y: The measurement: one for all rows, of the shape of A(x0) without rows, or one for each row.
        std: Standard deviation of the noise in y.

    Raises:
        TypeError: A or y is of another kind.
        ValueError: std is not positive or y is not finite. In calls: y and A(x0) have different shapes.

    With it, Z is the evidence p(y), and the steered law is the posterior p(x0 | y).
    """

    A: Any
    y: Tensor
    std: float

    def __post_init__(self) -> None:
        y = self.y if isinstance(self.y, Tensor) else torch.as_tensor(self.y, dtype=torch.float64)
        expect_finite("the measurement y", y.reshape(1, -1))
        object.__setattr__(self, "A", as_operator(self.A))
        object.__setattr__(self, "y", y.detach())
        positive(std=self.std)

    def __call__(self, x0: Tensor) -> Tensor:
        """The log-likelihood of data, (B,)."""
        return log_normal(self.residual(x0), self.std**2)

    def residual(self, x0: Tensor) -> Tensor:
        """The residual y - A(x0), (B, M)."""
        found = self.A(x0)
        if not isinstance(found, Tensor) or found.ndim == 0 or len(found) != len(x0):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"a measurement operator returns a row for each of {len(x0)} rows, got {got}")
        y = self.y.to(found)
        if y.shape not in (found.shape, found.shape[1:]) and y.numel() != 1:
            raise ValueError(
                f"the measurement y has shape {tuple(y.shape)}, but A(x0) has rows of shape {tuple(found.shape[1:])}"
            )
        return (y - found).reshape(len(x0), -1)

    def widened(self, x0: Tensor, spread: Spread, k: float = 1.0) -> Tensor:
        """Log-density N(y; A(x0), std^2 I + A spread A^T), with the derivative of A at x0 for a nonlinear A.

        For another k the variance std^2/k takes the place of std^2, up to a constant.
        """
        residual, variance = self.residual(x0), self.std**2
        if k <= 0:
            return super().widened(x0, spread, k)
        found = spread.log_likelihood(residual, variance / k, Linearised(self.A, x0))
        whole, part = (math.log(2 * math.pi * one) for one in (variance, variance / k))
        return found + residual.shape[1] / 2 * (part - k * whole)

    def isotropic(self, x: Tensor) -> tuple[Tensor, float]:
        """The vector a y/std^2 and the number a^2/std^2, for the operator a x0."""
        if self.A.factor is None:
            return super().isotropic(x)
        at_zero = self.residual(torch.zeros_like(x)).reshape(x.shape)
        return self.A.factor * at_zero / self.std**2, self.A.factor**2 / self.std**2

    def quadratic(self, shape: torch.Size) -> Quadratic:
        """The log-likelihood of a linear measurement as a polynomial over the flattened coordinates."""
        if not self.A.linear:
            raise ValueError("the likelihood of a nonlinear measurement is no quadratic reward")
        size = shape.numel()
        y = self.residual(torch.zeros(2, *shape, dtype=self.y.dtype, device=self.y.device))
        if not torch.equal(y[0], y[1]):
            raise ValueError("one measurement tilts a distribution, and y has one for each row")
        unit = torch.eye(size, dtype=y.dtype, device=y.device).reshape(size, *shape)
        columns = self.A(unit).reshape(size, -1)  # A^T, (D, M)
        variance = self.std**2
        constant = float(log_normal(y[:1], variance))
        return Quadratic(columns @ y[0] / variance, columns @ columns.T / variance, constant)

    def decoded(self, decode: Callable[[Tensor], Tensor]) -> Likelihood:
        """The likelihood of the measurement of decoded data, A(decode(z))."""
        operator = self.A
        return Likelihood(lambda z: operator(decode(z)), self.y, self.std)

    @property
    def distance(self) -> Distance:
        """The reward -|y - A(x0)|, which published DPS ascends."""
        return Distance(self)

    __repr__ = brief_repr


@dataclass(frozen=True)
class Distance(Reward):
    """The reward -|y - A(x0)|, with one norm for each row.

    Args:
        likelihood: The measurement.
    """

    likelihood: Likelihood

    def __call__(self, x0: Tensor) -> Tensor:
        """The negative distance of data from the measurement, (B,)."""
        return -self.likelihood.residual(x0).norm(dim=1)
