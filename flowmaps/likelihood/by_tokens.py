"""The variational bound of the probability of discrete data, from denoising errors in the simplex."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, positive
from ..links import logits
from ..path import Path, linear
from ..simplex import classes_in, cross_entropy
from .result import LogProb, expect_velocity


@dataclass(frozen=True)
class TokenBound:
    """Log-probabilities of one-hot rows by the variational bound; see `tokens`."""

    draws: int = 64
    low: float = 1e-4
    high: float = 400.0

    def __post_init__(self) -> None:
        at_least(2, draws=self.draws)
        positive(low=self.low, high=self.high)
        if self.draws % 2 or not self.low < self.high:
            raise ValueError(
                f"the bound needs an even number of draws and low < high, got {self.draws} draws from snr {self.low:g} "
                f"to {self.high:g}"
            )

    def __call__(self, flow: Any, x0: Tensor) -> LogProb:
        """The bound for each row.

        Args:
            flow: A flow map with logits of classes, its condition bound, or an `fm.exact.Categorical`.
            x0: One-hot rows, (B, ..., K).

        Returns:
            The bounds in nats for a row, with the standard errors of the draws. The draws come from torch's
            generator of the CPU.

        Raises:
            TypeError: The flow has no velocity.
            ValueError: It predicts no classes or is a partial map, or the rows are no distributions over classes.
        """
        expect_velocity(flow, "the bound of tokens follows the denoiser")
        path: Path = getattr(flow, "path", linear)
        data = classes_in(x0).to(torch.promote_types(x0.dtype, torch.float32))
        data = flow.link.embed(data) if hasattr(flow.link, "embed") else data
        one = torch.ones((), dtype=torch.float64)
        noisiest = float(path.alpha(one) / path.sigma(one)) ** 2
        low, pairs = max(self.low, noisiest), self.draws // 2
        width = math.log(self.high / low)
        terms = []
        for k in range(pairs):
            snr = low * torch.exp(width * (k + torch.rand(len(x0), dtype=torch.float64)) / pairs)
            terms.append(self._pair(flow, path, data, x0, snr.to(data), width))
        found = torch.stack(terms)
        prior = 0.5 * low * data.flatten(1).square().sum(1)
        error = found.std(0) / pairs**0.5 if pairs > 1 else None
        return LogProb(-(found.mean(0) + prior), None, error, 2 * self.draws)

    def _pair(self, flow: Any, path: Path, data: Tensor, x0: Tensor, snr: Tensor, width: float) -> Tensor:
        """The loss at one noise level of each row and at the end, over a draw of noise and its opposite, (B,)."""
        t, end = (
            path.time_of(level.sqrt(), torch.ones_like(level)) for level in (snr, torch.full_like(snr, self.high))
        )
        eps = torch.randn(data.shape, dtype=data.dtype).to(data.device)
        total = torch.zeros_like(snr)
        for noise in (eps, -eps):
            found = flow.field(path.interpolate(data, noise, t), t, t)
            total = total + width * snr * (data - found).flatten(1).square().sum(1) / 2
            z = logits(flow)(flow.value(path.interpolate(data, noise, end), end, end))
            total = total + cross_entropy(x0.to(z), z)[:, 0]
        return total / 2


def tokens(draws: int = 64, *, low: float = 1e-4, high: float = 400.0) -> TokenBound:
    """Estimator: the variational bound of the log-probability of tokens.

        -log P(x_0) <= (1/2) int_low^high E|x_0 - f(x_t, t)|^2 dsnr - E log p(x_0 | x_t at high) + (low/2) |x_0|^2

    with snr = (alpha/sigma)^2 and the class probabilities p of the map. On the linear path the integral is the one of
    ((1 - t)/t^3) E|x_0 - p(x_t, t, t)|^2 over t. For the exact posterior it is an equality up to the two ends, and its
    mean over the data is their entropy. Divide by the number of positions for nats a token. The bound of `bound` is one
    of a density, which one-hot rows do not have.

    Args:
        draws: Number of draws of each row, even; each costs two forward passes. They are stratified in log snr, and
            come in pairs of opposite noise.
        low: Signal-to-noise ratio at which the integral begins; a path with more at t = 1 begins there.
        high: Ratio at which it ends, and the words are read off.

    Returns:
        The estimator. Kingma et al. 2021, arXiv 2107.00630.

    Raises:
        ValueError: The number of draws is odd, or low is not below high.
    """
    return TokenBound(draws, low, high)
