"""Sources of rows: a sampler, a finite table that is shuffled for each epoch, a stream of ready batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Protocol

import torch
from torch import Tensor

from .core import DRAW, HELD_OUT, TRAIN, Batch, generator

EMPTY = 1000
"""Number of empty batches one after another at which a stream counts as one without rows."""


@dataclass(frozen=True)
class Fresh:
    """An infinite source that samples every row anew. Each batch has its own generator, so none has to be skipped.

    Args:
        sample: (n, generator) -> batch of n rows.
    """

    sample: Callable[[int, torch.Generator], Batch]
    size: None = None

    def batches(self, batch_size: int, seed: int, start: int, rows: slice) -> Iterator[Batch]:
        """Fresh batches, as in `Source`."""
        for index in count(start):
            yield self.sample(batch_size, generator(seed, index, TRAIN)).rows(rows)

    def draw(self, n: int, seed: int) -> Batch:
        """Fresh rows, as in `Source`."""
        return self.sample(n, generator(seed, 0, DRAW))

    def held_out(self, n: int, seed: int) -> Batch:
        """Fresh rows, as in `Source`."""
        return self.sample(n, generator(seed, 0, HELD_OUT))


class IndexedRows(Protocol):
    """A finite table of rows."""

    def __len__(self) -> int: ...

    def take(self, index: Tensor) -> Batch:
        """The rows with the numbers `index`, an int64 tensor on the CPU."""


@dataclass(frozen=True, eq=False)
class TensorRows:
    """A table of rows in memory.

    Args:
        x: Rows (N, *shape), floating point, or uint8 images that become x / 127.5 - 1.
        label: Labels (N,), int64.
        noise: Noise (N, *shape) to which the rows are coupled.
        given: Other conditions, tensors (N, ...) by name.
    """

    x: Tensor
    label: Tensor | None = None
    noise: Tensor | None = None
    given: Mapping[str, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Tensor) -> Batch:
        """Rows by number, as in `IndexedRows`."""
        taken = Batch(self.x, self.label, self.noise, self.given).rows(index.to(self.x.device))
        return taken._replace(x0=from_bytes(taken.x0))


def from_bytes(x: Tensor) -> Tensor:
    """Convert uint8 pixels 0..255 to [-1, 1] in the default dtype; other tensors are returned unchanged."""
    return x.to(torch.get_default_dtype()) / 127.5 - 1 if x.dtype == torch.uint8 else x


@dataclass(frozen=True, eq=False)
class SubsetRows:
    """A subset of a table.

    Args:
        rows: The table.
        index: Numbers of the rows of the subset (N,).
    """

    rows: IndexedRows
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def take(self, index: Tensor) -> Batch:
        """Rows by number, as in `IndexedRows`."""
        return self.rows.take(self.index[index])


@dataclass(frozen=True)
class Finite:
    """A finite source: a table of training rows and one of held-out rows.

    Args:
        train: Training rows.
        test: Held-out rows; None if there are none.
    """

    train: IndexedRows
    test: IndexedRows | None

    @property
    def size(self) -> int:
        """Number of training rows."""
        return len(self.train)

    def batches(self, batch_size: int, seed: int, start: int, rows: slice) -> Iterator[Batch]:
        """Shuffled batches, as in `Source`."""
        return (self.train.take(order[rows]) for order in _orders(len(self.train), batch_size, seed, start))

    def draw(self, n: int, seed: int) -> Batch:
        """A random choice of training rows, as in `Source`."""
        return self.train.take(_shuffled(len(self.train), n, seed, 0, DRAW))

    def held_out(self, n: int, seed: int) -> Batch:
        """A random choice of held-out rows, as in `Source`."""
        if self.test is None:
            raise ValueError("there are no held-out rows: a data set of one row keeps it for training")
        return self.test.take(_shuffled(len(self.test), min(n, len(self.test)), seed, 0, HELD_OUT))


def _shuffled(rows: int, n: int, seed: int, epoch: int, role: int) -> Tensor:
    """Row numbers (n,) from concatenated permutations."""
    passes = -(-n // rows)
    orders = (torch.randperm(rows, generator=generator(seed, epoch * passes + k, role)) for k in range(passes))
    return torch.cat(list(orders))[:n]


def _orders(rows: int, batch_size: int, seed: int, start: int) -> Iterator[Tensor]:
    """Row numbers of the batches start, start + 1, ... of a table with `rows` rows."""
    per_epoch = max(1, rows // batch_size)
    drawn, order = -1, torch.empty(0, dtype=torch.int64)
    for index in count(start):
        epoch, position = divmod(index, per_epoch)
        if epoch != drawn:
            drawn, order = epoch, _shuffled(rows, max(rows, batch_size), seed, epoch, TRAIN)
        yield order[position * batch_size :][:batch_size]


def hold_out(rows: IndexedRows, held: Tensor | None = None) -> Finite:
    """Split a table into training and held-out rows.

    Args:
        rows: The table.
        held: Boolean mask (N,) of the held-out rows, for a data set with its own split. None, or a mask that selects
            none or all: the last fifth of a fixed permutation is held out, at most 10000 rows and at least one (none
            of a single row).

    Returns:
        The finite source.
    """
    if held is not None and bool(held.any()) and not bool(held.all()):
        return Finite(SubsetRows(rows, (~held).nonzero()[:, 0]), SubsetRows(rows, held.nonzero()[:, 0]))
    n = len(rows)
    kept = min(max(n // 5, 1), 10_000) if n > 1 else 0
    order = torch.randperm(n, generator=generator(0, 0, HELD_OUT))
    return Finite(SubsetRows(rows, order[: n - kept]), SubsetRows(rows, order[n - kept :]) if kept else None)


@dataclass(frozen=True)
class Stream:
    """A source of ready batches from an iterable, cut to the requested size; the iterable is repeated when it ends.

    The iterable decides the order: the seed has no effect, and `start=k` reads past k batches. A run resumes exactly
    only if the iterable gives the same rows each time. Processes that share batches all read the whole stream, which
    must be the same for each, and take their rows from it.

    Args:
        iterable: Batches of training rows, readable more than once.
        convert: Conversion of an item to a `Batch`.
        test: Batches of held-out rows; None if there are none.
    """

    iterable: Iterable[Any]
    convert: Callable[[Any], Batch]
    test: Iterable[Any] | None = None
    size: None = None

    def batches(self, batch_size: int, seed: int, start: int, rows: slice) -> Iterator[Batch]:
        """Batches in the order of the iterable, as in `Source`."""
        return (batch.rows(rows) for batch in islice(_cut(self._endless(), batch_size), start, None))

    def draw(self, n: int, seed: int) -> Batch:
        """The first n rows, as in `Source`."""
        return next(_cut(self._endless(), n))

    def held_out(self, n: int, seed: int) -> Batch:
        """The first n rows of `test`, or all if there are fewer, as in `Source`."""
        if self.test is None:
            raise ValueError(
                "a stream of batches has no held-out rows of its own: pass as_data(batches, held_out=other_batches)"
            )
        waiting: list[Batch] = []
        for batch in self._with_rows(self.test):
            waiting.append(batch)
            if sum(len(one.x0) for one in waiting) >= n:
                break
        if not waiting:
            raise ValueError(f"the held-out batches, of type {type(self.test).__name__}, have no rows")
        return _joined(waiting).rows(slice(n))

    def _endless(self) -> Iterator[Batch]:
        """The batches with rows, repeated without end. Raises ValueError for an iterable without any."""
        while True:
            given = False
            for batch in self._with_rows(self.iterable):
                given = True
                yield batch
            if not given:
                raise ValueError(
                    "a stream of batches must give at least one batch with rows, and this "
                    f"{type(self.iterable).__name__} gave none"
                )

    def _with_rows(self, iterable: Iterable[Any]) -> Iterator[Batch]:
        """The converted batches without empty ones. Raises ValueError for EMPTY empty ones in a row."""
        empty = 0
        for batch in map(self.convert, iterable):
            empty = 0 if len(batch.x0) else empty + 1
            if empty == EMPTY:
                raise ValueError(
                    f"a stream of batches gave {EMPTY} batches without rows one after another: this "
                    f"{type(iterable).__name__} must give rows"
                )
            if not empty:
                yield batch


def _joined(batches: list[Batch]) -> Batch:
    """Concatenate the rows and labels of batches."""
    labels = [batch.label for batch in batches if batch.label is not None]
    return Batch(torch.cat([batch.x0 for batch in batches]), torch.cat(labels) if labels else None)


def _cut(batches: Iterator[Batch], size: int) -> Iterator[Batch]:
    """Join and cut batches of any sizes to batches of `size`; an incomplete batch at the end is dropped."""
    waiting: list[Batch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += len(batch.x0)
        if rows < size:
            continue
        whole = _joined(waiting)
        full = len(whole.x0) // size * size
        for at in range(0, full, size):
            yield whole.rows(slice(at, at + size))
        waiting, rows = [whole.rows(slice(full, None))], len(whole.x0) - full
