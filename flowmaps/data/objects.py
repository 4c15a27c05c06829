"""Python objects as data: tensors, exact distributions, torch data sets, iterables of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from ..arguments import at_least, expect_tensor, given
from ..exact import Exact
from .check import check_finite, check_labels, check_names, warn_unit_range
from .core import Batch, Data, Kind, kind_of
from .load import load
from .sources import Stream, TensorRows, from_bytes, hold_out
from .toys import exact


def as_data(obj: Any, *, classes: int | None = None, held_out: Iterable[Any] | None = None) -> Data:
    """Make a data set of an object.

    - a `Data` (returned unchanged), or a name or path (as in `load`);
    - a distribution of `flowmaps.exact`, or a `datasets.Dataset`;
    - a tensor (N, *shape), or (tensor, labels); or a numpy array, or (array, labels), read like a .npy file;
    - a torch map-style data set of items x0 or (x0, label);
    - a DataLoader, or any iterable of batches x0 or (x0, label) that can be read more than once.

    Tensors and items are images (C, H, W) in [-1, 1] (or uint8), or any other rows, and keep their floating-point
    dtype. Of finite sets a fifth, at most 10000 rows, is held out.

    Args:
        obj: The object.
        classes: Number of classes. None: the largest label plus one. An iterable with labels needs it, because not all
            labels are seen.
        held_out: Iterable of held-out batches, for an iterable of batches. None: no rows are held out.

    Returns:
        The data set.

    Raises:
        TypeError: The object is of another kind.
        ValueError: Rows are empty, not finite or of mixed shapes, labels are wrong, or an argument does not apply to
            the object.
    """
    at_least(1, **given(classes=classes))
    kind = type(obj).__name__
    complete = _complete(obj)
    if complete is not None and classes is not None:
        raise ValueError(f"classes goes with tensors, data sets of torch and iterables; {kind} knows its own")
    if held_out is not None and (complete is not None or not _is_stream(obj)):
        raise ValueError(f"held_out goes with an iterable of batches; {kind} has held-out rows of its own")
    if complete is not None:
        return complete
    if isinstance(obj, TensorDataset) and len(obj.tensors) <= 2:
        obj = obj.tensors
    x, *labels = obj if isinstance(obj, tuple) and len(obj) in (1, 2) else (obj,)
    label = labels[0] if labels else None
    if isinstance(x, Tensor):
        return tensor_data(x, label, classes=classes)
    if _package(x) == "numpy":
        from .arrays import array_data

        return array_data(x, label, classes=classes)
    if _is_items(obj):
        return _dataset(obj, classes)
    if _is_stream(obj):
        return _stream(obj, classes, held_out)
    raise TypeError(
        "expected a name, a path, a tensor, (tensor, labels), an exact distribution, a torch Dataset or an iterable of "
        f"batches that can be read again, got {kind}"
    )


def _complete(obj: Any) -> Data | None:
    """The data set of an object that needs no options: data, names, paths, exact distributions, Hugging Face data."""
    if isinstance(obj, Data):
        return obj
    if isinstance(obj, (str, Path)):
        return load(obj)
    if isinstance(obj, Exact):
        return exact(obj, type(obj).__name__)
    if _package(obj) == "datasets":
        from .hugging_face import dataset_data

        return dataset_data(obj)
    return None


def _package(obj: Any) -> str:
    """Name of the package that defines the object's class."""
    return type(obj).__module__.partition(".")[0]


