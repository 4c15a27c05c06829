"""Random changes of batches: labels left out, scales of guidance drawn, images mirrored, latents drawn from their
moments.

A change is a function (batch, draws) -> batch. The numbers are a function of the seed, the batch and the row, so that
neither a run that resumes nor the number of processes changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import Tensor

from ..guidance.conditions import null_rows
from .core import ALL, NOISE, Batch, Data, Source, generator, kind_of


@dataclass(frozen=True)
class Draws:
    """Random numbers for those of `total` rows that `rows` takes; they are drawn for all."""

    total: int
    rows: slice
    generator: torch.Generator

    def uniform(self, like: Tensor) -> Tensor:
        """U[0, 1], one for each row: (B,)."""
        return torch.rand(self.total, generator=self.generator)[self.rows].to(like.device)

    def normal(self, like: Tensor) -> Tensor:
        """N(0, 1) for every entry, in the shape and dtype of `like`."""
        shape = (self.total, *like.shape[1:])
        return torch.randn(shape, generator=self.generator, dtype=like.dtype)[self.rows].to(like.device)


Change = Callable[[Batch, Draws], Batch]


def changed(data: Data, *changes: Change) -> Data:
    """The same data, each training batch changed, in this order; rows that are drawn or held out stay as they are."""
    return replace(data, source=Changed(data.source, changes))


def changes_of(data: Data) -> list[Change]:
    """What `changed` makes of training batches, in order."""
    return _changes(data.source)


def _changes(source: Source) -> list[Change]:
    if not isinstance(source, Changed):
        return []
    return [*_changes(source.source), *(() if source.everywhere else source.changes)]


@dataclass(frozen=True)
class WithoutLabel:
    """Each label becomes `null`, with probability `share`: networks of ours take the number of classes for an unknown
    class. So a network learns the unconditional velocity beside the conditional ones, which guidance needs (Ho and
    Salimans 2022, arXiv 2207.12598). ValueError for a share outside [0, 1], and for data without labels.
    """

    share: float
    null: int

    def __post_init__(self) -> None:
        _check_share(self.share)

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        if batch.label is None:
            raise ValueError("there are no labels to leave out")
        return batch._replace(label=batch.label.masked_fill(draws.uniform(batch.label) < self.share, self.null))


@dataclass(frozen=True, eq=False)
class WithoutText:
    """Each row's conditions become those of `null`, with probability `share`: what an encoder makes of an empty prompt,
    (1, ...) by name, `data.prompts.conditions("")`. ValueError for a share outside [0, 1], and for data without these
    conditions.
    """

    share: float
    null: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        _check_share(self.share)

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        given = dict(batch.given or {})
        if missing := self.null.keys() - given.keys():
            raise ValueError(f"there is no condition {', '.join(sorted(missing))} to leave out")
        without = draws.uniform(batch.x0) < self.share
        for name, null in self.null.items():
            kept = given[name]
            rows = without.reshape(-1, *[1] * (kept.ndim - 1))
            given[name] = torch.where(rows, null.to(kept), kept)
        return batch._replace(given=given)


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"the share of rows without a label or text must lie in [0, 1], got {share}")


@dataclass(frozen=True, eq=False)
class WithGuidance:
    """Each row gets a scale of guidance to be told, `guidance`, of density p(w) ~ w^-beta between low and high.

    beta = 0 is uniform, 1 has log w uniform (improved MeanFlow, arXiv 2512.02012), 2 has 1/w uniform (guidance-free
    training, arXiv 2501.15420). interval: ((a, b), (c, d)) draws between which times it acts, `guidance_from` from
    U[a, b] and `guidance_to` from U[c, d]. null: rows with these conditions ({"label": 10}) get scale 1 and all times.
    Labels are left out before, so this change comes after `WithoutLabel`. ValueError unless 0 < low <= high and for an
    interval outside [0, 1] or in the wrong order.
    """

    low: float
    high: float
    beta: float = 1.0
    null: Mapping[str, Any] | None = None
    interval: tuple[tuple[float, float], tuple[float, float]] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise ValueError(f"scales of guidance lie between two positive numbers, got {self.low} and {self.high}")
        ends = [0.0, *(end for ends in self.interval or () for end in ends), 1.0]
        if ends != sorted(ends):
            raise ValueError(
                f"the two ends of an interval are drawn from [a, b] and [c, d] in [0, 1], in order: got {self.interval}"
            )

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        given = {"guidance": self.scale(draws.uniform(batch.x0))}
        for name, (low, high) in zip(("guidance_from", "guidance_to"), self.interval or (), strict=False):
            given[name] = low + (high - low) * draws.uniform(batch.x0)
        if self.null is not None:
            known = {**(batch.given or {}), **({} if batch.label is None else {"label": batch.label})}
            null = null_rows(known, self.null, batch.x0)
            off = {"guidance": 1.0, "guidance_from": 0.0, "guidance_to": 1.0}
            given = {name: value.masked_fill(null, off[name]) for name, value in given.items()}
        return batch._replace(given={**(batch.given or {}), **given})

    def scale(self, u: Tensor) -> Tensor:
        """The scale below which the share u of the rows is."""
        if self.beta == 1:
            return self.low * (self.high / self.low) ** u
        power = 1 - self.beta
        return (self.low**power + u * (self.high**power - self.low**power)) ** (1 / power)


def mirrored(batch: Batch, draws: Draws) -> Batch:
    """Each image (C, H, W) is turned left to right with probability 1/2."""
    chosen = draws.uniform(batch.x0) < 0.5
    return batch._replace(x0=torch.where(chosen[:, None, None, None], batch.x0.flip(-1), batch.x0))


def from_moments(batch: Batch, draws: Draws) -> Batch:
    """Rows (2 C, H, W) of means and standard deviations -> draws (C, H, W) of mean + std eps."""
    mean, std = batch.x0.chunk(2, dim=1)
    return batch._replace(x0=mean + std * draws.normal(mean))


def drawn_from_moments(data: Data) -> Data:
    """Data whose rows are moments as the data of which they are: drawn anew each time. ValueError for an odd number of
    channels.
    """
    first, *others = data.shape
    if first % 2:
        raise ValueError(f"moments are means, then as many standard deviations, and {data.name} has rows {data.shape}")
    shape = (first // 2, *others)
    source = Changed(data.source, (from_moments,), everywhere=True)
    return replace(data, shape=shape, kind=kind_of(shape), source=source)


@dataclass(frozen=True, eq=False)
class Changed:
    """A source behind changes; `everywhere`: drawn and held-out rows too, where changes make what a row is.

    Changes of a source that is changed already have random numbers of their own.
    """

    source: Source
    changes: tuple[Change, ...]
    everywhere: bool = False

    @property
    def size(self) -> int | None:
        return self.source.size

    @property
    def depth(self) -> int:
        """How many changed sources lie below."""
        return self.source.depth + 1 if isinstance(self.source, Changed) else 0

    def batches(self, batch_size: int, seed: int, start: int, rows: slice) -> Iterator[Batch]:
        numbered = zip(count(start), self.source.batches(batch_size, seed, start, rows), strict=False)
        return (self._change(batch, batch_size, rows, seed, index) for index, batch in numbered)

    def draw(self, n: int, seed: int) -> Batch:
        return self._once(self.source.draw(n, seed), seed)

    def held_out(self, n: int, seed: int) -> Batch:
        return self._once(self.source.held_out(n, seed), seed)

    def _once(self, batch: Batch, seed: int) -> Batch:
        return self._change(batch, len(batch.x0), ALL, seed, 0) if self.everywhere else batch

    def _change(self, batch: Batch, total: int, rows: slice, seed: int, index: int) -> Batch:
        draws = Draws(total, rows, generator(seed + (self.depth << 32), index, NOISE))
        for change in self.changes:
            batch = change(batch, draws)
        return batch
