"""Python objects as data: tensors, exact distributions, torch data sets, iterables of batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from ..arguments import at_least, expect_tensor, given, shown, truth
from ..exact import Exact
from .check import check_finite, check_labels, check_names
from .core import Batch, Data, Kind
from .items import RowForm, is_row, item_of, known_classes, known_names, warn_unread
from .load import load
from .sources import Finite, Stream, SubsetRows, TensorRows, from_bytes, hold_out
from .standardise import standardised, warn_scale, with_units
from .text_labels import labels_and_names
from .toys import exact

SEEN = 64
"""Rows of a data set of torch that are read to look at their scale."""
TABLES = ("numpy", "pandas", "polars")
"""Packages whose iterable objects are tables, not streams of batches."""
ADVICE = (
    "pass fm.data.as_data(x, standardise=True), whose samples come back in these units, or standardise=False to keep "
    "these numbers"
)


def as_data(
    obj: Any,
    *,
    classes: int | None = None,
    held_out: Iterable[Any] | None = None,
    kind: Kind | None = None,
    standardise: bool | None = None,
) -> Data:
    """Make a data set of an object.

    - a `Data` (returned unchanged), or a name or path (as in `load`);
    - a distribution of `flowmaps.exact`, or a `datasets.Dataset`;
    - a tensor (N, *shape), (tensor, labels) or a dict of them; or a numpy array, or (array, labels), read like a .npy
      file;
    - a torch map-style data set of items x0, (x0, label) or dicts of them, or a list of such items;
    - a DataLoader, or any iterable of batches x0, (x0, label) or dicts of them that can be read more than once, such
      as a `datasets.IterableDataset`, or an `IterableDatasetDict` with its splits. Items with a single label, numbers,
      tensors (D,) and images (C, H, W) are rows and not batches, except for a DataLoader that makes batches.

    Tensors and items are images (C, H, W) in [-1, 1] (or uint8), or any other rows, and keep their floating-point
    dtype. Images (H, W, C) with one or three channels are turned, with a warning. Of finite sets a fifth, at most 10000
    rows, is held out.

    Args:
        obj: The object.
        classes: Number of classes. None: the largest label plus one. An iterable with labels needs it, because not all
            labels are seen, unless it is a loader of a data set that knows its classes.
        held_out: Iterable of held-out batches, for an iterable of batches. None: no rows are held out.
        kind: "images" or "vectors", if the shape is misleading. None: by the shape.
        standardise: Whether rows that are no images are standardised; samples come back in the units of the rows. None:
            names and paths as in `load`; other rows are unchanged, with a warning if they are far from mean 0 and
            standard deviation 1, or if images reach beyond [-1, 1]. False: unchanged without a warning.

    Returns:
        The data set.

    Raises:
        TypeError: The object is of another kind.
        ValueError: Rows are empty, not finite or of mixed shapes, labels are wrong, or an argument does not apply to
            the object.
    """
    at_least(1, **given(classes=classes))
    truth(**given(standardise=standardise))
    if kind not in (None, "images", "vectors"):
        raise ValueError(f'kind must be "images" or "vectors", got {shown(kind)}')
    if _package(obj) == "datasets" and type(obj).__name__ == "IterableDatasetDict":
        from .hugging_face import splits_of

        obj, *test = splits_of(obj, "IterableDatasetDict", None, None)
        held_out = next(iter(test), None) if held_out is None else held_out
    what = type(obj).__name__
    complete = _complete(obj, standardise)
    if complete is not None and (classes is not None or kind is not None):
        option = "kind" if classes is None else "classes"
        raise ValueError(f"{option} goes with tensors, data sets of torch and iterables; {what} knows its own")
    if held_out is not None and (complete is not None or not _is_stream(obj)):
        raise ValueError(f"held_out goes with an iterable of batches; {what} has held-out rows of its own")
    if complete is not None:
        return complete
    data = _wrapped(obj, classes, held_out, kind, look=standardise is None)
    return standardised(data) if standardise else data


def _wrapped(obj: Any, classes: int | None, held_out: Iterable[Any] | None, kind: Kind | None, look: bool) -> Data:
    """The data set of a tensor, an array, a data set of torch or an iterable of batches, with its own numbers.

    With `look`, numbers that are far from the range that networks expect cause a warning.
    """
    what = type(obj).__name__
    if isinstance(obj, TensorDataset) and len(obj.tensors) <= 2:
        obj = obj.tensors
    if isinstance(obj, Mapping):
        warn_unread(obj, what)
        obj = item_of(obj, what)
    x, *labels = obj if isinstance(obj, tuple) and len(obj) in (1, 2) else (obj,)
    label = labels[0] if labels else None
    if isinstance(x, Tensor):
        data = tensor_data(x, label, classes=classes, kind=kind)
    elif _package(x) == "numpy":
        from .arrays import array_data

        data = array_data(x, label, classes=classes, kind=kind)
    elif _is_items(obj):
        data = _dataset(obj, classes, kind)
    elif _is_stream(obj):
        return _stream(obj, classes, held_out, kind, look)
    else:
        if _package(obj) in ("pandas", "polars"):
            raise TypeError(
                f"a {what} of {_package(obj)} is no data set: pass its numbers, frame[COLUMNS].to_numpy(), or with "
                "labels (frame[COLUMNS].to_numpy(), list(frame[LABEL]))"
            )
        raise TypeError(
            "expected a name, a path, a tensor, (tensor, labels), an exact distribution, a torch Dataset or an "
            f"iterable of batches that can be read again, got {what}"
        )
    if look:
        _warn(data)
    return data


def _complete(obj: Any, standardise: bool | None) -> Data | None:
    """The data set of an object that needs no options: data, names, paths, exact distributions, Hugging Face data."""
    if isinstance(obj, (str, Path)):
        return load(obj, **given(standardise=standardise))
    data = obj if isinstance(obj, Data) else None
    if isinstance(obj, Exact):
        data = exact(obj, type(obj).__name__)
    elif _package(obj) == "datasets" and not _is_items(obj) and not _is_stream(obj):
        from .hugging_face import dataset_data

        data = dataset_data(obj)
    if data is None or standardise is None:
        return data
    return standardised(data) if standardise else with_units(data, None)


def _warn(data: Data) -> None:
    """Warn if rows of a finite table are far from the range that networks expect; random numbers are left alone."""
    assert isinstance(data.source, Finite) and isinstance(data.source.train, SubsetRows)
    most = SEEN if isinstance(data.source.train.rows, ItemRows) else 2**16
    some = min(len(data.source.train), most, max(8, 2**22 // math.prod(data.shape)))
    try:
        with torch.random.fork_rng(devices=[]):
            x = data.source.train.take(torch.arange(some)).x0
    except (OSError, TypeError, ValueError):
        return  # raised again when the row is read
    warn_scale(x, data.kind, data.name if data.name != "tensor" else "the tensor", ADVICE)


def _package(obj: Any) -> str:
    """Name of the package that defines the object's class."""
    return type(obj).__module__.partition(".")[0]


