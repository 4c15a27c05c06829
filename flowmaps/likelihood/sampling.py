"""Samples together with their log-densities, and their weights under an energy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..arguments import at_least, brief_repr, expect_floating, shown
from ..flow_map import like_weights
from ..sampling import Condition, by_name, placed, restored, rows_of
from ..sampling.grid import descending
from ..sampling.states import bound_to, check_noise
from ..steps import Step, jump, named
from ..units import units_of
from .joint import followed
from .jumps import refuse_untrained, stepped, warn_of_folds
from .log_prob import ROWS, scale_of
from .result import log_noise


@torch.no_grad()
def sample(
    flow: Any,
    noise: Tensor,
    steps: int | None = None,
    *,
    step: Step | str = jump,
    by: Literal["determinants", "head"] = "determinants",
    condition: Condition = None,
    chunk: int = 16,
    batch_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Sample, and compute the log-density of each sample in the same pass.

        log p_N(x_0) = log N(z) - sum log |det dF/dx|,   from z to x_0, one term for each step

    It is the density of the law that these steps sample, exactly, whatever the quality of the map. The head of a joint
    map gives it at the cost of the jumps alone, log N(z) - sum (t - s) D, but without this guarantee.

    Args:
        flow: A FlowMap, an exact distribution or a teacher.
        noise: Noise (B, ...), such as `fm.noise(flow, n)`.
        steps: Number of equal steps. None: 1.
        step: Deterministic step, or its name.
        by: "determinants", one derivative for each value of a row, or the "head" of a joint map (`joint_map`).
        condition: Keyword arguments of the network beside x, s and t. A tensor means {"label": tensor}.
        chunk: Number of derivatives at a time; each step has one for each value of a row.
        batch_size: Number of rows at a time. None: chosen by the size of a row.

    Returns:
        The samples in the units of the flow, and their log-densities in nats, (B,), NaN where a step folds space.

    Raises:
        TypeError: The noise is no tensor, or the map has no head for `by="head"`.
        ValueError: The map was not trained on these jumps, its head is untrained, or the head is asked for other steps
            than jumps.
    """
    check_noise(noise)
    check_choice(by, step)
    times, step, like, units = descending(steps, None), named(step), like_weights(flow), units_of(flow)
    refuse_untrained(flow, times, step)
    z = placed(like, noise)
    conditions = {name: placed(like, value) for name, value in by_name(condition).items()}
    size = batch_size or max(1, ROWS // max(1, z[0].numel()))
    samples, logarithms, folds = [], [], []
    for start in range(0, len(z), size):
        rows = slice(start, start + size)
        bound = bound_to(flow, {name: rows_of(value, rows) for name, value in conditions.items()}, len(z[rows]))
        if by == "head":
            x, gained = followed(bound, z[rows], times)
            change, folded = -gained, torch.zeros(len(x), dtype=torch.long, device=x.device)
        else:
            x, change, folded, _ = stepped(bound, z[rows], times, step, chunk)
        samples.append(x)
        logarithms.append(torch.where(folded == 0, log_noise(flow, z[rows]) - change, torch.nan))
        folds.append(folded)
    warn_of_folds(torch.cat(folds), "from noise to data")
    x = torch.cat(samples)
    change_of_units = 0.0 if units is None else scale_of(units, x.shape[1:])
    return restored(flow, x, 0.0), torch.cat(logarithms) + change_of_units


def check_choice(by: Any, step: Any) -> None:
    """Raise ValueError for an unknown way to log-densities, and for a head beside steps that are no jumps."""
    if by not in ("determinants", "head"):
        raise ValueError(f"by= is 'determinants' or 'head', got {shown(by)}")
    if by == "head" and named(step) is not jump:
        raise ValueError("the head of a joint map knows the log-densities of jumps alone: leave step= out")


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
    logarithm = torch.where(log_prob.isnan(), -math.inf, -energy - log_prob)
    total = logarithm.logsumexp(0)
    if not bool(total.isfinite()):
        raise ValueError("no sample has a finite weight: look at the energies")
    weights = (logarithm - total).exp()
    return Weighted(weights, 1 / (len(weights) * float(weights.square().sum())), float(total) - math.log(len(weights)))
