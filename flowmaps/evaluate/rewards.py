"""The objective of post-training on a reward, beside the bound that no map can exceed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import expect_finite, expect_floating, positive, shown
from .distances import Estimate


class RewardBound(NamedTuple):
    """How close a post-trained law q comes to the best trade of reward against divergence from p.

    Attributes:
        reward: E_q r.
        prior_reward: E_p r.
        divergence: KL(q | p) in nats; None if the densities are not known.
        objective: E_q r - beta KL(q | p); None likewise.
        bound: beta log E_p e^{r/beta}, which the tilted law p e^{r/beta} / Z reaches and no law exceeds.
        effective: Effective number of the samples of p behind the bound; below 10 it is no estimate.
    """

    reward: Estimate
    prior_reward: Estimate
    divergence: Estimate | None
    objective: Estimate | None
    bound: Estimate
    effective: float


def reward_bound(
    reward: Callable[[Tensor], Tensor],
    beta: float,
    samples: Tensor,
    prior: Tensor,
    *,
    log_ratio: Tensor | None = None,
) -> RewardBound:
    """Compare post-training with its bound, E_q r - beta KL(q | p) <= beta log E_p e^{r/beta}.

    Args:
        reward: Function of data (B, ...) -> (B,).
        beta: Temperature.
        samples: Samples of the post-trained law q, (N, ...).
        prior: Samples of p, the law before, (M, ...). A sharp reward needs many.
        log_ratio: log q(x) - log p(x) of each of `samples`, (N,), where both densities are known. None: the objective
            is left out, and the reward alone may exceed the bound.

    Returns:
        The estimates, each with its standard error.

    Raises:
        ValueError: beta is not positive, a shape does not fit, or a value is not finite.
    """
    positive(beta=beta)
    after, before = (_rewards(reward, name, x) for name, x in (("samples", samples), ("prior", prior)))
    weight = (before / beta - (before / beta).max()).exp()
    mean = weight.mean()
    bound = beta * float(mean.log() + (before / beta).max())
    error = beta * float(weight.std() / mean) / len(weight) ** 0.5
    effective = float(weight.sum() ** 2 / (weight**2).sum())
    if effective < 10:
        warnings.warn(
            f"the bound rests on {effective:.1f} of {len(weight)} samples of the law before: draw more, or raise beta",
            stacklevel=2,
        )
    divergence = objective = None
    if log_ratio is not None:
        expect_finite("log_ratio", log_ratio[None])
        if log_ratio.shape != after.shape:
            raise ValueError(f"log_ratio has one value for each of {len(after)} samples, got {tuple(log_ratio.shape)}")
        ratio = log_ratio.detach().double()
        divergence, objective = _mean(ratio), _mean(after - beta * ratio)
    return RewardBound(_mean(after), _mean(before), divergence, objective, Estimate(bound, error), effective)


def _rewards(reward: Callable[[Tensor], Tensor], name: str, x: Tensor) -> Tensor:
    """The reward of samples in float64, (N,)."""
    expect_floating(name, x, least=2)
    if len(x) < 2:
        raise ValueError(f"{name} must be 2 rows or more, got {len(x)}")
    with torch.no_grad():
        found = reward(x)
    if not isinstance(found, Tensor) or found.shape != x.shape[:1]:
        raise ValueError(f"a reward of {len(x)} rows is a tensor of shape ({len(x)},), got {shown(found)}")
    expect_finite(f"the rewards of {name}", found[None])
    return found.double()


def _mean(values: Tensor) -> Estimate:
    """A mean with its standard error."""
    return Estimate(float(values.mean()), float(values.std()) / len(values) ** 0.5)