def tensor_data(x: Tensor, label: Any = None, *, classes: int | None = None, kind: Kind | None = None) -> Data:
    """Make a data set of a tensor.

    Args:
        x: Rows (N, *shape): floating point, which are unchanged, or uint8 images, which become x / 127.5 - 1.
        label: Labels (N,), or None.
        classes: Number of classes. None: the largest label plus one.
        kind: "images" or "vectors". None: by the shape; images with channels at the end are turned.

    Returns:
        The data set.

    Raises:
        ValueError: The tensor is empty, has values that are not finite, holds whole numbers that are no images, or
            labels are wrong.
    """
    expect_tensor("a tensor of data", x)
    if x.ndim == 0 or x.numel() == 0:
        raise ValueError(f"a tensor of data must have rows, got shape {tuple(x.shape)}")
    x = x.detach()[:, None] if x.ndim == 1 else x.detach()
    form = RowForm.of(x, "the tensor", kind)
    x, kind = form(x), form.kind
    _check_rows(x, "the tensor", kind)
    targets, count, names = labels_and_names(label, len(x), "the tensor", classes)
    rows = TensorRows(x, None if targets is None else targets.to(x.device))
    levels = 256 if x.dtype == torch.uint8 else None
    return Data("tensor", tuple(x.shape[1:]), hold_out(rows), kind, count, names, levels=levels)


