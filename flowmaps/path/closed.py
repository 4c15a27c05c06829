"""Paths in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import positive
from .base import Path


@dataclass(frozen=True)
class Linear(Path):
    """Path of flow matching, alpha = 1 - t, sigma = t (Lipman et al. 2023, arXiv 2210.02747). It is the default."""

    def alpha(self, t: Tensor) -> Tensor:
        """Share of the data at time t."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""
        return t

    def alpha_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of alpha."""
        return -torch.ones_like(t)

    def sigma_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of sigma."""
        return torch.ones_like(t)

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Time of the noise level sigma/alpha."""
        return sigma / (alpha + sigma)


@dataclass(frozen=True)
class Trigonometric(Path):
    """Path of TrigFlow, alpha = cos(pi t / 2), sigma = sin(pi t / 2) (arXiv 2410.11081, its angle scaled to [0, 1])."""

    def alpha(self, t: Tensor) -> Tensor:
        """Share of the data at time t."""
        return torch.cos(t * (math.pi / 2))

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""
        return torch.sin(t * (math.pi / 2))

    def alpha_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of alpha."""
        return -(math.pi / 2) * self.sigma((s + t) / 2) * torch.sinc((t - s) / 4)

    def sigma_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of sigma."""
        return (math.pi / 2) * self.alpha((s + t) / 2) * torch.sinc((t - s) / 4)

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Time of the noise level sigma/alpha."""
        return torch.atan2(sigma, alpha) * (2 / math.pi)


@dataclass(frozen=True)
class VariancePreserving(Path):
    """Variance-preserving path of continuous diffusion (Song et al. 2021, arXiv 2011.13456).

    Args:
        beta_min: Rate of the noising SDE at t = 0.
        beta_max: Rate of the noising SDE at t = 1.

    Raises:
        ValueError: A rate is not positive.

    The formula is alpha = exp(-B(t)/2), sigma^2 = 1 - alpha^2, B(t) = beta_min t + (beta_max - beta_min) t^2 / 2.
    alpha(1) is small but not zero: pure noise is an approximation at t = 1, as in the paper.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        positive(beta_min=self.beta_min, beta_max=self.beta_max)

    def _exponent(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference (B(t) - B(s)) / (t - s)."""
        return self.beta_min + (self.beta_max - self.beta_min) * (s + t) / 2

    def alpha(self, t: Tensor) -> Tensor:
        """Share of the data at time t."""
        return torch.exp(-0.5 * t * self._exponent(torch.zeros_like(t), t))

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""
        return (-torch.expm1(-t * self._exponent(torch.zeros_like(t), t))).sqrt()

    def alpha_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of alpha."""
        rate = -0.5 * self._exponent(s, t)
        return self.alpha(s) * rate * _expm1_over((t - s) * rate)

    def sigma_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of sigma; infinite at s = t = 0, where sigma grows like sqrt(t)."""
        return self.variance_slope(s, t) / (self.sigma(s) + self.sigma(t))

    def variance_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of sigma^2, which is -(alpha^2)[s, t]."""
        rate = -self._exponent(s, t)
        return -(self.alpha(s) ** 2) * rate * _expm1_over((t - s) * rate)

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Root of B(t) = log(1 + sigma^2/alpha^2), in the form without cancellation."""
        exponent = torch.log1p(sigma**2 / (alpha**2).clamp(min=torch.finfo(alpha.dtype).tiny))
        steepest = (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * exponent).sqrt()
        return 2 * exponent / (self.beta_min + steepest)


@dataclass(frozen=True)
class VarianceExploding(Path):
    """Path of EDM, alpha = 1, sigma = sigma_max t (Karras et al. 2022, arXiv 2206.00364).

    Args:
        sigma_max: Noise level at t = 1, in units of the data.

    Raises:
        ValueError: The noise level is not positive.

    The state at t = 1 is data plus noise of scale sigma_max: start sampling from `sigma_max * torch.randn(...)`.
    """

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        positive(sigma_max=self.sigma_max)

    def alpha(self, t: Tensor) -> Tensor:
        """Share of the data at time t."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""
        return self.sigma_max * t

    def alpha_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of alpha."""
        return torch.zeros_like(t)

    def sigma_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of sigma."""
        return self.sigma_max * torch.ones_like(t)

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Time of the noise level sigma/alpha."""
        return sigma / (self.sigma_max * alpha).clamp(min=torch.finfo(alpha.dtype).tiny)


linear = Linear()
trigonometric = Trigonometric()


def _expm1_over(z: Tensor) -> Tensor:
    """Evaluate (exp(z) - 1) / z, and 1 at z = 0; smooth, also for its derivatives."""
    small = z.abs() < 1e-3
    safe = torch.where(small, torch.ones_like(z), z)
    return torch.where(small, 1 + z / 2 * (1 + z / 3 * (1 + z / 4)), torch.expm1(safe) / safe)
