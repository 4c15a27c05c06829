"""The variational bound of the log-density, without a derivative: an equality for the exact denoiser."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import path as paths
from ..arguments import at_least, within
from ..path import Path, linear
from .result import LogProb, expect_velocity, refuse_curved

LATEST = 1 - 1e-6
"""Latest time of a draw: at t = 1 the rate of the noise level may be infinite, and there the integrand vanishes."""


@dataclass(frozen=True)
class Bound:
    """Log-densities by the variational bound; see `bound`."""

    draws: int = 64
    start: float = 1e-4

    def __post_init__(self) -> None:
        at_least(2, draws=self.draws)
        within(0, 1, start=self.start)
        if self.draws % 2:
            raise ValueError(f"draws come in pairs of opposite noise, so their number must be even, got {self.draws}")

    def __call__(self, flow: Any, x0: Tensor) -> LogProb:
        """The bound for each row.

        Args:
            flow: Any object with velocity(x, t), its condition bound.
            x0: Rows, (B, ...).

        Returns:
            The bounds, with the standard errors of the draws. The draws come from torch's generator of the CPU.

        Raises:
            TypeError: The flow has no velocity.
            ValueError: It is a partial map, its velocity was not trained, or its path is on a manifold.
        """
        refuse_curved(flow, "variational bounds")
        expect_velocity(flow, "the variational bound follows the velocity")
        pairs = self.draws // 2
        means = torch.stack([self._pair(flow, x0, (k + torch.rand(len(x0))) / pairs) for k in range(pairs)])
        wide = torch.promote_types(x0.dtype, torch.float32)
        at_end = beyond_the_path(getattr(flow, "path", linear), x0.to(wide))
        constant = -0.5 * x0[0].numel() * math.log(2 * math.pi * math.e)
        error = means.std(0) / pairs**0.5 if pairs > 1 else None
        return LogProb(constant + means.mean(0) + at_end, None, error, self.draws)

    def _pair(self, flow: Any, x0: Tensor, u: Tensor) -> Tensor:
        """The integrand at one time of each row, averaged over a draw of noise and its opposite, (B,)."""
        t = (self.start + (1 - self.start) * u).clamp(max=LATEST).to(x0.device)
        eps = torch.randn(x0.shape, dtype=x0.dtype).to(x0.device)
        return (1 - self.start) * (integrand(flow, x0, eps, t) + integrand(flow, x0, -eps, t)) / 2


def integrand(flow: Any, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """The integrand of the bound for one draw of noise.

        h'(t) [ alpha^2 / (alpha^2 + sigma^2) |eps|^2 - |eps - eps(x_t, t)|^2 ],     h' = sigma'/sigma - alpha'/alpha

    h is half the logarithm of the noise level (sigma/alpha)^2, and eps(x_t, t) is the noise that the velocity implies.

    Args:
        flow: Any object with velocity(x, t).
        x0: Rows, (B, ...).
        eps: Noise of the same shape.
        t: A time for each row, (B,).

    Returns:
        (B,).
    """
    path: Path = getattr(flow, "path", linear)
    x = path.interpolate(x0, eps, t)
    found = path.convert(flow.velocity(x, t), x, t, paths.velocity, paths.noise)
    t = t.to(torch.promote_types(x0.dtype, torch.float32))
    alpha, sigma = path.alpha(t), path.sigma(t)
    rate = path.sigma_slope(t, t) / sigma - path.alpha_slope(t, t) / alpha
    squares = [one.flatten(1).to(t.dtype).square().sum(1) for one in (eps, eps - found)]
    return rate * (alpha**2 / (alpha**2 + sigma**2) * squares[0] - squares[1])


def beyond_the_path(path: Path, x0: Tensor) -> Tensor:
    """The part of the bound above the noise level of t = 1, for the denoiser f = 0, (B,); 0 if that is noise alone.

    It is (1/2) int_0^snr(1) [D/(1 + snr) - |x_0|^2] dsnr.
    """
    one = torch.ones((), dtype=torch.float64)
    snr = float(path.alpha(one) / path.sigma(one)) ** 2
    flat = x0.flatten(1)
    return 0.5 * (flat.shape[1] * math.log1p(snr) - snr * flat.square().sum(1))


def bound(draws: int = 64, *, start: float = 1e-4) -> Bound:
    """Estimator: the variational bound of diffusion models, from denoising errors alone.

        log p_0(x_0) >= -(D/2) log(2 pi e) + (1/2) int [D/(1 + snr) - E|f(x_t, t) - x_0|^2] dsnr,  snr = (alpha/sigma)^2

    The bound holds in the mean over the data, and is an equality for the exact denoiser. A draw costs one forward pass.
    Draws come in pairs of opposite noise at one time, and the times are stratified.

    Args:
        draws: Number of draws of each row, even.
        start: Time at which the integral begins.

    Returns:
        The estimator, with a standard error that counts the spread of the stratified times too, so that it is a little
        too large. Kingma et al. 2021, arXiv 2107.00630; Kong, Brekelmans and Ver Steeg 2023, arXiv 2302.03792.

    Raises:
        ValueError: The number of draws is odd or below 2, or the start is outside [0, 1].
    """
    return Bound(draws, start)
