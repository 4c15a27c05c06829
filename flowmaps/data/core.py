"""What a data set is: rows x0, with class labels where there are some, drawn as a deterministic function of numbers.

A `Data` says what its rows are; its `Source` makes them. Nothing here depends on the global random state, so a run that
resumes at step k asks for batch k and gets it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from .prompts import Prompts

Kind = Literal["points", "images", "vectors"]

ALL = slice(None)

IN_MEMORY = 512 * 2**20
"""Bytes up to which a finite data set is kept decoded in memory; a larger one is read from disk batch by batch."""


class Batch(NamedTuple):
    """Rows x0 (B, *shape), their class labels (B,) of dtype int64 or None where there are no classes, the noise
    (B, *shape) that each row is coupled with, or None where it is coupled with any, and what else the network is told
    of each row, by the name of its argument: tensors (B, ...).
    """

    x0: Tensor
    label: Tensor | None = None
    noise: Tensor | None = None
    given: Mapping[str, Tensor] | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Change every part that is there."""
        x0, label, noise = (None if part is None else change(part) for part in self[:3])
        assert x0 is not None
        return Batch(x0, label, noise, self.given and {name: change(part) for name, part in self.given.items()})

    def rows(self, which: slice | Tensor) -> Batch:
        """Some of the rows."""
        return self.each(lambda part: part[which])


class Source(Protocol):
    """Where rows come from. `size` is the number of training rows, None where it has no end or is not known.

    `batches` gives those rows of each batch that `rows` takes of it: a source that can reads no others.
    """

    @property
    def size(self) -> int | None: ...

    def batches(self, batch_size: int, seed: int, start: int, rows: slice) -> Iterator[Batch]: ...

    def draw(self, n: int, seed: int) -> Batch: ...

    def held_out(self, n: int, seed: int) -> Batch: ...


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: what one row is, and the three ways to get rows.

    name: what messages and tables call it.
    shape: of one x0.
    source: makes the rows.
    kind: "points" (two coordinates), "images" ((C, H, W) with values in [-1, 1]) or "vectors" (anything else).
    classes, class_names: number of classes and their names, None where there are none.
    exact: the distribution, where it is one of `flowmaps.exact`.
    levels: number of grey levels that the original images have (digits 17, 8-bit images 256).
    log_prob: x (B, *shape) -> (B,) in nats, where the density is known.
    skipped: files that could not be read and are left out, each with its reason.
    known_std: standard deviation over all entries, where it is known in closed form.
    given: what else rows say of themselves for the network, by the names in `Batch.given`.
    recipe: keyword arguments with which `load` makes this data set again, None for data that was made from an object.
    coupling: what the noise of each training row was made by, None where rows are coupled with any noise.
    prompts: the texts that belong to rows, where there are some.
    """

    name: str
    shape: tuple[int, ...]
    source: Source
    kind: Kind
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    exact: Any = None
    levels: int | None = None
    log_prob: Callable[[Tensor], Tensor] | None = None
    skipped: Sequence[str] = ()
    known_std: float | None = None
    given: tuple[str, ...] = ()
    recipe: dict[str, Any] | None = None
    coupling: dict[str, Any] | None = None
    prompts: Prompts | None = None

    @property
    def size(self) -> int | None:
        """Number of training rows; None where fresh rows never end or the source cannot tell."""
        return self.source.size

    @cached_property
    def std(self) -> float:
        """Standard deviation over all entries: `known_std`, else measured on 4096 training rows."""
        return self.known_std if self.known_std is not None else float(self.draw(4096, seed=0).x0.double().std())

    def batches(self, batch_size: int, seed: int = 0, start: int = 0, rows: slice = ALL) -> Iterator[Batch]:
        """Endless full training batches; batch i is a function of (seed, i), and `start=k` begins with batch k.

        Fresh rows where the source is infinite. A finite set is shuffled anew for each epoch and the incomplete batch
        at the end of an epoch is dropped; a batch larger than the set wraps around it and is still full.
        rows: which rows of each batch, for a process that shares the batches with others: `rows=slice(p, None, P)` is
        the share of process p of P. A finite set reads and decodes these rows alone.
        Raises ValueError for a batch_size below 1 or a negative start.
        """
        at_least(1, batch_size=batch_size)
        at_least(0, start=start)
        return self.source.batches(batch_size, seed, start, rows)

    def draw(self, n: int, seed: int = 0) -> Batch:
        """n training rows: fresh ones where the source is infinite, else a random choice, repeated only where n exceeds
        the set.
        """
        at_least(1, n=n)
        return self.source.draw(n, seed)

    def held_out(self, n: int, seed: int = 0) -> Batch:
        """n rows that `batches` and `draw` never give, or all there are when there are fewer.

        Fresh rows where the source is infinite. Raises ValueError where nothing is held out.
        """
        at_least(1, n=n)
        return self.source.held_out(n, seed)

    def to_pixels(self, x: Tensor) -> Tensor:
        """(x + 1) / 2 clamped to [0, 1]. Raises TypeError where the rows are not images."""
        if self.kind != "images":
            raise TypeError(f"only images have pixels, and {self.name} holds {self.kind} of shape {self.shape}")
        return ((x + 1) / 2).clamp(0, 1)


TRAIN, DRAW, HELD_OUT, NOISE = range(4)


def generator(seed: int, index: int, role: int) -> torch.Generator:
    """A random generator that is a function of (seed, index, role); generators of different roles are never the same.

    torch reads 32 bits of a seed: 30 come from mixing seed and index, the lowest two are the role.
    """
    return torch.Generator().manual_seed((_mix(_mix(seed) + index) & 0x3FFFFFFF) << 2 | role)


def _mix(value: int) -> int:
    """The splitmix64 finaliser (Steele, Lea and Flood 2014): neighbouring integers become unrelated ones."""
    value = (value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ value >> 31


def at_least(least: int, **arguments: int) -> None:
    """Raise ValueError for an argument below `least`, naming it."""
    for name, value in arguments.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def kind_of(shape: Sequence[int]) -> Kind:
    """Two coordinates are points, three dimensions with one or three channels first are images, all else is vectors."""
    if tuple(shape) == (2,):
        return "points"
    return "images" if len(shape) == 3 and shape[0] in (1, 3) else "vectors"
