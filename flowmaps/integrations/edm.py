"""Preconditioned networks of EDM (Karras et al. 2022, arXiv 2206.00364), as linear forms on their own path.

The denoiser is D(x, sigma) = c_skip x + c_out F(c_in x, log(sigma)/4) with d = data_std,

    c_in = 1/sqrt(sigma^2 + d^2),  c_skip = d^2 c_in^2,  c_out = sigma d c_in,

so F takes c_in (x_0 + sigma eps) = a x_0 + b eps and predicts the linear form (b/d) x_0 - (a d) eps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..path import Form, Path


@dataclass(frozen=True)
class Preconditioned(Path):
    """The path of the network's input: alpha = 1/sqrt(sigma_e^2 + d^2), sigma = sigma_e alpha, sigma_e = sigma_max t.

    Attributes:
        sigma_max: EDM's noise level sigma_e at t = 1.
        data_std: Standard deviation d of the data.
    """

    sigma_max: float = 80.0
    data_std: float = 0.5

    def alpha(self, t: Tensor) -> Tensor:
        """Compute 1/sqrt(sigma_e^2 + d^2)."""
        return 1 / torch.sqrt((self.sigma_max * t) ** 2 + self.data_std**2)

    def sigma(self, t: Tensor) -> Tensor:
        """Compute sigma_e alpha."""
        return self.sigma_max * t * self.alpha(t)

    def alpha_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Compute the divided difference alpha[s, t]."""
        return -(self.sigma(s) + self.sigma(t)) * self._half_turn(s, t) / self.data_std

    def sigma_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Compute the divided difference sigma[s, t]."""
        return self.data_std * (self.alpha(s) + self.alpha(t)) * self._half_turn(s, t)

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Compute the time with this ratio of sigma to alpha."""
        return sigma / (self.sigma_max * alpha).clamp(min=torch.finfo(alpha.dtype).tiny)

    def _half_turn(self, s: Tensor, t: Tensor) -> Tensor:
        """Compute tan(h)/(t - s), for half the angle h between the unit vectors (d alpha, sigma) of two times.

        tan(h) = sin(2h)/(1 + cos(2h)), with t - s divided out of the sine.
        """
        across = self.data_std * self.alpha(s) * self.alpha(t)
        return self.sigma_max * across / (1 + self.data_std * across + self.sigma(s) * self.sigma(t))


@dataclass(frozen=True)
class LogLevel:
    """The network's clock log(sigma_e)/4.

    Attributes:
        sigma_max: EDM's noise level sigma_e at t = 1.
    """

    sigma_max: float = 80.0

    def __call__(self, u: Tensor) -> Tensor:
        """Compute log(sigma_max u)/4."""
        return torch.log(self.sigma_max * u) / 4


def output(path: Preconditioned, u: Tensor) -> Form:
    """Return the coefficients of F = (b/d) x_0 - (a d) eps at time u."""
    return path.sigma(u) / path.data_std, -path.alpha(u) * path.data_std


def negative_output(path: Preconditioned, u: Tensor) -> Form:
    """Return the coefficients of -F, for a c_out of the other sign; with d = 1 it is path.v_prediction."""
    return -path.sigma(u) / path.data_std, path.alpha(u) * path.data_std