def _check_rows(x: Tensor, name: str, kind: Kind) -> None:
    """Raise ValueError unless rows are finite and floating point, or uint8 images."""
    if not x.is_floating_point() and (x.dtype, kind) != (torch.uint8, "images"):
        raise ValueError(
            f"{name} must be floating, or uint8 images (N, C, H, W), got {x.dtype} of shape {tuple(x.shape)}; rows of "
            "tokens are given by fm.data.tokens"
        )
    check_finite(x, name)


@dataclass(frozen=True, eq=False)
class ItemRows:
    """A table of the items of a torch map-style data set, read one by one.

    Args:
        dataset: The data set.
        name: Name in messages.
        classes: Number of classes.
        form: Layout of the rows.
        numbers: Number of each class by its text. None: labels are numbers.
    """

    dataset: Any
    name: str
    classes: int | None
    form: RowForm
    numbers: Mapping[str, int] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, index: Tensor) -> Batch:
        """Rows by number, as in `sources.IndexedRows`.

        Raises:
            ValueError: Rows have mixed shapes or are not finite, or labels are wrong.
        """
        items = [item_of(self.dataset[row], self.name) for row in index.tolist()]
        dtypes = {str(x.dtype).removeprefix("torch.") for x, _ in items}
        if len(dtypes) > 1:
            raise ValueError(f"items of {self.name} must have one dtype, got {', '.join(sorted(dtypes))}")
        shapes = {tuple(x.shape) for x, _ in items}
        if len(shapes) > 1:
            raise ValueError(f"rows of {self.name} must have one shape, got {' and '.join(map(str, sorted(shapes)))}")
        x = torch.stack([x for x, _ in items])
        x = from_bytes(self.form(x[:, None] if x.ndim == 1 else x))
        check_finite(x, self.name)
        labels = [label for _, label in items] if items[0][1] is not None else None
        if labels is not None and isinstance(labels[0], (str, bool)):
            labels = [self._number(label) for label in labels]
        return Batch(x, check_labels(labels, len(items), self.name, self.classes)[0])

    def _number(self, label: Any) -> int:
        """The number of a label that is a text or a truth value. Raises ValueError for an unknown text."""
        if self.numbers is not None and str(label).strip() not in self.numbers:
            raise ValueError(f"labels of {self.name} must be among {', '.join(self.numbers)}, got {label!r}")
        return int(label) if self.numbers is None else self.numbers[str(label).strip()]


def _dataset(dataset: Any, classes: int | None, kind: Kind | None) -> Data:
    """Data of a map-style data set. All labels are read once to count the classes if their number is unknown."""
    name = type(dataset).__name__
    if len(dataset) == 0:
        raise ValueError(f"{name} has no rows")
    x, label = item_of(dataset[0], name)
    x = x.reshape(1, *(x.shape or (1,)))
    form = RowForm.of(x, name, kind)
    x = form(x)
    _check_rows(x, name, form.kind)
    warn_unread(dataset[0], name)
    names = known_names(dataset) if label is not None else None
    count = None if names is None else len(names)
    numbers = None
    if label is not None and (isinstance(label, str) or (classes is None and count is None)):
        labels = [item_of(dataset[row], name)[1] for row in range(len(dataset))]
        _, count, names = labels_and_names(labels, len(dataset), name, classes)
        numbers = {text: at for at, text in enumerate(names)} if names and isinstance(label, str) else None
    count = count if names is not None or classes is None else classes
    rows = ItemRows(dataset, name, count, form, numbers)
    rows.take(torch.zeros(1, dtype=torch.int64))
    levels = 256 if x.dtype == torch.uint8 else None
    class_names = check_names(names, count, name)
    return Data(name, tuple(x.shape[1:]), hold_out(rows), form.kind, count, class_names, levels=levels)


