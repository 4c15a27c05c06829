"""The result of steered sampling: samples of equal weight, their mean and spread, and the numbers that judge them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..draws import mixed, seeded_by
from ..steering.reward import Rewards, rewarded
from ..steering.search import Candidates
from ..steering.smc import Particles
from .measurements import Measurement


@dataclass(frozen=True, repr=False)
class Steered:
    """Steered samples, and the numbers that judge them.

    Attributes:
        x: Samples of equal weight, (n, ...), on the CPU, in the units of the data; latents stay latents.
        mean: Their mean, of the shape of one row; of all weighted particles where there are some.
        std: Their standard deviation, likewise.
        numbers: Numbers by name: "reward", the mean reward; "spread", the root mean square of `std`; of weighted
            particles "ess", the least effective share of them on the way, and "kl", the divergence from the unsteered
            law in nats; "log_z" of these and of the best of some; of a measurement "residual", the root mean square of
            y - A(x) in units of its noise, about 1 for samples that fit, and "psnr" of the mean in decibels, where the
            truth is known.
        measurement: The measurement; None for another reward.
        target: The reward or measurement in words.
        method: Name of the method.
        steps: Number of steps.
        particles: Number of particles, or of candidates for each sample; None for samples by themselves.
        step: Step of training of the weights.
    """

    x: Tensor
    mean: Tensor
    std: Tensor
    numbers: Mapping[str, float]
    measurement: Measurement | None
    target: str
    method: str
    steps: int
    particles: int | None
    step: int

    def __repr__(self) -> str:
        known = ", ".join(f"{name}={value:.3g}" for name, value in self.numbers.items())
        return f"Steered({len(self.x)} samples of shape {tuple(self.x.shape[1:])} by {self.method}, {known})"


def summary(
    found: Particles | Candidates | Tensor, reward: Rewards, measurement: Measurement | None, n: int, seed: int
) -> tuple[Tensor, Tensor, Tensor, dict[str, float]]:
    """Samples of equal weight, their mean and standard deviation, and the numbers of `Steered`.

    Args:
        found: The result of a method.
        reward: The reward.
        measurement: The measurement.
        n: Number of samples; at most the number of particles.
        seed: Seed of the choice of samples among weighted particles.

    Returns:
        The four, on the CPU.
    """
    numbers: dict[str, float] = {}
    if isinstance(found, Particles):
        mean = found.mean(found.x)[0]
        variance = found.mean((found.x - mean).square())[0]
        numbers["reward"] = float(found.mean(found.rewards))
        told = {"ess": float(found.ess.min()), "log_z": float(found.log_z), "kl": float(found.kl)}
        residual = _residual(found.x, measurement)
        square = None if residual is None else found.mean(residual)
        x = _equal(found, n, seed)
    else:
        x = found.x if isinstance(found, Candidates) else found
        mean, variance = x.mean(0), x.var(0, correction=0)
        numbers["reward"] = float(rewarded(reward, x).mean())
        told = {}
        if isinstance(found, Candidates):
            told["log_z"] = float(found.rewards.flatten().logsumexp(0)) - math.log(found.rewards.numel())
        square = _residual(x, measurement)
    std = variance.clamp(min=0).sqrt()
    numbers["spread"] = float(std.square().mean().sqrt())
    numbers |= told
    if measurement is not None and square is not None:
        numbers["residual"] = float(square.mean().sqrt())
        if measurement.truth is not None:
            error = float((mean.cpu() - measurement.truth).square().mean())
            numbers["psnr"] = 10 * math.log10(4 / max(error, 1e-12))
    return x.cpu(), mean.cpu(), std.cpu(), numbers


def _residual(x: Tensor, measurement: Measurement | None) -> Tensor | None:
    """The mean square of y - A(x) for each row, in units of the noise, (B,)."""
    if measurement is None:
        return None
    return measurement.likelihood.residual(x).square().mean(1) / measurement.likelihood.std**2


def _equal(found: Particles, n: int, seed: int) -> Tensor:
    """Choose n samples of equal weight among weighted particles, in a random order."""
    with seeded_by(torch.device("cpu"), mixed(seed, 1)):
        order = torch.randperm(len(found.x))[:n]
    return found.resampled(seed=mixed(seed, 2))[order.to(found.x.device)]


def lines(result: Steered) -> list[str]:
    """The numbers of steered samples in words."""
    known = result.numbers
    first = [f"mean reward {known['reward']:.4g}", f"spread of samples {known['spread']:.3g}"]
    if "ess" in known:
        first.append(f"effective particles {known['ess'] * (result.particles or 1):.3g} of {result.particles} at least")
    if "log_z" in known:
        first.append(f"log Z {known['log_z']:.4g}")
    if "kl" in known:
        first.append(f"{known['kl']:.3g} nats from unsteered samples")
    found = [", ".join(first)]
    if "residual" in known:
        second = [f"residual {known['residual']:.3g} of the noise (about 1 fits the measurement)"]
        second += [f"PSNR of the mean {known['psnr']:.3g} dB"] if "psnr" in known else []
        found.append(", ".join(second))
    return found
