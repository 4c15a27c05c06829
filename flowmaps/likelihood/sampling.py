"""Samples together with their log-densities, and their weights under an energy."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, brief_repr, expect_floating, shown
from ..flow_map import like_weights
from ..sampling import Condition, placed, restored
from ..sampling.grid import descending
from ..sampling.states import bound_to_rows, check_noise, conditions_of
from ..steps import Step, jump
from .by_jumps import Followed, determinants, deterministic, refuse_untrained, warn_of_folds
from .densities import batches, check_result, check_states, on_manifold, scale_of
from .result import log_noise


@torch.no_grad()
def sample(
    flow: Any,
    noise: Tensor,
    steps: int | None = None,
    *,
    times: Sequence[float] | None = None,
    step: Step | str = jump,
    by: Followed = determinants,
    condition: Condition = None,
    chunk: int = 16,
    batch_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Sample, and compute the log-density of each sample in the same pass.

        log p_N(x_0) = log N(z) - sum log |det dF/dx|,   from z to x_0, one term for each step

    It is the density of the law that these steps sample, exactly, whatever the quality of the map, as long as the map
    is invertible. The head of a joint map gives log N(z) - sum (t - s) D at the cost of the jumps alone, but without
    this guarantee.

    Args:
        flow: A FlowMap, an exact distribution or a teacher.
        noise: Noise (B, ...), such as `fm.noise(flow, n)`.
        steps: Number of equal steps. None: 1.
        times: Times of the states instead, from 1 to 0.
        step: Deterministic step, or its name.
        by: Function that follows the steps and tells the change of volume: `determinants`, with one derivative for each
            value of a row, or `head`, the head of a joint map (`joint_map`).
        condition: Keyword arguments of the network beside x, s and t. A tensor means {"label": tensor}.
        chunk: Number of derivatives at a time; each step has one for each value of a row.
        batch_size: Number of rows at a time. None: chosen by the size of a row.

    Returns:
        The samples in the units of the flow, and their log-densities in nats, (B,), NaN where a step folds space.

    Raises:
        TypeError: The noise is no tensor, `by` no function, or the map has no head.
        ValueError: The noise is empty or has another shape than the data of training, the map was not trained on these
            jumps, the step is random, the times do not begin at 1, the head is untrained, or it is asked for other
            steps than jumps.
        FloatingPointError: The result of a row is not finite.
    """
    check_noise(noise)
    check_states("noise", flow, noise)
    at_least(1, chunk=chunk)
    if not inspect.isroutine(by):
        raise TypeError(f"by= takes likelihood.determinants or likelihood.head, got {shown(by)}")
    grid, step = descending(steps, times), deterministic(step)
    if grid[0] != 1:
        raise ValueError(f"the times must begin at 1, where the density of the noise is known, got {grid[0]:g}")
    refuse_untrained(flow, grid, step)
    change_of_units, z = scale_of(flow, noise), placed(like_weights(flow), on_manifold("noise", flow, noise))
    conditions, parts = conditions_of(flow, condition, len(z)), []
    for rows in batches(z, batch_size):
        bound = bound_to_rows(flow, conditions, z, rows)
        x, change, folded = by(bound, z[rows], grid, step, chunk)
        value = torch.where(folded == 0, log_noise(flow, z[rows]) - change, torch.nan)
        parts.append((x, value, folded))
    x, value, folded = (torch.cat(part) for part in zip(*parts, strict=True))
    warn_of_folds(folded, "from noise to data")
    check_result(value, folded)
    return restored(flow, x, grid[-1]), value + change_of_units


@dataclass(frozen=True)
class Weighted:
    """Importance weights of samples under an energy.

    Attributes:
        weights: Weights of the samples, with sum 1, (B,).
        ess: Effective sample size as a share of the samples, (sum w)^2 / (B sum w^2), in (0, 1].
        log_z: Estimate of the logarithm of the normaliser, log of the mean of e^{-E} / p.
    """

    weights: Tensor
    ess: float
    log_z: float

    __repr__ = brief_repr


def importance(log_prob: Tensor, energy: Tensor) -> Weighted:
    """Weigh samples of a flow so that they follow the law e^{-E} / Z.

        w = e^{-E(x)} / p(x)

    Args:
        log_prob: Log-densities of the samples under the law that made them, (B,), from `sample`.
        energy: Energies E of the samples, (B,).

    Returns:
        The weights, their effective sample size and log Z. Samples without a density (NaN) get no weight, but count.

    Raises:
        ValueError: The shapes differ, or no sample has a finite weight.
    """
    expect_floating("log_prob", log_prob)
    expect_floating("energy", energy)
    at_least(1, samples=len(log_prob))
    if log_prob.shape != energy.shape or log_prob.ndim != 1:
        raise ValueError(f"expected one energy for each sample, got {tuple(energy.shape)} and {tuple(log_prob.shape)}")
    if bool(energy.isnan().any()):
        raise ValueError("an energy is NaN")
    logarithm = torch.where(log_prob.isnan(), -math.inf, -energy - log_prob).double()
    total = logarithm.logsumexp(0)
    if not bool(total.isfinite()):
        raise ValueError("no sample has a finite weight: look at the energies")
    weights = (logarithm - total).exp()
    ess = 1 / (len(weights) * float(weights.square().sum()))
    return Weighted(weights.to(log_prob.dtype), ess, float(total) - math.log(len(weights)))
