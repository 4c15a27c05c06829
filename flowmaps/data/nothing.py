"""Data of which only the shape is known, for methods that learn from a teacher and noise alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import NoReturn

import torch
from torch import Tensor

from .changes import Changed
from .core import TRAIN, Batch, Data, Kind, Source, at_least, generator, kind_of
from .prompts import Prompts
from .tables import Table


@dataclass(frozen=True)
class Nothing:
    """Batches of zeros that nobody reads, with labels evenly over the classes; label i of batch k is a function of the
    seed and of k. So are prompts, where there is a table of them: each as likely, and each row is given what it has of
    its own.
    """

    shape: tuple[int, ...]
    classes: int | None
    prompts: Prompts | None = None
    size: None = None

    def batches(self, batch_size: int, seed: int, start: int, rows: slice) -> Iterator[Batch]:
        x0 = torch.zeros(len(range(batch_size)[rows]), *self.shape)
        for index in count(start):
            rng = generator(seed, index, TRAIN)
            label = None if self.classes is None else torch.randint(self.classes, (batch_size,), generator=rng)
            given = None
            if self.prompts is not None:
                given = self.prompts.take(torch.randint(len(self.prompts), (batch_size,), generator=rng)[rows])
            yield Batch(x0, None if label is None else label[rows], given=given)

    def draw(self, n: int, seed: int) -> NoReturn:
        raise ValueError("there are no rows to draw: this is data of which only the shape and the classes are known")

    held_out = draw


def nothing(
    shape: Sequence[int],
    classes: int | None = None,
    *,
    prompts: Mapping[str, Tensor] | Prompts | None = None,
    kind: Kind | None = None,
) -> Data:
    """No data, for methods that need none (`method.data_free`): `train(flow, method, nothing((2,)))`.

    shape: that of one x. classes: their number, where the network takes labels; each is as likely. kind: "points",
    "images" or "vectors", by default what the shape looks like. prompts: conditions (P, ...) by name, what an encoder
    made of P texts, or encoded `Prompts`; each is as likely. Its batches hold zeros that such a method never reads;
    `draw`, `held_out` and `std` raise ValueError. ValueError also for a size or a number of classes below 1.
    """
    shape = tuple(shape)
    at_least(1, **{f"shape[{i}]": size for i, size in enumerate(shape)})
    if classes is not None:
        at_least(1, classes=classes)
    if prompts is not None and not len(prompts):
        raise ValueError("prompts= holds no prompts")
    known = Prompts((), table=Table([prompts])) if isinstance(prompts, Mapping) else prompts
    given = () if known is None else known.table.names
    source = Nothing(shape, classes, known)
    return Data("nothing", shape, source, kind or kind_of(shape), classes, given=given, prompts=known)


def without_rows(data: Data) -> Data:
    """The data as a method sees them that learns without: labels evenly over the classes, changed as those of the data
    are. Rows that give the network more than a label, such as a text, are kept, as nothing else can say it.
    """
    return data if data.given else replace(data, source=_empty(data.source, data))


def _empty(source: Source, data: Data) -> Source:
    if isinstance(source, Changed):
        if source.everywhere:  # it makes what a row is, of which there is none
            return _empty(source.source, data)
        return replace(source, source=_empty(source.source, data))
    return Nothing(data.shape, data.classes)