def _is_items(obj: Any) -> bool:
    """Whether the object is a map-style data set, or a list of single rows."""
    if _package(obj) == "datasets":
        return getattr(obj, "format", {}).get("type") == "custom"
    if isinstance(obj, list):
        return len(obj) > 0 and is_row(obj[0], obj, "list")
    return isinstance(obj, Dataset) and not isinstance(obj, IterableDataset)


def _is_stream(obj: Any) -> bool:
    """Whether batches can be read from the object more than once; an iterator can be read only once."""
    if _package(obj) == "datasets":
        return type(obj).__name__ == "IterableDataset"
    single = (bytes, Mapping, Iterator, Tensor, tuple)
    return (
        isinstance(obj, Iterable) and not isinstance(obj, single) and not _is_items(obj) and _package(obj) not in TABLES
    )


def _with_tensors(iterable: Any) -> Any:
    """A streaming data set of `datasets` that gives tensors; other iterables are returned unchanged."""
    return iterable.with_format("torch") if _package(iterable) == "datasets" else iterable


def _stream(iterable: Any, classes: int | None, held_out: Iterable[Any] | None, kind: Kind | None, look: bool) -> Data:
    """Data of an iterable of batches or of single rows, described by its first item."""
    name = type(iterable).__name__
    iterable, held_out = _with_tensors(iterable), _with_tensors(held_out)
    first = next(iter(iterable), None)
    if first is None:
        raise ValueError(f"an iterable of batches must give at least one, and this {name} gave none")
    x, label = item_of(first, name)
    single, dtype = is_row(first, iterable, name), x.dtype

    def batched(rows: Tensor) -> Tensor:
        rows = rows[None] if single else rows
        return rows[:, None] if rows.ndim == 1 else rows

    x = batched(x)
    form = RowForm.of(x, name, kind)
    warn_unread(first, name)
    names = known_names(iterable) if label is not None else None
    names = names if names is not None and classes in (None, len(names)) else None
    classes = known_classes(iterable) if label is not None and classes is None else classes
    if label is not None and classes is None:
        raise ValueError(f"batches of {name} have labels, so the number of classes is needed: pass classes=N")
    shape = tuple(form(x).shape[1:])
    _check_rows(form(x), name, form.kind)

    def convert(item: Any) -> Batch:
        rows, target = item_of(item, name)
        if rows.dtype != dtype:
            raise ValueError(f"batches of {name} must have the dtype of the first, {dtype}, got {rows.dtype}")
        rows = from_bytes(form(batched(rows)))
        if rows.shape[1:] != shape:
            raise ValueError(
                f"batches of {name} must have rows of shape {shape}, as the first had, got {tuple(rows.shape[1:])}"
            )
        check_finite(rows, name)
        target = [target] if single and target is not None else target
        return Batch(rows, check_labels(target, len(rows), name, classes)[0])

    rows = convert(first).x0
    if look:
        with torch.random.fork_rng(devices=[]):
            some = [convert(item).x0 for item in islice(iterable, SEEN)] if single else [rows]
        warn_scale(torch.cat(some), form.kind, name, ADVICE)
    levels = 256 if dtype == torch.uint8 else None
    class_names = check_names(names, classes, name)
    return Data(name, shape, Stream(iterable, convert, held_out), form.kind, classes, class_names, levels=levels)
