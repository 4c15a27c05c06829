"""Data sets without rows, for methods that learn from a teacher and noise alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import NoReturn

import torch
from torch import Tensor

from ..arguments import at_least, shown
from .core import TRAIN, Batch, Data, Kind, Source, generator, kind_of
from .prompts import Prompts
from .tables import TensorTable
from .transformed import Transformed


@dataclass(frozen=True)
class ZeroRows:
    """Batches of zeros with conditions drawn uniformly, a function of the seed and the batch number.

    Args:
        shape: Shape of one x.
        classes: Number of classes from which labels are drawn. None: no labels.
        prompts: Table from which prompts are drawn. None: no prompts.
    """

    shape: tuple[int, ...]
    classes: int | None
    prompts: Prompts | None = None
    size: None = None

    def batches(self, batch_size: int, seed: int, start: int, rows: slice) -> Iterator[Batch]:
        """Batches of zeros, as in `Source`."""
        x0 = torch.zeros(len(range(batch_size)[rows]), *self.shape)
        for index in count(start):
            rng = generator(seed, index, TRAIN)
            label = None if self.classes is None else torch.randint(self.classes, (batch_size,), generator=rng)
            given = None
            if self.prompts is not None:
                given = self.prompts.take(torch.randint(len(self.prompts), (batch_size,), generator=rng)[rows])
            yield Batch(x0, None if label is None else label[rows], given=given)

    def draw(self, n: int, seed: int) -> NoReturn:
        """Raise ValueError: there are no rows."""
        raise ValueError("there are no rows to draw: this data set has only a shape and classes")

    held_out = draw


def no_data(
    shape: Sequence[int],
    classes: int | None = None,
    *,
    prompts: Mapping[str, Tensor] | Prompts | None = None,
    kind: Kind | None = None,
) -> Data:
    """Make a data set without rows, for data-free methods.

    Its batches hold zeros, which a method with `method.data_free` never reads: `train(flow, method, no_data((2,)))`.

    Args:
        shape: Shape of one x.
        classes: Number of classes, from which labels are drawn uniformly. None: no labels.
        prompts: Encoded texts, from which conditions are drawn uniformly: tensors (P, ...) by name, or encoded
            `Prompts`. None: no texts.
        kind: "points", "images" or "vectors". None: chosen by the shape.

    Returns:
        A data set without rows: `draw`, `held_out` and `std` raise ValueError.

    Raises:
        ValueError: A size or the number of classes is below 1, or the prompts are empty.
    """
    if isinstance(shape, str) or not isinstance(shape, Sequence):
        raise TypeError(f"shape must be the sizes of one x, such as (3, 32, 32), got {shown(shape)}")
    shape = tuple(shape)
    if not shape:
        raise ValueError("shape must have at least one size, got ()")
    at_least(1, **{f"shape[{i}]": size for i, size in enumerate(shape)})
    if classes is not None:
        at_least(1, classes=classes)
    if prompts is not None and not len(prompts):
        raise ValueError("prompts= holds no prompts")
    known = Prompts((), table=TensorTable([prompts])) if isinstance(prompts, Mapping) else prompts
    given = () if known is None else known.table.names
    source = ZeroRows(shape, classes, known)
    return Data("nothing", shape, source, kind or kind_of(shape), classes, given=given, prompts=known)


def with_zero_rows(data: Data) -> Data:
    """The data set with its rows replaced by zeros, for data-free methods.

    Labels are drawn uniformly and the transforms of training batches are kept. A data set with other conditions, such
    as a text, is returned unchanged, because only its rows have them.
    """
    return data if data.given else replace(data, source=_zeros(data.source, data))


def _zeros(source: Source, data: Data) -> Source:
    """The source with zeros below its transforms. A transform that defines a row is dropped."""
    if isinstance(source, Transformed):
        if source.everywhere:
            return _zeros(source.source, data)
        return replace(source, source=_zeros(source.source, data))
    return ZeroRows(data.shape, data.classes)