def tensor_data(x: Tensor, label: Any = None, *, classes: int | None = None) -> Data:
    """Make a data set of a tensor.

    Args:
        x: Rows (N, *shape): floating point, which are unchanged, or uint8 images, which become x / 127.5 - 1.
        label: Labels (N,), or None.
        classes: Number of classes. None: the largest label plus one.

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
    kind = kind_of(x.shape[1:])
    _check_rows(x, "the tensor", kind)
    targets, count = check_labels(label, len(x), "the tensor", classes)
    rows = TensorRows(x, None if targets is None else targets.to(x.device))
    levels = 256 if x.dtype == torch.uint8 else None
    return Data("tensor", tuple(x.shape[1:]), hold_out(rows), kind, classes=count, levels=levels)


def _check_rows(x: Tensor, name: str, kind: Kind) -> None:
    """Raise ValueError unless rows are finite and floating point, or uint8 images."""
    if not x.is_floating_point() and (x.dtype, kind) != (torch.uint8, "images"):
        raise ValueError(
            f"{name} must be floating, or uint8 images (N, C, H, W), got {x.dtype} of shape {tuple(x.shape)}"
        )
    check_finite(x, name)
    if kind == "images":
        warn_unit_range(x, name)


@dataclass(frozen=True, eq=False)
class ItemRows:
    """A table of the items of a torch map-style data set, read one by one.

    Args:
        dataset: The data set.
        name: Name in messages.
        classes: Number of classes.
    """

    dataset: Any
    name: str
    classes: int | None

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, index: Tensor) -> Batch:
        """Rows by number, as in `sources.IndexedRows`.

        Raises:
            ValueError: Rows have mixed shapes or are not finite, or labels are wrong.
        """
        items = [_item(self.dataset[row], self.name) for row in index.tolist()]
        dtypes = {str(x.dtype).removeprefix("torch.") for x, _ in items}
        if len(dtypes) > 1:
            raise ValueError(f"items of {self.name} must have one dtype, got {', '.join(sorted(dtypes))}")
        shapes = {tuple(x.shape) for x, _ in items}
        if len(shapes) > 1:
            raise ValueError(f"rows of {self.name} must have one shape, got {' and '.join(map(str, sorted(shapes)))}")
        x = from_bytes(torch.stack([x for x, _ in items]))
        check_finite(x, self.name)
        labels = [label for _, label in items] if items[0][1] is not None else None
        return Batch(x, check_labels(labels, len(items), self.name, self.classes)[0])


def _item(item: Any, name: str) -> tuple[Tensor, Any]:
    """x0 or (x0, label) -> (x0, label or None)."""
    x, label = (item[0], item[1]) if isinstance(item, (tuple, list)) and len(item) == 2 else (item, None)
    if not isinstance(x, Tensor):
        raise TypeError(
            f"items of {name} must be a tensor or (tensor, label), got {_describe(item)}; convert them in its transform"
        )
    return x.detach(), label


def _describe(item: Any) -> str:
    """The type of an item, for a message."""
    if isinstance(item, (tuple, list)):
        return f"({', '.join(type(part).__name__ for part in item)})"
    keys = f" with keys {sorted(map(str, item))}" if isinstance(item, Mapping) else ""
    return type(item).__name__ + keys


def _dataset(dataset: Any, classes: int | None) -> Data:
    """Data of a map-style data set. All labels are read once to count the classes if their number is unknown."""
    name = type(dataset).__name__
    if len(dataset) == 0:
        raise ValueError(f"{name} has no rows")
    x, label = _item(dataset[0], name)
    kind = kind_of(x.shape)
    _check_rows(x[None], name, kind)
    names = _class_names(dataset) if label is not None else None
    if label is not None and classes is None and names is None:
        classes = check_labels([_item(dataset[row], name)[1] for row in range(len(dataset))], len(dataset), name)[1]
    elif names is not None:
        classes = len(names)
    rows = ItemRows(dataset, name, classes)
    rows.take(torch.zeros(1, dtype=torch.int64))
    class_names = check_names(names, classes, name)
    levels = 256 if x.dtype == torch.uint8 else None
    return Data(name, tuple(x.shape), hold_out(rows), kind, classes, class_names, levels=levels)


def _class_names(dataset: Any) -> Any:
    """The class names of a data set of torchvision, also of a part of it; None if there are none."""
    return _class_names(dataset.dataset) if isinstance(dataset, Subset) else getattr(dataset, "classes", None)


def _is_items(obj: Any) -> bool:
    """Whether the object is a map-style data set."""
    return isinstance(obj, Dataset) and not isinstance(obj, IterableDataset)


def _is_stream(obj: Any) -> bool:
    """Whether batches can be read from the object more than once; an iterator can be read only once."""
    single = (bytes, Mapping, Iterator, Tensor, tuple)
    return isinstance(obj, Iterable) and not isinstance(obj, single) and not _is_items(obj) and _package(obj) != "numpy"


def _stream(iterable: Iterable[Any], classes: int | None, held_out: Iterable[Any] | None) -> Data:
    """Data of an iterable of batches, described by its first batch."""
    name = type(iterable).__name__
    first = next(iter(iterable), None)
    if first is None:
        raise ValueError(f"an iterable of batches must give at least one, and this {name} gave none")
    x, label = _item(first, name)
    shape, kind = tuple(x.shape[1:]) or (1,), kind_of(x.shape[1:])
    if label is not None and classes is None:
        raise ValueError(f"batches of {name} have labels, so the number of classes is needed: pass classes=N")
    _check_rows(x, name, kind)
    check_labels(label, len(x), name, classes)

    def convert(item: Any) -> Batch:
        rows, target = _item(item, name)
        if rows.dtype != x.dtype:
            raise ValueError(f"batches of {name} must have the dtype of the first, {x.dtype}, got {rows.dtype}")
        rows = from_bytes(rows.reshape(-1, *shape) if rows.ndim == 1 else rows)
        if rows.shape[1:] != shape:
            raise ValueError(
                f"batches of {name} must have rows of shape {shape}, as the first had, got {tuple(rows.shape[1:])}"
            )
        check_finite(rows, name)
        return Batch(rows, check_labels(target, len(rows), name, classes)[0])

    levels = 256 if x.dtype == torch.uint8 else None
    names = _class_names(getattr(iterable, "dataset", None)) if label is not None else None
    names = check_names(names, classes, name) if names is not None and len(names) == classes else None
    return Data(name, shape, Stream(iterable, convert, held_out), kind, classes, names, levels=levels)
