"""A distance of two distributions by the moments of their features, remembered over the steps of training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..arguments import positive, shown, within
from .companions import Companion


class FrechetDistance(Companion):
    """Weight: the Fréchet distance of samples and data, by features (B, 2, D) of both, or (B, 1, D) of samples.

        |m - m_r|^2 + tr S + tr S_r - 2 sum sqrt(eigenvalues of R S R + eps),   R = sqrt(S_r)

    The moments of samples are averages over the last steps, with gradient through the present batch alone. The moments
    of data are averages over all steps so far, or given ones. The gradient is the one of FD / (sg[FD] + c); the value
    is FD itself, because the loss of the former is constant. Give it as the `weight` of a `Term` with
    `group=draws.WHOLE`.

    Args:
        reference: Mean (D,) and covariance (D, D) of the features of data. None: they are measured in training.
        decay: Decay of the samples' moments for each step, in [0, 1). 0: the present batch alone. Remembered moments
            lag behind the map, so that a large learning rate makes the distance swing and not fall.
        eps: Added to the eigenvalues: the gradient is finite even if all samples are equal.
        c: Constant that bounds the factor of small distances.

    Raises:
        ValueError: A number is out of range, or the reference is no mean and covariance. In calls: there are fewer
            samples than features, or features of another size.

    Yang et al. 2026, arXiv 2604.28190.
    """

    compares = True
    sums: Tensor
    reference: Tensor

    def __init__(
        self,
        reference: tuple[Tensor, Tensor] | None = None,
        decay: float = 0.0,
        eps: float = 1e-6,
        c: float = 1e-3,
    ) -> None:
        super().__init__()
        within(0, 1, decay=decay)
        if decay == 1:
            raise ValueError("the decay of the samples' moments must be below 1, where they never forget")
        positive(eps=eps, c=c)
        self.decay, self.eps, self.c, self.network = decay, eps, c, None
        self.given = reference is not None
        self.register_buffer("sums", torch.zeros(0))
        self.register_buffer("reference", torch.zeros(0) if reference is None else _moments_of(*reference))

    def make(self, flow: Any) -> None:
        """Do nothing: a distance has no network."""

    def restart(self, flow: Any) -> None:
        """Forget the samples, and the data unless their moments were given."""
        self.sums = self.sums.new_zeros(0)
        if not self.given:
            self.reference = self.reference.new_zeros(0)

    def forward(self, residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """The distance, the same for each row: features (B, 1 or 2, D) -> (B,)."""
        size, known = residual.shape[-1], len(residual) / (1 - self.decay)
        if known <= size:
            raise ValueError(
                f"a Fréchet distance of {size} features needs more samples than features, and {len(residual)} rows "
                f"with a decay of {self.decay:g} count as {known:.0f}: take a larger batch or decay, or fewer features"
            )
        if self.given and len(self.reference) != size + 1:
            raise ValueError(f"the reference has {len(self.reference) - 1} features, and the samples have {size}")
        fresh = sums_of(residual)
        samples = fresh[0] + self.decay * self.sums if len(self.sums) else fresh[0]
        data = self.reference if self.given else fresh[1].detach() + (self.reference if len(self.reference) else 0)
        distance = frechet(*mean_and_covariance(samples), *mean_and_covariance(data), self.eps)
        loss = distance / (distance.detach().clamp(min=0) + self.c)
        return (distance.detach() + loss - loss.detach()).to(residual.dtype).expand(len(residual))

    @torch.no_grad()
    def observe(self, loss: Any) -> None:
        """Add the features of a step to the moments.

        Args:
            loss: The `TermLoss`, whose residual is the features.
        """
        fresh = sums_of(loss.residual.detach())
        self.sums = fresh[0] + self.decay * self.sums if len(self.sums) else fresh[0]
        if not self.given:
            self.reference = fresh[1] + self.reference if len(self.reference) else fresh[1]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        state, prefix = args[:2]
        for name in ("sums", "reference"):  # their size is known after the first step
            if prefix + name in state:
                setattr(self, name, torch.empty_like(state[prefix + name], device=self.sums.device))
        super()._load_from_state_dict(*args, **kwargs)

    def __repr__(self) -> str:
        return f"FrechetDistance(decay={self.decay:g})"


def sums_of(features: Tensor) -> Tensor:
    """Sums of [1, f] [1, f]^T over rows of features (B, k, D): (k, D + 1, D + 1), in float64 if the device has it."""
    wide = features.transpose(0, 1).to(torch.float32 if features.device.type == "mps" else torch.float64)
    wide = torch.cat([torch.ones_like(wide[..., :1]), wide], -1)
    return wide.mT @ wide


def mean_and_covariance(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of `sums_of` features, (D + 1, D + 1)."""
    mean = sums[0, 1:] / sums[0, 0]
    return mean, sums[1:, 1:] / sums[0, 0] - mean[:, None] * mean


def frechet(mean: Tensor, covariance: Tensor, mean_r: Tensor, covariance_r: Tensor, eps: float = 0.0) -> Tensor:
    """Fréchet distance of two Gaussians, differentiable in the first one; see `FrechetDistance`."""
    values, axes = torch.linalg.eigh(covariance_r)
    root = (axes * values.clamp(min=0).sqrt()) @ axes.mT
    cross = (torch.linalg.eigvalsh(root @ covariance @ root).clamp(min=0) + eps).sqrt().sum()
    return (mean - mean_r).square().sum() + covariance.trace() + covariance_r.trace() - 2 * cross


def _moments_of(mean: Tensor, covariance: Tensor) -> Tensor:
    """The sums of one row whose mean and covariance are given."""
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(f"a reference is a mean (D,) and a covariance (D, D), got {shown((mean, covariance))}")
    one = torch.cat([mean.new_ones(1), mean]).double()
    found = one[:, None] * one
    found[1:, 1:] += covariance
    return found
