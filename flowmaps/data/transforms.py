"""Random transforms of training batches: label and text dropout, guidance scales, mirroring, sampling from moments.

A transform is a function (batch, draws) -> batch. Its random numbers are a function of the seed, the batch number and
the row, so neither resuming a run nor the number of processes changes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, brief_repr, finite, numbered
from ..guidance.conditions import null_rows
from .core import Batch, Data, kind_of
from .labels import condition_of
from .transformed import BatchDraws, Transform, Transformed, transformed, transforms_of

__all__ = [
    "BatchDraws", "Dequantise", "GuidanceScales", "LabelDropout", "TextDropout", "Transform", "Transformed",
    "dequantised", "drawn_from_moments", "from_moments", "mirrored", "transformed", "transforms_of",
]  # fmt: skip


@dataclass(frozen=True)
class LabelDropout:
    """Replace each label by the null class with probability `share`.

    The network then learns the unconditional velocity beside the conditional one, as classifier-free guidance needs
    (Ho and Salimans 2022, arXiv 2207.12598).

    Args:
        share: Probability in [0, 1] that a row loses its label.
        null: Label of the null class. The networks of this library use the number of classes.

    Raises:
        ValueError: The share is outside [0, 1]; or, when called, the batch has no labels.
    """

    share: float
    null: int

    def __post_init__(self) -> None:
        _check_share(self.share)
        at_least(0, null=self.null)

    def __call__(self, batch: Batch, draws: BatchDraws) -> Batch:
        """Drop labels of a batch."""
        if batch.label is None:
            raise ValueError("there are no labels to leave out")
        return batch._replace(label=batch.label.masked_fill(draws.uniform(batch.label) < self.share, self.null))


@dataclass(frozen=True)
class Dequantise:
    """Add uniform noise of the width of a level to training images, so that their law has a density.

    Held-out images keep their levels; `fm.likelihood.dequantised` fills the gaps of images in the same way.

    Args:
        levels: Number of levels from -1 to 1.

    Raises:
        ValueError: There are fewer than two levels.
    """

    levels: int

    def __post_init__(self) -> None:
        at_least(2, levels=self.levels)

    def __call__(self, batch: Batch, draws: BatchDraws) -> Batch:
        """Add the noise to a batch."""
        noise = 2 / (self.levels - 1) * (draws.uniform_entries(batch.x0) - 0.5)
        return batch._replace(x0=batch.x0 + noise)


def dequantised(data: Data) -> Data:
    """Change a data set so that its training images are dequantised; see `Dequantise`.

    Args:
        data: Images of whole levels.

    Returns:
        The data set with the transform.

    Raises:
        ValueError: The number of levels of these data is not known.
    """
    if data.levels is None:
        raise ValueError(f"the number of levels of {data.name} is not known: use transformed(data, Dequantise(levels))")
    return transformed(data, Dequantise(data.levels))


@dataclass(frozen=True, eq=False)
class TextDropout:
    """Replace the text conditions of each row by the null text with probability `share`.

    Args:
        share: Probability in [0, 1] that a row loses its text.
        null: Conditions of the null text by name, (1, ...) each: usually the encoded empty prompt,
            `data.prompts.conditions("")`.

    Raises:
        ValueError: The share is outside [0, 1]; or, when called, the batch lacks one of these conditions.
    """

    share: float
    null: Mapping[str, Tensor]

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        _check_share(self.share)

    def __call__(self, batch: Batch, draws: BatchDraws) -> Batch:
        """Drop texts of a batch."""
        given = dict(batch.given or {})
        if missing := self.null.keys() - given.keys():
            raise ValueError(f"there is no condition {', '.join(sorted(missing))} to leave out")
        dropped = draws.uniform(batch.x0) < self.share
        for name, null in self.null.items():
            kept = given[name]
            rows = dropped.reshape(-1, *[1] * (kept.ndim - 1))
            given[name] = torch.where(rows, null.to(kept), kept)
        return batch._replace(given=given)


def _check_share(share: float) -> None:
    """Raise ValueError for a probability outside [0, 1]."""
    finite(share=share)
    if not 0 <= share <= 1:
        raise ValueError(f"the share of rows without a label or text must lie in [0, 1], got {share}")


@dataclass(frozen=True, eq=False)
class GuidanceScales:
    """Draw a guidance scale w for each row of a guidance-conditioned network: the condition `guidance` (B,).

    The density is p(w) ~ w^-beta between low and high. Apply label dropout first, because rows with the null condition
    are unconditional and get scale 1 and all times.

    Args:
        low: Smallest scale, positive.
        high: Largest scale.
        beta: Exponent of the density. 0: w is uniform. 1: log w is uniform (improved MeanFlow, arXiv 2512.02012).
            2: 1/w is uniform (guidance-free training, arXiv 2501.15420).
        null: Null conditions by name, such as {"label": 10}. None: every row gets a drawn scale.
        interval: ((a, b), (c, d)) also draws the times between which guidance acts: the condition `guidance_from` from
            U[a, b] and `guidance_to` from U[c, d]. None: guidance acts at all times.

    Raises:
        ValueError: Not 0 < low <= high, or the interval is outside [0, 1] or in the wrong order.
    """

    low: float
    high: float
    beta: float = 1.0
    null: Mapping[str, Any] | None = None
    interval: tuple[tuple[float, float], tuple[float, float]] | None = None

    def __post_init__(self) -> None:
        finite(low=self.low, high=self.high, beta=self.beta)
        if not 0 < self.low <= self.high:
            raise ValueError(f"scales of guidance lie between two positive numbers, got {self.low} and {self.high}")
        for pair in self.interval or ():
            finite(**numbered(interval=pair))
        ends = [0.0, *(end for ends in self.interval or () for end in ends), 1.0]
        if ends != sorted(ends):
            raise ValueError(
                f"the two ends of an interval are drawn from [a, b] and [c, d] in [0, 1], in order: got {self.interval}"
            )

    def __call__(self, batch: Batch, draws: BatchDraws) -> Batch:
        """Add the scale, and the interval if one is drawn, to the conditions of a batch."""
        given = {"guidance": self.scale(draws.uniform(batch.x0))}
        for name, (low, high) in zip(("guidance_from", "guidance_to"), self.interval or (), strict=False):
            given[name] = low + (high - low) * draws.uniform(batch.x0)
        if self.null is not None:
            null = null_rows(condition_of(batch, labels=True) or {}, self.null, batch.x0)
            off = {"guidance": 1.0, "guidance_from": 0.0, "guidance_to": 1.0}
            given = {name: value.masked_fill(null, off[name]) for name, value in given.items()}
        return batch._replace(given={**(batch.given or {}), **given})

    def scale(self, u: Tensor) -> Tensor:
        """Quantile function of the density: u in [0, 1] -> the scale below which a share u of the rows lies."""
        if self.beta == 1:
            return self.low * (self.high / self.low) ** u
        power = 1 - self.beta
        return (self.low**power + u * (self.high**power - self.low**power)) ** (1 / power)


def mirrored(batch: Batch, draws: BatchDraws) -> Batch:
    """Flip each image (C, H, W) from left to right with probability 1/2."""
    chosen = draws.uniform(batch.x0) < 0.5
    return batch._replace(x0=torch.where(chosen[:, None, None, None], batch.x0.flip(-1), batch.x0))


def from_moments(batch: Batch, draws: BatchDraws) -> Batch:
    """Sample mean + std eps (C, H, W) from rows (2 C, H, W) of means and standard deviations."""
    mean, std = batch.x0.chunk(2, dim=1)
    return batch._replace(x0=mean + std * draws.normal(mean))


def drawn_from_moments(data: Data) -> Data:
    """Turn rows of means and standard deviations into rows that are sampled anew each time they are read.

    Args:
        data: Rows (2 C, ...), the means first, as the encoder of an autoencoder gives them.

    Returns:
        A data set with rows (C, ...). Held-out rows are sampled too.

    Raises:
        ValueError: The number of channels is odd.
    """
    first, *others = data.shape
    if first % 2:
        raise ValueError(f"moments are means, then as many standard deviations, and {data.name} has rows {data.shape}")
    shape = (first // 2, *others)
    source = Transformed(data.source, (from_moments,), everywhere=True)
    return replace(data, shape=shape, kind=kind_of(shape), source=source)
