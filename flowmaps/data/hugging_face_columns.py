"""The columns of a Hugging Face data set: the choice of rows, labels and texts, and a column of arrays."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .check import LABEL_NAMES, TEXT_NAMES
from .text_labels import numbered

ARRAYS = ("List", "LargeList", "Sequence", "Array2D", "Array3D", "Array4D", "Array5D")
"""Kinds of columns of arrays in `datasets`."""
LIKE_LABELS = re.compile(r"label|target|class|categor|^y$", re.IGNORECASE)
"""Names of columns that may be class labels."""


def rows_column(features: Any, column: str | None, name: str) -> str:
    """The column of rows: the requested one, or the only one of images, or the only one of arrays."""
    kinds = {key: _kind(feature) for key, feature in features.items()}
    listing = ", ".join(f"{key} ({kind})" for key, kind in kinds.items())
    if column is None:
        found = [key for key, kind in kinds.items() if kind == "Image"] or [
            key for key, kind in kinds.items() if kind in ARRAYS
        ]
        if len(found) != 1:
            raise ValueError(
                f"{name} needs one column of images or arrays and has {len(found)}; pass column=NAME, one of: {listing}"
            )
        return found[0]
    if kinds.get(column) not in ("Image", *ARRAYS):
        raise ValueError(f'{name} has no column "{column}" of images or arrays; its columns are: {listing}')
    return column


def label_column(features: Any, labels: str | bool | None, name: str, taken: Sequence[str] = ()) -> str | None:
    """The column of class labels: the requested one, the only ClassLabel, or the first with a usual name.

    Args:
        features: The columns.
        labels: Name of the column; False for none; True if there must be one.
        name: Name of the data set in messages.
        taken: Columns that are read as something else.

    Returns:
        The name, or None. A warning lists columns that may be labels and are not read.

    Raises:
        ValueError: There is no such column, or there are several.
    """
    if labels is False:
        return None
    if isinstance(labels, str):
        if labels not in features:
            raise ValueError(f'{name} has no column "{labels}", it has {", ".join(features)}')
        return labels
    named = [key for key, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    if len(named) > 1:
        raise ValueError(
            f"{name} has several columns of class labels, pass labels=NAME or labels=False: {', '.join(named)}"
        )
    usual = [key for key in features if key.lower() in LABEL_NAMES]
    whole = [
        key for key in usual if _dtype(features[key]).startswith(("int", "uint", "string", "large_string", "bool"))
    ]
    found = next(iter(named + sorted(whole, key=lambda key: LABEL_NAMES.index(key.lower()))), None)
    if labels is True and found is None:
        raise ValueError(f"labels=True, and {name} has no column of class labels among {', '.join(features)}")
    other = [key for key in features if key not in taken and LIKE_LABELS.search(key) and key != found]
    if found is None and other:
        listing = ", ".join(f"{key} ({_dtype(features[key]) or type(features[key]).__name__})" for key in other)
        warnings.warn(
            f"{name} has columns that may be class labels and are not read: {listing}; pass labels=NAME, or "
            "labels=False",
            stacklevel=4,
        )
    return found


def _kind(feature: Any) -> str:
    """The kind of a column; "List of Image" for several images in each row."""
    inner = type(getattr(feature, "feature", None)).__name__
    return type(feature).__name__ + (" of Image" if inner == "Image" else "")


def _dtype(feature: Any) -> str:
    """The dtype of a column; "" for one without."""
    return str(getattr(feature, "dtype", ""))


def texts_of(parts: Sequence[Any], column: str | bool, name: str) -> list[str]:
    """The texts of the requested column, or of the only one with a usual name."""
    kinds = {key: getattr(feature, "dtype", None) for key, feature in parts[0].features.items()}
    if column is True:
        found = [key for key in TEXT_NAMES if key in kinds]
        if len(found) != 1:
            raise ValueError(
                f"{name} needs one column of texts and has {len(found)} of a usual name; pass captions=NAME, one of: "
                + ", ".join(kinds)
            )
        column = found[0]
    if kinds.get(str(column)) not in ("string", "large_string"):
        raise ValueError(f'{name} has no column "{column}" of texts; its columns are: {", ".join(kinds)}')
    return [text or "" for part in parts for text in part[column]]


def label_tensor(label: list[Any] | None, name: str) -> tuple[Tensor | None, tuple[str, ...] | None]:
    """Labels as a tensor, and the names of texts. Raises ValueError if some are missing or are no numbers."""
    if label is None:
        return None, None
    label, names = numbered(label, name)
    wrong = [row for row, value in enumerate(label) if isinstance(value, bool) or not isinstance(value, (int, float))]
    if wrong:
        got = f"the first in row {wrong[0]}: {label[wrong[0]]!r}"
        raise ValueError(f"labels of {name} must be whole numbers; {len(wrong)} are not, {got}")
    return torch.tensor(label), names


class ArrayColumn:
    """A column of arrays with the interface of an array for `array_data`. Rows are read when they are taken.

    Args:
        tables: Consecutive tables with the column.
        column: Name of the column.
        name: Name of the data set in messages.

    Raises:
        ValueError: Rows are not numbers of one shape.
    """

    def __init__(self, tables: Sequence[Any], column: str, name: str) -> None:
        self.tables, self.column, self.name = tables, column, name
        self.ends = np.cumsum([len(table) for table in tables])
        first = self._read(0, [0])
        self.dtype, self.shape = first.dtype, (len(self), *first.shape[1:])
        self.ndim, self.size = len(self.shape), math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: Any) -> Any:
        """Rows by a slice or by an array of row numbers."""
        rows = np.arange(len(self))[index]
        which = np.searchsorted(self.ends, rows, side="right")
        taken = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for part in np.unique(which):
            start = self.ends[part] - len(self.tables[part])
            found = self._read(part, (rows[which == part] - start).tolist())
            if found.shape[1:] != self.shape[1:] or found.dtype != self.dtype:
                raise self._refusal()
            taken[which == part] = found
        return taken

    def _read(self, part: int, rows: list[int]) -> Any:
        """Rows of one table. Raises ValueError unless they are numbers of one shape."""
        found = np.asarray(self.tables[part][rows][self.column])
        if found.dtype == object:
            raise self._refusal()
        return found

    def _refusal(self) -> ValueError:
        """The error for rows of mixed shapes or of no numbers."""
        return ValueError(
            f'rows of column "{self.column}" of {self.name} must all be numbers of one shape, and none missing'
        )
