"""A data set with transforms: a source that applies them to its batches, and their random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor

from .core import ALL, NOISE, Batch, Data, Source, generator


@dataclass(frozen=True)
class BatchDraws:
    """Random numbers for some rows of a batch, drawn for the whole batch.

    Args:
        total: Number of rows of the whole batch.
        rows: Rows of the batch on this process.
        generator: Source of the numbers.
    """

    total: int
    rows: slice
    generator: torch.Generator

    def uniform(self, like: Tensor) -> Tensor:
        """U[0, 1], one number for each row: (B,), on the device of `like`."""
        return torch.rand(self.total, generator=self.generator)[self.rows].to(like.device)

    def uniform_entries(self, like: Tensor) -> Tensor:
        """U[0, 1] for every entry, in the shape and dtype of `like`."""
        shape = (self.total, *like.shape[1:])
        return torch.rand(shape, generator=self.generator, dtype=like.dtype)[self.rows].to(like.device)

    def normal(self, like: Tensor) -> Tensor:
        """N(0, 1) for every entry, in the shape and dtype of `like`."""
        shape = (self.total, *like.shape[1:])
        return torch.randn(shape, generator=self.generator, dtype=like.dtype)[self.rows].to(like.device)


Transform = Callable[[Batch, BatchDraws], Batch]


@dataclass(frozen=True, eq=False)
class Transformed:
    """A source that applies transforms to its batches. Nested ones have independent random numbers.

    Args:
        source: The source of the rows.
        transforms: The transforms, in the order of application.
        everywhere: Whether rows from `draw` and `held_out` are transformed too, for transforms that define a row.
    """

    source: Source
    transforms: tuple[Transform, ...]
    everywhere: bool = False

    @property
    def size(self) -> int | None:
        """Number of training rows of the source."""
        return self.source.size

    @property
    def depth(self) -> int:
        """Number of transformed sources below this one."""
        return self.source.depth + 1 if isinstance(self.source, Transformed) else 0

    def batches(self, batch_size: int, seed: int, start: int, rows: slice) -> Iterator[Batch]:
        """Transformed training batches, as in `Source`."""
        numbered = zip(count(start), self.source.batches(batch_size, seed, start, rows), strict=False)
        return (self._apply(batch, batch_size, rows, seed, index) for index, batch in numbered)

    def draw(self, n: int, seed: int) -> Batch:
        """Training rows, as in `Source`."""
        return self._once(self.source.draw(n, seed), seed)

    def held_out(self, n: int, seed: int) -> Batch:
        """Held-out rows, as in `Source`."""
        return self._once(self.source.held_out(n, seed), seed)

    def _once(self, batch: Batch, seed: int) -> Batch:
        """Transform a batch that is not for training, if transforms apply everywhere."""
        return self._apply(batch, len(batch.x0), ALL, seed, 0) if self.everywhere else batch

    def _apply(self, batch: Batch, total: int, rows: slice, seed: int, index: int) -> Batch:
        """Apply the transforms to the batch with this number."""
        draws = BatchDraws(total, rows, generator(seed + (self.depth << 32), index, NOISE))
        for transform in self.transforms:
            batch = transform(batch, draws)
        return batch


def transformed(data: Data, *transforms: Transform) -> Data:
    """Apply transforms to every training batch of a data set.

    Args:
        data: The data set. Rows from `draw` and `held_out` are left as they are.
        *transforms: Functions (batch, draws) -> batch, applied in this order.

    Returns:
        A data set with the same rows and transformed training batches.
    """
    return replace(data, source=Transformed(data.source, transforms))


def transforms_of(data: Data) -> list[Transform]:
    """The transforms that `transformed` added to a data set, in the order in which they are applied."""
    return _transforms(data.source)


def _transforms(source: Source) -> list[Transform]:
    """The transforms of training batches alone, innermost first."""
    if not isinstance(source, Transformed):
        return []
    return [*_transforms(source.source), *(() if source.everywhere else source.transforms)]
