"""Outputs: from the value that a network predicts to the average velocity V.

An output is any function (value, x, s, t, path) -> V: the network's value and x of shape (B, ...), the times s and t as
(B, 1, ..., 1), the path. `average_velocity` is the default.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .arguments import expect_tensor, finite, positive, shown, within
from .exact import Gaussian, gaussian_average_velocity
from .path import Path
from .serialise import describable

Output = Callable[[Tensor, Tensor, Tensor, Tensor, Path], Tensor]


def average_velocity(value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
    """The network predicts V itself (Geng et al. 2025, arXiv 2505.13447)."""
    return value


@dataclass(frozen=True)
class Endpoint:
    """The network predicts the denoised field D: F is the exact step for constant data D.

    Args:
        min_time: Smallest source time in the formula. V has a pole at s = 0, where x is the data already; smaller times
            count as `min_time`.

    The formula is

        F = (sigma_t/sigma_s) x + (alpha_t - alpha_s sigma_t/sigma_s) D,
        on the linear path (t/s) x + (1 - t/s) D, so that V = (x - D)/s

    (Kim et al. 2023, arXiv 2310.02279; Lu et al. 2026, arXiv 2601.22158). At the true flow map D is a weighted mean of
    the denoiser along the path.
    """

    min_time: float = 0.02

    def __post_init__(self) -> None:
        positive(min_time=self.min_time)
        within(0, 1, min_time=self.min_time)

    def __call__(self, value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        """Average velocity V from the network's value."""
        on_x, on_field = self.coefficients(s, t, path)
        return on_x * x + on_field * value

    def field(self, V: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        """Denoised field D of an average velocity: the inverse of the call.

        Args:
            V: Average velocity, (B, ...).
            x: State x_s, of the same shape.
            s: Source time, (B, 1, ..., 1).
            t: Target time, likewise.
            path: The path.

        Returns:
            D, of x's shape; x - s V on the linear path.
        """
        on_x, on_field = self.coefficients(s, t, path)
        return (V - on_x * x) / on_field

    def coefficients(self, s: Tensor, t: Tensor, path: Path) -> tuple[Tensor, Tensor]:
        """Coefficients (a, b) of V = a x + b D, each (B, 1, ..., 1)."""
        s = s.clamp(min=self.min_time)
        ratio = path.sigma_slope(s, t) / path.sigma(s)
        return ratio, path.alpha_slope(s, t) - path.alpha(s) * ratio


@dataclass(frozen=True)
class Position:
    """The network predicts the target position, with a skip that makes F(x, t, t) = x:  F = c_skip x + c_out N.

    Args:
        data_std: Standard deviation d of the data.

    With the gap g = t - s in the place of the noise level of a consistency model (Song et al. 2023, arXiv 2303.01469,
    eq. 5), c_skip = d^2/(d^2 + g^2) and c_out = g d/sqrt(d^2 + g^2), so

        V = -g/(d^2 + g^2) x + d/sqrt(d^2 + g^2) N,    smooth at g = 0.

    As a map to t = 0 on the linear path the gap is the noise level, g = -sigma(s), and this is the output of a
    consistency model; its sigma_min > 0, below which x counts as data, is the time 0 here. See `Rotation` for other
    paths.
    """

    data_std: float = 0.5

    def __post_init__(self) -> None:
        positive(data_std=self.data_std)

    def __call__(self, value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        """Average velocity V from the network's value."""
        gap, variance = t - s, self.data_std**2
        scale = variance + gap**2
        return self.data_std / scale.sqrt() * value - gap / scale * x


@dataclass(frozen=True)
class Rotation:
    """The network predicts the velocity N of a rotation: TrigFlow's output, on any path (arXiv 2410.11081).

    Args:
        data_std: Standard deviation d of the data.
        min_time: Smallest source time in the formula, for paths whose sigma has no slope at 0; smaller times count as
            `min_time`.

    The formula (Lu and Song 2024) is

        F/rho_t = cos(delta) x/rho_s - sin(delta) N,    delta = tau_s - tau_t,
        rho = sqrt((d alpha)^2 + sigma^2),  tau = atan2(sigma, d alpha),  d = data_std.

    x/rho has unit variance at every time and turns from the data (tau = 0) to the noise (tau = pi/2); on the diagonal
    N is the mean of cos(tau) eps - sin(tau) x_0/d, and it too has about unit variance. With path.trigonometric and
    d = 1 this is the formula of the paper. As a map to t = 0 on `path.VarianceExploding` it is the c_skip and c_out of
    EDM and of consistency models (Song et al. 2023, arXiv 2303.01469), with their sigma_min at t = 0 and -N for N.

    Both coefficients of V have t - s as a factor of their numerator, which the path's divided differences cancel:

        V = (d^2 alpha_s alpha[s, t] + sigma_s sigma[s, t])/rho_s^2 x
            + d (alpha_s sigma[s, t] - sigma_s alpha[s, t])/rho_s N,

    so V is smooth at s = t.
    """

    data_std: float = 1.0
    min_time: float = 1e-6

    def __post_init__(self) -> None:
        positive(data_std=self.data_std)
        within(0, 1, min_time=self.min_time)

    def __call__(self, value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        """Average velocity V from the network's value."""
        s, d = s.clamp(min=self.min_time), self.data_std
        alpha, sigma = d * path.alpha(s), path.sigma(s)
        alpha_slope, sigma_slope = d * path.alpha_slope(s, t), path.sigma_slope(s, t)
        squared = alpha**2 + sigma**2
        outwards = (alpha * alpha_slope + sigma * sigma_slope) / squared
        around = (alpha * sigma_slope - sigma * alpha_slope) / squared.sqrt()
        return outwards * x + around * value


@describable
class GaussianSkip(nn.Module):
    """The network predicts the rest V - V_G beside the average velocity V_G of a Gaussian fitted to the data.

    Args:
        mean: Mean of the data, (*shape).
        variances: Variances along the principal axes.
        basis: Principal axes.

    Build it with `GaussianSkip.fit(x0)`. V_G is a closed form (`exact.gaussian_average_velocity`). It is right at large
    times, and for the coarse statistics at all times.
    """

    mean: Tensor
    variances: Tensor
    basis: Tensor

    def __init__(self, mean: Tensor, variances: Tensor, basis: Tensor) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("variances", variances), ("basis", basis)):
            expect_tensor(name, value)
        size = mean.numel()
        if tuple(variances.shape) != (size,) or tuple(basis.shape) != (size, size):
            raise ValueError(
                f"a Gaussian of {size} values needs variances ({size},) and a basis ({size}, {size}), got "
                f"{tuple(variances.shape)} and {tuple(basis.shape)}"
            )
        for name, value in (("mean", mean), ("variances", variances), ("basis", basis)):
            self.register_buffer(name, value.clone(memory_format=torch.contiguous_format))

    @classmethod
    def fit(cls, x0: Tensor, floor: float = 0.01) -> GaussianSkip:
        """Fit the Gaussian to data.

        Args:
            x0: Data, (N, *shape).
            floor: Smallest variance; it bounds the skip's slope near t = 0.

        Returns:
            The output, in the dtype of the data.
        """
        within(0, math.inf, floor=floor)
        gaussian = Gaussian.fit(x0, floor=floor)
        assert gaussian.basis is not None
        return cls(gaussian.mean.to(x0.dtype), gaussian.variances.to(x0.dtype), gaussian.basis.to(x0.dtype))

    def forward(self, value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        """Average velocity V from the network's value."""
        with torch.autocast(self.mean.device.type, enabled=False):
            return gaussian_average_velocity(x, s, t, path, self.mean, self.variances, self.basis) + value


@describable
class Bounded(nn.Module):
    """Another output with its denoised field clamped to the range of the data:  D <- clamp(D, low, high).

    Args:
        output: The other output, with average velocity V'.
        low: Least value of the data.
        high: Largest value of the data.
        min_time: Source time below which nothing is clamped, for x is the data already.

    Raises:
        ValueError: low is not below high.

    On the linear path V = (x - clamp(x - s V', low, high))/s. Where the clamp does not act, V = V'. At the true flow
    map D is a weighted mean of E[x_0 | x_u] over the times u from t to s, so it lies in the range of the data. Values
    at the edge of the range, such as the background of an image, come out exact.
    """

    def __init__(
        self, output: Output = average_velocity, low: float = -1.0, high: float = 1.0, min_time: float = 1e-3
    ) -> None:
        super().__init__()
        finite(low=low, high=high)
        if not callable(output) or isinstance(output, type):
            raise TypeError(f"an output is a function (value, x, s, t, path) -> V, got {shown(output)}")
        if not low < high:
            raise ValueError(f"the bounds of the data must be low < high, got {low} and {high}")
        self.output, self.low, self.high = output, low, high
        self.endpoint = Endpoint(min_time)  # for its linear relation of V, x and D

    def forward(self, value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        """Average velocity V from the network's value."""
        V = self.output(value, x, s, t, path)
        D = self.endpoint.field(V, x, s, t, path)
        cut = self.endpoint.coefficients(s, t, path)[1] * (D.clamp(self.low, self.high) - D)
        return V + torch.where(s < self.endpoint.min_time, torch.zeros_like(cut), cut)
