"""Rows from a .npy, .npz or .safetensors file, or a numpy array: layouts, value ranges and their checks."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .changes import drawn_from_moments
from .check import LABEL_NAMES, check_labels, check_names, refuse_non_finite
from .core import IN_MEMORY, Batch, Data, Kind, kind_of
from .sources import Rows, TensorRows, from_bytes, hold_out

Array = np.ndarray[Any, Any]
CHUNK = 64 * 2**20


@dataclass(frozen=True)
class Format:
    """How rows lie in an array and what becomes of them.

    shape: of one row as a tensor.
    layout: "NHWC", "NHW", or anything else where rows lie as in the tensor.
    span: the values that become -1 and 1, None where values stay as they are.
    """

    shape: tuple[int, ...]
    kind: Kind
    layout: str
    span: tuple[float, float] | None

    def __call__(self, rows: Array) -> Tensor:
        """Rows as they lie in the array -> (B, *shape): the bytes of images stay bytes, all else takes the default
        dtype.
        """
        if self.layout == "NHWC":
            rows = np.moveaxis(rows, -1, 1)
        rows = rows.reshape(-1, *self.shape)
        if rows.dtype == np.uint8 and self.kind == "images" and self.span == (0, 255):
            return torch.from_numpy(np.array(rows, order="C"))
        x = torch.from_numpy(
            np.array(rows, np.float64 if torch.get_default_dtype() == torch.float64 else np.float32, order="C")
        )
        return x if self.span is None else (x - self.span[0]) * (2 / (self.span[1] - self.span[0])) - 1


@dataclass(frozen=True, eq=False)
class DiskRows:
    """Rows of a memory-mapped array, read when they are taken."""

    array: Array
    form: Format
    label: Tensor | None

    def __len__(self) -> int:
        return len(self.array)

    def take(self, index: Tensor) -> Batch:
        x = from_bytes(self.form(self.array[index.numpy()]))
        return Batch(x, None if self.label is None else self.label[index])


def array_file(
    path: str,
    /,
    *,
    x: str | None = None,
    labels: str | bool | None = None,
    classes: int | None = None,
    layout: str | None = None,
    kind: Kind | None = None,
    value_range: tuple[float, float] | None = None,
    moments: bool = False,
) -> Data:
    """A .npy or .safetensors file (memory-mapped) or a .npz file (read whole), rows first.

    x, labels: the keys to read from a .npz or a .safetensors; by default "x" or the single array, and "label",
        "labels", "target", "class" or "y" where there is such a key (False: none). The labels of a .npy are another
        .npy in the same folder, labels=NAME.
    classes: number of classes, by default the largest label plus one.
    layout: "NHWC", "NCHW" or "NHW". By default three dimensions are grey images (N, H, W), and of four the one that can
        be channels (1 or 3, of bytes 1 to 4) decides: the second (N, C, H, W), the last (N, H, W, C); where both can,
        pass `layout`, and where neither can, rows are taken as they lie.
    kind: "images" or "vectors", where the shape misleads. By default rows that can have channels are images, anything
        else is points or vectors, whose values stay as they are.
    value_range: (low, high), the values that become -1 and 1; by default (0, 255) for images of whole numbers, while
        floating images must lie in [-1, 1] already.
    moments: rows (2 C, H, W) are means and standard deviations, as an encoder gives them, and each x_0 is drawn anew.
    A fifth of the rows, at most 10000, is held out. Up to 512 MiB the rows are kept in memory, above that they stay
    on disk where the file is mapped.
    Raises ValueError for pickled objects, missing keys, empty arrays, NaN or infinite values (with their count), values
    outside the range, an unclear layout and bad labels.
    """
    array, label = _read(Path(path), x, labels)
    data = array_data(array, label, Path(path).name, classes=classes, layout=layout, kind=kind, value_range=value_range)
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
) -> Data:
    """A numpy array with rows first as data. The options of `array_file`; `held` (N,) marks the held-out rows of a set
    with its own split.
    """
    if array.dtype.kind not in "uif" or array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} must hold rows of real numbers, got shape {array.shape} and dtype {array.dtype}")
    form = _form(array, name, _layout(array, name, layout), kind, value_range)
    _inspect(array, form, name)
    targets, count = check_labels(label, len(array), name, classes)
    rows: Rows = TensorRows(form(array), targets) if array.nbytes <= IN_MEMORY else DiskRows(array, form, targets)
    levels = 256 if form.kind == "images" and array.dtype.kind in "ui" and form.span == (0, 255) else None
    names = check_names(class_names, count, name)
    return Data(name, form.shape, hold_out(rows, held), form.kind, classes=count, class_names=names, levels=levels)


def _read(path: Path, x: str | None, labels: str | bool | None) -> tuple[Array, Array | None]:
    """The array of rows, and the labels or None, that a file holds."""
    arrays = _arrays(path)
    if "" in arrays:
        if x is not None or labels is True:
            raise ValueError(f"{path} is a single array without keys: pass no x, and as labels the name of a .npy file")
        return arrays[""], np.array(_arrays(path.parent / labels).get("")) if labels else None
    x = x if x is not None else "x" if "x" in arrays or len(arrays) != 1 else next(iter(arrays))
    labels = next((key for key in LABEL_NAMES if key in arrays), False) if labels is None else labels
    for key in (x, labels):
        if isinstance(key, str) and key not in arrays:
            raise ValueError(
                f'{path} has no key "{key}" but {sorted(arrays)}: pass x=KEY, and labels=KEY where there are labels'
            )
    return arrays[x], arrays[labels] if isinstance(labels, str) else None


def _arrays(path: Path) -> dict[str, Array]:
    """The arrays of a file by name, "" for that of a .npy; mapped, but for a .npz."""
    if path.suffix == ".safetensors":
        return _tensors(path)
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        return {"": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as arrays of numbers: {error}") from error


def _tensors(path: Path) -> dict[str, Array]:
    """The tensors of a .safetensors file as arrays, mapped; numpy has no bfloat16."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError("safetensors files need safetensors: pip install flowmaps[train]") from error
    try:
        return {name: tensor.numpy() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as arrays of numbers: {error}") from error


def _channels(array: Array) -> tuple[int, ...]:
    """How many channels an image may have: bytes are surely an image, other numbers may be latents."""
    return (1, 2, 3, 4) if array.dtype == np.uint8 else (1, 3)


def _layout(array: Array, name: str, layout: str | None) -> str:
    if layout not in (None, "NHWC", "NCHW", "NHW"):
        raise ValueError(f'layout must be "NHWC", "NCHW" or "NHW", got "{layout}"')
    if layout is not None and len(layout) != array.ndim:
        raise ValueError(f"layout {layout} has {len(layout)} dimensions, and {name} has shape {array.shape}")
    if layout is not None or array.ndim != 4:
        return layout or ("NHW" if array.ndim == 3 else "")
    first, last = (array.shape[axis] in _channels(array) for axis in (1, 3))
    if first and last:
        raise ValueError(
            f'{name} has shape {array.shape}: are channels first or last? pass layout="NCHW" or layout="NHWC"'
        )
    return "NHWC" if last else "NCHW"


def _form(array: Array, name: str, layout: str, kind: Kind | None, span: tuple[float, float] | None) -> Format:
    """Decide what the rows of `array` are; see `array_file` for the rules."""
    shape = tuple(array.shape[1:]) or (1,)
    if layout == "NHW" and kind != "vectors":
        shape = (1, *shape)
    elif layout == "NHWC":
        shape = (shape[-1], *shape[:-1])
    image = len(shape) == 3 and shape[0] in _channels(array)
    if kind not in (None, "images", "vectors"):
        raise ValueError(f'kind must be "images" or "vectors", got "{kind}"')
    if kind == "images" and len(shape) != 3:
        raise ValueError(f"rows of {name} have shape {shape} and cannot be images, which are (C, H, W)")
    chosen: Kind = kind or ("images" if image else kind_of(shape))
    if span is None and chosen == "images" and array.dtype.kind in "ui":
        span = (0, 255)
    if span is not None and not (len(span) == 2 and span[0] < span[1]):
        raise ValueError(f"value_range must be (low, high) with low < high, got {span}")
    return Format(shape, chosen, layout, None if span is None else (span[0], span[1]))


def _inspect(array: Array, form: Format, name: str) -> None:
    """Look at every value once, in chunks: all finite, and images within their range."""
    nan = infinite = 0
    least, most = np.inf, -np.inf
    step = max(1, CHUNK * len(array) // array.nbytes)
    for chunk in (array[at : at + step] for at in range(0, len(array), step)):
        nan, infinite = nan + int(np.isnan(chunk).sum()), infinite + int(np.isinf(chunk).sum())
        least, most = min(least, float(chunk.min())), max(most, float(chunk.max()))
    refuse_non_finite(nan, infinite, array.size, name)
    low, high = form.span or (-1, 1)
    slack = 1e-4 * (high - low)
    if form.kind == "images" and (least < low - slack or most > high + slack):
        raise ValueError(
            f"images of {name} must lie in [{low:g}, {high:g}], and their values reach from {least:g} to {most:g}: "
            'pass value_range=(low, high), the values that become -1 and 1, or kind="vectors"'
        )
