"""Filtered samples: the samples of a model that have a high reward, as training data for any method."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, given, positive, shown
from ..serialise import public_name
from ..steps import Step, jump
from .core import DRAW, Data, generator
from .coupling import made_pairs, signature
from .sources import TensorRows, hold_out


def filtered(
    teacher: Any,
    data: Any,
    reward: Callable[[Tensor], Tensor],
    n: int = 10_000,
    *,
    candidates: int = 8,
    beta: float | None = None,
    steps: int = 1,
    step: Step = jump,
    seed: int = 0,
    batch_size: int = 1000,
    labels: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Data:
    """Keep the samples of a model that have a high reward: the simplest post-training.

    Any method that trains on these rows learns the law of the kept samples. With best-of-N it is the law N p(x) P(r' <=
    r)^{N-1}, whose divergence from p is log N - (N - 1)/N for a continuous reward. With weights it is the tilted law
    p(x) e^{r(x)/beta} / Z, in the limit of many candidates. The noise of the samples is not kept: pairs of kept noise
    and its sample lie on the map of the model, so training on them would teach that map again.

    Args:
        teacher: The model, as in `reflow`.
        data: The data set that gives the shape and the labels.
        reward: Function of data (B, ...) -> (B,), in the units of the data and on the CPU. No gradient is used.
        n: Number of rows that are kept.
        candidates: Samples that are made for each kept row.
        beta: Temperature of the weights e^{r/beta}: n rows are drawn from all candidates by systematic resampling.
            None: the best of each group of `candidates` is kept.
        steps: Number of steps of a sample.
        step: Step of the sampler; a jump of a flow map by default.
        seed: Seed of the noise and the labels.
        batch_size: Number of rows that the model computes at once.
        labels: Whether the model gets labels, as in `reflow`. The candidates of a row may have different labels.
        progress: Function (candidates done, candidates in all) that is called after each batch.

    Returns:
        A data set of the kept rows, of which a fifth is held out.

    Raises:
        TypeError: The model has no velocity, or the reward is no function.
        ValueError: The reward returns another shape or is not finite, or an error of `reflow`.
    """
    if not callable(reward):
        raise TypeError(f"a reward is a function of data (B, ...) -> (B,), got {shown(reward)}")
    at_least(1, n=n, candidates=candidates)
    positive(**given(beta=beta))
    data, (x0, label, _) = made_pairs(teacher, data, n * candidates, steps, step, seed, batch_size, labels, progress)
    found = _rewards(lambda rows: reward(data.in_units(rows)), x0, batch_size)
    if beta is None:
        kept = found.reshape(n, candidates).argmax(1) + candidates * torch.arange(n)
    else:
        kept = _resampled(found.double() / beta, n, seed)
    rows = TensorRows(x0[kept], None if label is None else label[kept])
    made = {"teacher": public_name(type(teacher)), "signature": signature(teacher), "candidates": candidates}
    return replace(
        data,
        name=f"filtered samples for {data.name}",
        source=hold_out(rows),
        classes=None if label is None else data.classes,
        class_names=None if label is None else data.class_names,
        exact=None,
        log_prob=None,
        recipe=None,
        coupling={**made, "n": n, "beta": beta, "steps": steps, "step": step, "seed": seed},
    )


def _rewards(reward: Callable[[Tensor], Tensor], x0: Tensor, batch_size: int) -> Tensor:
    """The reward of every row, some rows at a time, (N,)."""
    parts = []
    with torch.no_grad():
        for rows in x0.split(batch_size):
            found = reward(rows)
            if not isinstance(found, Tensor) or found.shape != rows.shape[:1]:
                raise ValueError(
                    f"a reward of {len(rows)} rows is a tensor of shape ({len(rows)},), got {shown(found)}"
                )
            parts.append(found.detach().cpu())
    found = torch.cat(parts)
    if not bool(found.isfinite().all()):
        raise ValueError(f"a reward is not finite in {int((~found.isfinite()).sum())} of {len(found)} samples")
    return found


def _resampled(log_weight: Tensor, n: int, seed: int) -> Tensor:
    """Numbers of n rows by systematic resampling."""
    weight = log_weight.softmax(0)
    if (effective := float(1 / (weight**2).sum())) < 2:
        warnings.warn(
            f"the weights of {len(weight)} samples are those of {effective:.1f} equal ones: raise beta, make more "
            "candidates, or steer the samples",
            stacklevel=4,
        )
    places = (torch.arange(n) + torch.rand((), generator=generator(seed, 0, DRAW))) / n
    return torch.searchsorted(weight.cumsum(0), places.double()).clamp(max=len(weight) - 1)
