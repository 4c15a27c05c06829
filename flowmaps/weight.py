"""Weights and distances: from a residual to one number for each row.

A weight is a function (residual, s, t) -> (B,), with residual (B, ...) and s, t as (B,); a method averages it over the
rows. The plain one is `squared`. A weight that depends on the residual moves the minimum of a conditional-velocity loss
away from the conditional mean: exactness tests use `squared`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

Weight = Callable[[Tensor, Tensor, Tensor], Tensor]


def _flat(residual: Tensor) -> Tensor:
    return residual.reshape(len(residual), -1)


def squared(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """mean over coordinates of r^2."""
    return _flat(residual).square().mean(1)


def summed(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """sum over coordinates of r^2, as several papers define their constants."""
    return _flat(residual).square().sum(1)


def plain(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """mean over coordinates of r: for residuals that are distances or losses already."""
    return _flat(residual).mean(1)


def root(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """|r|, the Euclidean norm, with slope 0 at 0 (ECT, arXiv 2406.14548)."""
    square = summed(residual, s, t)
    zero = square == 0
    return torch.where(zero, square, torch.where(zero, torch.ones_like(square), square).sqrt())


def adaptive(power: float = 1.0, c: float = 1e-2, size: Weight = summed) -> Weight:
    """sg[1 / (|r|^2 + c)^power] |r|^2 with the sum over coordinates (MeanFlow, arXiv 2505.13447), or their mean
    (`size=squared`, for papers whose c belongs to it). power = 0 is `squared` up to scale.
    """
    if power == 0:
        return squared

    def weigh(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        square = size(residual, s, t)
        return square / (square.detach() + c) ** power

    return weigh


def normalised(c: float = 0.1) -> Weight:
    """sg[1 / (|r| + c)] |r|^2: the gradient of tangent normalisation g / (|g| + c) (sCM, arXiv 2410.11081; Align Your
    Flow, arXiv 2506.14603).
    """

    def weigh(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        square = summed(residual, s, t)
        return square / (square.detach().sqrt() + c)

    return weigh


def huber(c: float = 0.03) -> Weight:
    """sqrt(|r|^2 + c^2 D) - c sqrt(D), D coordinates: the pseudo-Huber distance of iCT (Song and Dhariwal 2024, arXiv
    2310.14189).
    """

    def weigh(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        size = residual[0].numel()
        return (summed(residual, s, t) + c**2 * size).sqrt() - c * math.sqrt(size)

    return weigh


def huber_each(c: float = 1e-3) -> Weight:
    """mean over coordinates of sqrt(r^2 + c^2) - c: the pseudo-Huber distance coordinate by coordinate (latent
    consistency models, arXiv 2310.04378).
    """

    def weigh(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return ((_flat(residual) ** 2 + c**2).sqrt() - c).mean(1)

    return weigh


def cauchy(c: float = 1.0) -> Weight:
    """log(1 + mean r^2 / c^2): a distance that all but forgets outliers (Decoupled MeanFlow, arXiv 2510.24474, without
    its learned scale).
    """

    def weigh(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return torch.log1p(squared(residual, s, t) / c**2)

    return weigh


def by_interval(factor: Callable[[Tensor, Tensor], Tensor], weight: Weight = squared) -> Weight:
    """factor(s, t) times another weight. `by_interval(lambda s, t: (t - s) ** 2)` measures an average velocity in units
    of position.
    """

    def weigh(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return factor(s, t) * weight(residual, s, t)

    return weigh


class Learned(nn.Module):
    """exp(-w(s, t)) |r|^2 / D + w(s, t) with a learned log-variance w: the two-time form of EDM2's weight (arXiv
    2312.02696; arXiv 2505.18825).

    w is a linear function of random cosine features of s and t, zero at first. At its optimum exp(w) is the mean square
    residual at (s, t), so all intervals count alike. Its weights belong to the method: optimise `method.parameters()`
    with the flow's. `likelihood(|r|^2 / D, w)` is the loss, the negative log-likelihood of a Gaussian by default.
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
        self.weight = weight
        self.likelihood = gaussian_likelihood if likelihood is None else likelihood
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("frequencies", 2 * math.pi * torch.randn(2, channels, generator=generator))
        self.register_buffer("phases", 2 * math.pi * torch.rand(channels, generator=generator))
        self.linear = nn.Linear(channels, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def log_variance(self, s: Tensor, t: Tensor) -> Tensor:
        """w(s, t), (B,)."""
        features = torch.cos(torch.stack([s, t], 1).to(self.frequencies) @ self.frequencies + self.phases)
        return self.linear(features / math.sqrt(features.shape[1] / 2)).squeeze(1)

    def forward(self, residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        w = self.log_variance(s, t).to(residual.dtype)
        return self.likelihood(self.weight(residual, s, t), w)


def gaussian_likelihood(square: Tensor, w: Tensor) -> Tensor:
    """exp(-w) r^2 + w."""
    return torch.exp(-w) * square + w


def cauchy_likelihood(square: Tensor, w: Tensor) -> Tensor:
    """log(exp(-w) r^2 + 1) + w/2, least where exp(w) = r^2: outliers all but drop out (Decoupled MeanFlow, arXiv
    2510.24474).
    """
    return torch.log1p(torch.exp(-w) * square) + w / 2


def learned(channels: int = 128) -> Learned:
    """A learned two-time log-variance: see `Learned`."""
    return Learned(channels)


def learned_cauchy(channels: int = 128) -> Learned:
    """The same with the heavy tails of a Cauchy distribution: see `cauchy_likelihood`."""
    return Learned(channels, likelihood=cauchy_likelihood)
