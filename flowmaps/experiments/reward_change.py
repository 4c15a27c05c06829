"""The reward of a run's samples before and after post-training, beside the law that it should reach."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..arguments.memory import rows_at_a_time
from ..evaluate.distances import Estimate
from ..evaluate.rewards import reward_bound
from ..runs.loading import load
from ..steering.reward import Rewards, rewarded
from .posttraining_methods import ODE_STEPS
from .sampling import sample

FEW = 10
"""Effective number of samples below which their weighted mean is no estimate of the tilted law."""
LOST = 0.5
"""Share of the diversity of the tilted law below which the samples have collapsed."""


@dataclass(frozen=True)
class Rewarded:
    """Samples of a run with their rewards.

    Attributes:
        x: The samples, (N, ...).
        rewards: Their rewards, (N,).
        steps: Steps of each sample.
    """

    x: Tensor
    rewards: Tensor
    steps: int


@dataclass(frozen=True)
class RewardChange:
    """The reward and the diversity of samples before and after post-training.

    Attributes:
        before: Mean reward before.
        after: Mean reward after.
        tilted: Mean reward of the tilted law, by the samples before with weights e^{r/beta}; None if fewer than 10 of
            them count.
        diversity_before: Root mean square distance of two samples before.
        diversity_after: The same after.
        diversity_tilted: The same of the tilted law; None likewise.
        effective: Effective share of the samples before, with these weights.
        bound: beta log E e^{r/beta}, which no law's E r - beta KL exceeds.
        n: Number of samples.
        steps: Steps of each sample, before and after.
    """

    before: Estimate
    after: Estimate
    tilted: Estimate | None
    diversity_before: float
    diversity_after: float
    diversity_tilted: float | None
    effective: float
    bound: Estimate
    n: int
    steps: tuple[int, int]

    @property
    def collapsed(self) -> str | None:
        """A warning if the samples have lost the diversity of the tilted law; None if they have it or it is unknown."""
        if self.diversity_tilted is None or self.diversity_after >= LOST * self.diversity_tilted:
            return None
        return (
            f"the post-trained samples have lost their diversity: the distance of two of them is "
            f"{self.diversity_after:.3g}, and {self.diversity_tilted:.3g} in the law p e^(r/beta) / Z: take fewer "
            "`steps`, a larger `beta`, or `method=tilting`"
        )


def rewarded_samples(run: Path, reward: Rewards, n: int, device: str, seed: int) -> Rewarded:
    """Sample a run, by one jump or, without jumps, by its ODE, and compute the rewards.

    Args:
        run: The run folder.
        reward: The reward.
        n: Number of samples.
        device: Device of the samples and of the reward.
        seed: Seed of the noise.

    Returns:
        The samples with their rewards.

    Raises:
        ValueError: The reward fails its checks.
    """
    trained = load(run).trained
    steps = ODE_STEPS if trained is not None and not trained.jumps else 1
    x = sample(run, n=n, steps=steps, seed=seed, device=device)
    with torch.no_grad():
        parts = [rewarded(reward, rows.to(device)) for rows in x.split(rows_at_a_time(x[0].numel(), 1024))]
    return Rewarded(x.double(), torch.cat(parts).double().cpu(), steps)


def reward_change(before: Rewarded, after: Rewarded, beta: float) -> RewardChange:
    """Compare the rewards of samples before and after post-training; warns if the samples have collapsed.

    Args:
        before: Samples before.
        after: Samples after.
        beta: Temperature.

    Returns:
        The comparison.
    """
    found = reward_bound(_itself, beta, after.rewards[:, None], before.rewards[:, None])
    weight = (before.rewards / beta).softmax(0)
    known, tilted = found.effective >= FEW, float((weight * before.rewards).sum())
    error = float((weight**2 * (before.rewards - tilted) ** 2).sum()) ** 0.5
    equal = torch.full_like(weight, 1 / len(weight))
    change = RewardChange(
        before=found.prior_reward,
        after=found.reward,
        tilted=Estimate(tilted, error) if known else None,
        diversity_before=diversity(before.x, equal),
        diversity_after=diversity(after.x, torch.full((len(after.x),), 1 / len(after.x)).double()),
        diversity_tilted=diversity(before.x, weight) if known else None,
        effective=found.effective / len(weight),
        bound=found.bound,
        n=len(weight),
        steps=(before.steps, after.steps),
    )
    if (warning := change.collapsed) is not None:
        warnings.warn(warning, stacklevel=2)
    return change


def diversity(x: Tensor, weight: Tensor) -> float:
    """Root mean square distance of two different samples.

    Args:
        x: The samples, (N, ...).
        weight: Their weights (N,), with sum 1.

    Returns:
        The distance.
    """
    rows = x.flatten(1)
    mean = weight @ rows
    variance = float(weight @ ((rows - mean) ** 2).sum(1)) / max(1 - float((weight**2).sum()), 1e-12)
    return (2 * variance) ** 0.5


_itself: Callable[[Tensor], Tensor] = lambda rewards: rewards[:, 0]  # noqa: E731
