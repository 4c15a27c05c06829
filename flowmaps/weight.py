"""Weights and distances: from a residual to one number for each row.

A weight is a function (residual, s, t) -> (B,), with the residual (B, ...) and s, t as (B,). A method averages it over
the rows. `squared` is the default. A weight that depends on the residual moves the minimum of a conditional-velocity
loss away from the conditional mean; exactness tests use `squared`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .arguments import at_least, check_seed, checked, positive, within

Weight = Callable[[Tensor, Tensor, Tensor], Tensor]


def _flat(residual: Tensor) -> Tensor:
    return residual.reshape(len(residual), -1)


def squared(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Mean over coordinates of r^2, (B,)."""
    return _flat(residual).square().mean(1)


def summed(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Sum over coordinates of r^2, (B,); several papers define their constants for it."""
    return _flat(residual).square().sum(1)


def plain(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Mean over coordinates of r, (B,), for residuals that are distances or losses already."""
    return _flat(residual).mean(1)


def root(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Euclidean norm |r|, (B,), with slope 0 at 0 (ECT, arXiv 2406.14548)."""
    square = summed(residual, s, t)
    zero = square == 0
    return torch.where(zero, square, torch.where(zero, torch.ones_like(square), square).sqrt())


@checked
def adaptive(power: float = 1.0, c: float = 1e-2, size: Weight = summed) -> Weight:
    """Adaptive weight sg[1 / (|r|^2 + c)^power] |r|^2 (MeanFlow, arXiv 2505.13447).

    Args:
        power: Exponent. 0 gives `squared`.
        c: Constant that bounds the weight of small residuals, in units of `size`.
        size: |r|^2, the sum over coordinates by default; `squared` for papers that define c for the mean.

    Returns:
        The weight.
    """
    within(0, math.inf, c=c)
    if power == 0:
        return squared

    def weigh(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        square = size(residual, s, t)
        return square / (square.detach() + c) ** power

    return weigh


@checked
def normalised(c: float = 0.1) -> Weight:
    """Normalised weight sg[1 / (|r| + c)] |r|^2.

    Args:
        c: Constant that bounds the weight of small residuals.

    Returns:
        The weight. It has the gradient of tangent normalisation g / (|g| + c).

    sCM, arXiv 2410.11081; Align Your Flow, arXiv 2506.14603.
    """
    within(0, math.inf, c=c)

    def weigh(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        square = summed(residual, s, t)
        return square / (square.detach().sqrt() + c)

    return weigh


@checked
def huber(c: float = 0.03) -> Weight:
    """Pseudo-Huber distance sqrt(|r|^2 + c^2 D) - c sqrt(D), D the number of coordinates.

    Args:
        c: Root mean square at which the distance changes from quadratic to linear.

    Returns:
        The weight.

    iCT, Song and Dhariwal 2024, arXiv 2310.14189.
    """
    within(0, math.inf, c=c)

    def weigh(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        size = residual[0].numel()
        return (summed(residual, s, t) + c**2 * size).sqrt() - c * math.sqrt(size)

    return weigh


@checked
def huber_each(c: float = 1e-3) -> Weight:
    """Pseudo-Huber distance by coordinate, the mean over coordinates of sqrt(r^2 + c^2) - c.

    Args:
        c: Size of a coordinate at which the distance changes from quadratic to linear.

    Returns:
        The weight.

    Latent consistency models, arXiv 2310.04378.
    """
    within(0, math.inf, c=c)

    def weigh(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return ((_flat(residual) ** 2 + c**2).sqrt() - c).mean(1)

    return weigh


@checked
def cauchy(c: float = 1.0) -> Weight:
    """Cauchy distance log(1 + mean r^2 / c^2), in which outliers count little.

    Args:
        c: Root mean square at which a residual begins to count as an outlier.

    Returns:
        The weight.

    Decoupled MeanFlow, arXiv 2510.24474, without its learned scale.
    """
    positive(c=c)

    def weigh(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return torch.log1p(squared(residual, s, t) / c**2)

    return weigh


def by_interval(factor: Callable[[Tensor, Tensor], Tensor], weight: Weight = squared) -> Weight:
    """Multiply a weight by a factor of the interval.

    Args:
        factor: Function (s, t) -> (B,).
        weight: The weight to multiply.

    Returns:
        The weight. `by_interval(lambda s, t: (t - s) ** 2)` measures an average velocity in units of position.
    """

    def weigh(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return factor(s, t) * weight(residual, s, t)

    return weigh


class Learned(nn.Module):
    """Weight exp(-w(s, t)) |r|^2 / D + w(s, t) with a learned log-variance w of the interval.

    Args:
        channels: Number of random cosine features of s and t; w is linear in them, zero at first.
        weight: The weight |r|^2 / D.
        seed: Seed of the features.
        likelihood: Function (|r|^2 / D, w) -> the loss, (B,). None: the negative log-likelihood of a Gaussian.

    At its optimum exp(w) is the mean square residual at (s, t), so all intervals count alike. Its weights belong to the
    method: optimise `method.parameters()` with the flow's. This is the two-time form of EDM2's weight (arXiv
    2312.02696; arXiv 2505.18825).
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(
        self,
        channels: int = 128,
        weight: Weight = squared,
        seed: int = 0,
        likelihood: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        at_least(1, channels=channels)
        check_seed(seed)
        self.weight = weight
        self.likelihood = gaussian_likelihood if likelihood is None else likelihood
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("frequencies", 2 * math.pi * torch.randn(2, channels, generator=generator))
        self.register_buffer("phases", 2 * math.pi * torch.rand(channels, generator=generator))
        self.linear = nn.Linear(channels, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def log_variance(self, s: Tensor, t: Tensor) -> Tensor:
        """Log-variance w(s, t), (B,)."""
        features = torch.cos(torch.stack([s, t], 1).to(self.frequencies) @ self.frequencies + self.phases)
        return self.linear(features / math.sqrt(features.shape[1] / 2)).squeeze(1)

    def forward(self, residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Weighted loss of each row, (B,)."""
        w = self.log_variance(s, t).to(residual.dtype)
        return self.likelihood(self.weight(residual, s, t), w)


def gaussian_likelihood(square: Tensor, w: Tensor) -> Tensor:
    """Negative log-likelihood of a Gaussian, exp(-w) r^2 + w, up to scale.

    Args:
        square: r^2, (B,).
        w: Log-variance, (B,). The loss is least at exp(w) = r^2.

    Returns:
        The loss, (B,).
    """
    return torch.exp(-w) * square + w


def cauchy_likelihood(square: Tensor, w: Tensor) -> Tensor:
    """Negative log-likelihood of a Cauchy distribution, log(exp(-w) r^2 + 1) + w/2: outliers count little.

    Args:
        square: r^2, (B,).
        w: Log of the squared scale, (B,). The loss is least at exp(w) = r^2.

    Returns:
        The loss, (B,).

    Decoupled MeanFlow, arXiv 2510.24474.
    """
    return torch.log1p(torch.exp(-w) * square) + w / 2


@checked
def learned(channels: int = 128) -> Learned:
    """Weight with a learned log-variance of the interval: see `Learned`."""
    return Learned(channels)


@checked
def learned_cauchy(channels: int = 128) -> Learned:
    """Weight with a learned scale and the heavy tails of a Cauchy distribution: see `cauchy_likelihood`."""
    return Learned(channels, likelihood=cauchy_likelihood)
