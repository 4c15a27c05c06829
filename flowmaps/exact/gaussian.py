"""Gaussian distributions, in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import at_least, expect_finite, expect_floating
from ..path import Path, Time, linear
from ..path.time_shapes import at_frames, at_time, frame_axis
from .base import Exact, Numbers, beside, check_path, check_state, flat, floating, marginal_variance, wide


class Gaussian(Exact):
    """The Gaussian x_0 ~ N(mean, covariance).

    In the eigenbasis of the covariance (variances l) the marginal at time t has scale g(t)^2 = alpha(t)^2 l +
    sigma(t)^2, and

        F(x, s, t) = alpha(t) mean + g(t)/g(s) (x - alpha(s) mean),
        V(x, s, t) = alpha[s,t] mean + g[s,t]/g(s) (x - alpha(s) mean),

    with divided differences [s, t], so V has no pole at s = t and v(x, t) = V(x, t, t). With independent coordinates
    the times may differ from frame to frame (`path.expand_frames`), because each coordinate has a map of its own.

    Args:
        mean: a number, or a tensor of the shape of one draw.
        std: standard deviation, a number or broadcastable to the shape of one draw. Unused with `covariance`.
        covariance: (D, D) over the D flattened coordinates. None: independent coordinates with `std`.
        path: the path from data to noise.

    Raises:
        ValueError: for a std that is not positive, and a covariance that is not square, not of that size, not symmetric
            or not positive definite.
    """

    def __init__(
        self, mean: Numbers = 0.0, std: Numbers = 1.0, *, covariance: Tensor | None = None, path: Path = linear
    ) -> None:
        check_path(path)
        self.path = path
        self.mean = floating(mean, "mean").expand(_event(mean, std, covariance))
        self.shape = self.mean.shape
        size = self.mean.numel()
        if covariance is None:
            deviation = floating(std, "std").to(self.mean.dtype).expand(self.shape).reshape(-1)
            if not bool((deviation > 0).all()):
                raise ValueError(f"a standard deviation must be positive, got {std}")
            self.variances, self.basis = deviation**2, None
        else:
            covariance = floating(covariance, "covariance").to(self.mean.dtype)
            if tuple(covariance.shape) != (size, size):
                raise ValueError(
                    f"a Gaussian over {size} coordinates needs a covariance of shape ({size}, {size}), got "
                    f"{tuple(covariance.shape)}"
                )
            if not torch.allclose(covariance, covariance.T):
                raise ValueError("a covariance must be symmetric")
            self.variances, self.basis = torch.linalg.eigh(covariance)
            if not bool((self.variances > 0).all()):
                raise ValueError(
                    f"a covariance must be positive definite, got smallest eigenvalue {self.variances.min().item():.3g}"
                )

    @classmethod
    def fit(cls, x0: Tensor, *, floor: float = 1e-4, path: Path = linear) -> Gaussian:
        """Fit the mean and covariance of data.

        Args:
            x0: data (N, *shape).
            floor: smallest variance; smaller ones are raised to it.
            path: the path from data to noise.

        Returns:
            The Gaussian, in float64.

        Raises:
            ValueError: There are fewer than two rows, or a value is not finite.
        """
        expect_floating("x0", x0, "(N, *shape)", least=2)
        if len(x0) < 2:
            raise ValueError(f"a Gaussian is fitted to at least 2 rows, got {len(x0)}")
        expect_finite("x0", x0)
        rows = x0.flatten(1).double()
        variances, basis = torch.linalg.eigh(torch.cov(rows.T).reshape(rows.shape[1], rows.shape[1]))
        covariance = basis * variances.clamp(min=floor) @ basis.T
        return cls(rows.mean(0).reshape(x0.shape[1:]), covariance=(covariance + covariance.T) / 2, path=path)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n independent rows, (n, *shape); see `Exact.sample`."""
        at_least(0, n=n)
        z = torch.randn(n, self.variances.numel(), generator=generator, dtype=self.mean.dtype)
        rows = z * self.variances.sqrt()
        return self.mean + (rows if self.basis is None else rows @ self.basis.T).reshape(n, *self.shape)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Compute v(x, t) = V(x, t, t)."""
        return self.average_velocity(x, t, t)

    def average_velocity(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Compute V(x, s, t) in closed form; see `Exact.average_velocity`."""
        check_state(self, x)
        s, t = self._at(s, x), self._at(t, x)
        return gaussian_average_velocity(wide(x), s, t, self.path, *self._like(x)).to(x.dtype)

    def flow_map(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Compute F(x, s, t) = x + (t - s) V(x, s, t); see `Exact.flow_map`."""
        s, t = self._at(s, x), self._at(t, x)
        return x + ((t - s) * self.average_velocity(x, s, t)).to(x.dtype)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """Compute mean + alpha l / g^2 (x - alpha mean) in the eigenbasis."""
        t = self._at(t, x)
        mean, variances, basis = self._like(x)
        alpha = self.path.alpha(t)
        gain = flat(alpha) * variances / marginal_variance(self.path, t, variances)
        return (mean + _scale(wide(x) - alpha * mean, gain, basis)).to(x.dtype)

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Compute -(x - alpha mean) / g^2 in the eigenbasis."""
        t = at_time(t, x)
        mean, variances, basis = self._like(x)
        centred = wide(x) - self.path.alpha(t) * mean
        return _scale(centred, -1 / marginal_variance(self.path, t, variances), basis).to(x.dtype)

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Compute log p_t(x) in nats, (B,); see `Exact.log_prob`."""
        t = at_time(t, x)
        mean, variances, basis = self._like(x)
        centred = (wide(x) - self.path.alpha(t) * mean).flatten(1)
        rotated, marginal = centred if basis is None else centred @ basis, marginal_variance(self.path, t, variances)
        return -0.5 * (rotated**2 / marginal + marginal.log() + math.log(2 * math.pi)).sum(1).to(x.dtype)

    def _at(self, t: Time, x: Tensor) -> Tensor:
        """The time as (B, 1, ..., 1); a time per frame, if coordinates are independent, as one for each of them."""
        if self.basis is not None or frame_axis(t, x) is None:
            return at_time(t, x)
        return at_frames(t, x).expand(x.shape)

    def _like(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        check_state(self, x)
        basis = None if self.basis is None else beside(self.basis, x)
        return beside(self.mean, x), beside(self.variances, x), basis

    def __repr__(self) -> str:
        return f"Gaussian(shape={tuple(self.shape)}, path={self.path})"


def gaussian_average_velocity(
    x: Tensor, s: Tensor, t: Tensor, path: Path, mean: Tensor, variances: Tensor, basis: Tensor | None
) -> Tensor:
    """Compute V(x, s, t) of N(mean, basis diag(variances) basis^T), by the formula in `Gaussian`.

    g[s,t] = (g^2)[s,t] / (g(s) + g(t)) and (a^2)[s,t] = (a(s) + a(t)) a[s,t], so nothing is divided by t - s.

    Args:
        x: states (B, *shape) at time s.
        s: source times (B, 1, ..., 1).
        t: target times (B, 1, ..., 1).
        path: the path from data to noise.
        mean: mean of the data, of the shape of one draw.
        variances: eigenvalues of the covariance (D,).
        basis: eigenvectors (D, D) as columns. None: the coordinate axes.

    Returns:
        (B, *shape).
    """
    alpha, alpha_slope = path.alpha, path.alpha_slope(s, t)
    square_slope = flat((alpha(s) + alpha(t)) * alpha_slope) * variances + flat(path.variance_slope(s, t))
    g_s, g_t = (marginal_variance(path, u, variances).sqrt() for u in (s, t))
    return alpha_slope * mean + _scale(x - alpha(s) * mean, square_slope / (g_s * (g_s + g_t)), basis)


def _scale(x: Tensor, factors: Tensor, basis: Tensor | None) -> Tensor:
    """Multiply the coordinates of x in the eigenbasis by `factors` (B, D).

    `torch.matmul` instead of `@`, because the compiler exchanges the operands of `@` with a dual number.
    """
    rows = x.flatten(1)
    scaled = rows * factors if basis is None else torch.matmul(torch.matmul(rows, basis) * factors, basis.T)
    return scaled.reshape(x.shape)


def _event(mean: Numbers, std: Numbers, covariance: Tensor | None) -> torch.Size:
    """Find the shape of one draw: of the mean, or of std or covariance if the mean is a number; else (1,)."""
    shapes = [
        torch.as_tensor(mean).shape,
        torch.as_tensor(std).shape if covariance is None else torch.as_tensor(covariance).shape[:1],
    ]
    return next((shape for shape in shapes if shape), torch.Size([1]))
