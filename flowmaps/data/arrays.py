"""Rows from a numpy array or an array file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..arguments import at_least
from .array_files import Array, read
from .array_format import ArrayFormat, check_values, finite_range, format_of, layout_of
from .check import unmasked
from .core import IN_MEMORY, Batch, Data, Kind
from .sources import IndexedRows, TensorRows, from_bytes, hold_out
from .text_labels import labels_and_names
from .transforms import drawn_from_moments


@dataclass(frozen=True, eq=False)
class DiskRows:
    """A table of rows of a memory-mapped array, read when they are taken.

    Args:
        array: The array, rows first.
        form: Conversion of its rows.
        label: Labels (N,), int64.
        given: Arrays of other conditions by name.
    """

    array: Array
    form: ArrayFormat
    label: Tensor | None
    given: Mapping[str, Array] | None = None

    def __len__(self) -> int:
        return len(self.array)

    def take(self, index: Tensor) -> Batch:
        """Rows by number, as in `sources.IndexedRows`."""
        x = from_bytes(self.form(self.array[index.numpy()]))
        given = {name: as_tensor(rows[index.numpy()]) for name, rows in (self.given or {}).items()}
        return Batch(x, None if self.label is None else self.label[index], given=given or None)


def as_tensor(rows: Array) -> Tensor:
    """Copy an array to a tensor, floating-point numbers in the default dtype."""
    copied = torch.from_numpy(np.array(rows, order="C"))
    return copied.to(torch.get_default_dtype()) if copied.is_floating_point() else copied


def array_file(
    path: str,
    /,
    *,
    x: str | None = None,
    labels: str | bool | None = None,
    given: Sequence[str] | None = None,
    classes: int | None = None,
    layout: str | None = None,
    kind: Kind | None = None,
    value_range: tuple[float, float] | None = None,
    moments: bool = False,
) -> Data:
    """Read a .npy or .safetensors file (memory-mapped) or a .npz file (read whole), rows first.

    A fifth of the rows, at most 10000, is held out. Up to 512 MiB the rows are kept in memory; larger mapped files stay
    on disk.

    Args:
        path: The file.
        x: Key of the rows in a .npz or .safetensors. None: "x", or the only array.
        labels: Key of the labels in a .npz or .safetensors, or the name of another .npy in the same folder. None: the
            first of "label", "labels", "target", "class" and "y" that exists, in any case of letters. False: no labels.
            Texts and truth values are numbered in the order of their names.
        given: Keys of other conditions, which are names of arguments of the network. None: if there is a "text", all
            existing keys among "text", "mask", "pooled" and "size".
        classes: Number of classes. None: the largest label plus one.
        layout: "NHWC", "NCHW" or "NHW". None: three dimensions are grey images (N, H, W). Of four dimensions the one
            that can be channels (size 1 or 3, for bytes 1 to 4) decides between (N, C, H, W) and (N, H, W, C). Pass the
            layout if both can be. If neither can, rows are read as they are.
        kind: "images" or "vectors", if the shape is misleading. None: rows that can have channels are images, others
            are points or vectors with unchanged values.
        value_range: (low, high), the values that become -1 and 1. None: (0, 255) for images of whole numbers;
            floating-point images must lie in [-1, 1] already.
        moments: Whether rows (2 C, H, W) are means and standard deviations, from which each x_0 is sampled anew.

    Returns:
        The data set.

    Raises:
        ValueError: The file holds pickled objects, lacks a key, is empty, has NaN or infinite values or values outside
            the range, an ambiguous layout or wrong labels.
    """
    array, label, conditions = read(Path(path), x, labels, given)
    options: Any = {"classes": classes, "layout": layout, "kind": kind, "value_range": value_range}
    data = array_data(array, label, Path(path).name, given=conditions, **options)
    return drawn_from_moments(data) if moments else data


def array_data(
    array: Array,
    label: Any = None,
    name: str = "array",
    *,
    classes: int | None = None,
    class_names: tuple[str, ...] | None = None,
    layout: str | None = None,
    kind: Kind | None = None,
    value_range: tuple[float, float] | None = None,
    held: Tensor | None = None,
    given: Mapping[str, Array] | None = None,
) -> Data:
    """Make a data set of a numpy array, rows first.

    Args:
        array: The rows.
        label: Labels, one for each row, or None.
        name: Name in messages and tables.
        classes: As for `array_file`, like layout, kind and value_range.
        class_names: Names of the classes.
        layout: Layout of the rows.
        kind: "images" or "vectors".
        value_range: Values that become -1 and 1.
        held: Boolean mask (N,) of the held-out rows, for a data set with its own split.
        given: Arrays of other conditions by name, rows first.

    Returns:
        The data set.

    Raises:
        ValueError: The array is empty, has values that are not finite or outside the range, an ambiguous layout or
            wrong labels or conditions.
    """
    array = unmasked(array, name)
    at_least(1, **({} if classes is None else {"classes": classes}))
    if array.dtype.kind not in "uif" or array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} must hold rows of real numbers, got shape {array.shape} and dtype {array.dtype}")
    form = format_of(array, name, layout_of(array, name, layout), kind, value_range)
    check_values(array, form, name)
    targets, count, names = labels_and_names(label, len(array), name, classes, class_names)
    given = given or {}
    check_given(given, len(array), name)
    rows: IndexedRows
    if array.nbytes + sum(other.nbytes for other in given.values()) <= IN_MEMORY:
        conditions = {key: as_tensor(other) for key, other in given.items()}
        rows = TensorRows(form(array), targets, given=conditions or None)
    else:
        rows = DiskRows(array, form, targets, given)
    levels = 256 if form.kind == "images" and array.dtype.kind in "ui" and form.span == (0, 255) else None
    source = hold_out(rows, held)
    return Data(name, form.shape, source, form.kind, count, names, levels=levels, given=tuple(given))


def check_given(given: Mapping[str, Array], rows: int, where: str) -> None:
    """Check conditions.

    Args:
        given: Arrays by name, rows first.
        rows: Number of rows of the data set.
        where: Name of the data in messages.

    Raises:
        ValueError: A condition has another number of rows, or is not made of finite numbers.
    """
    for name, values in given.items():
        if len(values) != rows or values.ndim == 0:
            raise ValueError(f"{name} of {where} must have {rows} rows, one for each, got shape {values.shape}")
        if values.dtype.kind not in "uifb":
            raise ValueError(f"{name} of {where} must hold numbers, got dtype {values.dtype}")
        if values.dtype.kind == "f":
            finite_range(values, f"{name} of {where}")
