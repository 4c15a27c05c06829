"""The items of data sets and loaders of torch: tuples and dicts, single rows and batches, channels at the end."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from .check import LABEL_NAMES, check_labels
from .core import Kind, kind_of

ROW_NAMES = ("x", "x0", "image", "images", "img", "pixel_values", "input", "inputs", "data")
"""Usual keys of the rows in items that are dicts."""


def item_of(item: Any, name: str) -> tuple[Tensor, Any]:
    """Read the row, or the batch of rows, of an item.

    Args:
        item: x0, (x0,), (x0, label), or a dict with them.
        name: Name of the data set in messages.

    Returns:
        x0 and its label; None without a label.

    Raises:
        TypeError: The item has another form, or x0 is no tensor.
    """
    x, label = item, None
    if isinstance(item, Mapping):
        row, target = _keys(item)
        x, label = item if row is None else item[row], None if target is None else item[target]
    elif isinstance(item, (tuple, list)) and len(item) in (1, 2):
        x, label = item[0], item[1] if len(item) == 2 else None
    if _is_array(x):
        x = torch.as_tensor(x)
    if not isinstance(x, Tensor):
        raise TypeError(
            f"items of {name} must be a tensor or an array, (tensor, label) or a dict of them, got {_describe(item)}; "
            "convert them in its transform"
        )
    return x.detach(), label


def warn_unread(item: Any, name: str) -> None:
    """Warn about the keys of an item that is a dict, which are neither its row nor its label."""
    unread = [str(key) for key in item if key not in _keys(item)] if isinstance(item, Mapping) else []
    if unread:
        warnings.warn(f"items of {name} have keys that are not read: {', '.join(unread)}", stacklevel=5)


def _keys(item: Mapping[Any, Any]) -> tuple[Any, Any]:
    """The keys of the row and of the label, None if there is none: usual names, or the only tensor of numbers."""
    lower = {str(key).lower(): key for key in reversed(list(item))}
    target = next((lower[name] for name in LABEL_NAMES if name in lower), None)
    usual = [lower[name] for name in ROW_NAMES if name in lower and _is_array(item[lower[name]])]
    others = [key for key, value in item.items() if key != target and _is_array(value) and value.ndim]
    return (usual[0] if usual else others[0] if len(others) == 1 else None), target


def _is_array(value: Any) -> bool:
    """Whether a value is a tensor, or an array of numbers of numpy."""
    return isinstance(value, Tensor) or (type(value).__module__ == "numpy" and value.dtype.kind in "fiub")


def _describe(item: Any) -> str:
    """The type of an item, for a message."""
    if isinstance(item, (tuple, list)):
        return f"({', '.join(type(part).__name__ for part in item)})"
    keys = f" with keys {sorted(map(str, item))}" if isinstance(item, Mapping) else ""
    return type(item).__name__ + keys


def is_row(item: Any, origin: Any, name: str) -> bool:
    """Whether an item is a single row rather than a batch of rows.

    Args:
        item: The first item.
        origin: The list or iterable that gave it.
        name: Its name in messages.

    Returns:
        False for a loader that makes batches. Otherwise whether the label is a single one; without labels, whether x0
        has at most one dimension, or the shape of an image.

    Raises:
        TypeError: The item has another form.
    """
    if isinstance(origin, DataLoader):
        return origin.batch_sampler is None
    x, label = item_of(item, name)
    if label is not None:
        of_sequence = 1 if isinstance(label, Sequence) and not isinstance(label, str) else 0
        return bool(getattr(label, "ndim", of_sequence) == 0)
    return x.ndim <= 1 or (x.ndim == 3 and (x.shape[0] in (1, 3) or channels_last(x.shape)))


def channels_last(shape: Sequence[int]) -> bool:
    """Whether rows have the shape of an image (H, W, C) and not of one (C, H, W), with 1 or 3 channels."""
    return len(shape) == 3 and shape[2] in (1, 3) and shape[0] not in (1, 3) and min(shape[:2]) >= 4


@dataclass(frozen=True)
class RowForm:
    """The kind and the layout of rows.

    Args:
        kind: Kind of the rows.
        turned: Whether rows (H, W, C) become (C, H, W).
    """

    kind: Kind
    turned: bool

    @classmethod
    def of(cls, x: Tensor, name: str, kind: Kind | None) -> RowForm:
        """Find the form of rows.

        Args:
            x: Rows (B, ...).
            name: Name of the data set in messages.
            kind: "images" or "vectors". None: by the shape. A warning says so if images are turned.

        Returns:
            The form.

        Raises:
            ValueError: The rows cannot be images.
        """
        shape = tuple(x.shape[1:])
        if kind == "images" and len(shape) != 3:
            raise ValueError(f"rows of {name} have shape {shape} and cannot be images, which are (C, H, W)")
        turned = kind != "vectors" and channels_last(shape)
        if turned:
            warnings.warn(
                f"rows of {name} have shape {shape}: they are read as images with channels at the end and turned to "
                f'{(shape[2], *shape[:2])}; pass x.movedim(-1, 1), or kind="vectors" to fm.data.as_data to keep them',
                stacklevel=5,
            )
        return cls(kind or ("images" if turned else kind_of(shape)), turned)

    def __call__(self, x: Tensor) -> Tensor:
        """Turn rows (B, H, W, C) if that is their layout; other rows (B, ...) are returned unchanged."""
        return x.movedim(-1, 1) if self.turned and x.ndim == 4 else x


def known_names(origin: Any) -> Sequence[str] | None:
    """The class names of the data set that a loader or a subset reads.

    Args:
        origin: A loader, a subset or a data set.

    Returns:
        The names in `classes` (as in torchvision) or of the ClassLabel column of `datasets`; None if there are none.
    """
    origin = _innermost(origin)
    features = getattr(origin, "features", None)
    columns = features.items() if isinstance(features, Mapping) else ()
    named = [column.names for key, column in columns if key.lower() in LABEL_NAMES and hasattr(column, "names")]
    names = getattr(origin, "classes", None) or next(iter(named), None)
    return names if isinstance(names, Sequence) else None


def known_classes(origin: Any) -> int | None:
    """The number of classes in the data set that a loader reads.

    Args:
        origin: A loader.

    Returns:
        The number of names, or the largest label of a `TensorDataset` or of `targets` plus one; None if neither is
        known.
    """
    names, origin = known_names(origin), _innermost(origin)
    if names is not None:
        return len(names)
    tensors = origin.tensors if isinstance(origin, TensorDataset) else ()
    labels = tensors[1] if len(tensors) == 2 else getattr(origin, "targets", None)
    if not isinstance(labels, (Tensor, list)) or not len(labels) or not isinstance(labels[0], (Tensor, int)):
        return None
    return check_labels(labels, len(labels), type(origin).__name__)[1]


def _innermost(origin: Any) -> Any:
    """The data set below loaders and subsets."""
    while hasattr(origin, "dataset"):
        origin = origin.dataset
    return origin
