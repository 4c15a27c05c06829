"""The layout and the value range of the rows of an array, and their checks."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .array_files import Array
from .check import refuse_non_finite
from .core import Kind, kind_of

CHUNK = 64 * 2**20
"""Bytes of an array that are checked at a time."""


@dataclass(frozen=True)
class ArrayFormat:
    """Layout of the rows of an array, and their conversion to tensors.

    Args:
        shape: Shape of one row as a tensor.
        kind: Kind of the rows.
        layout: "NHWC" or "NHW"; for anything else rows have the layout of the tensor.
        span: Values that become -1 and 1. None: values are unchanged.
    """

    shape: tuple[int, ...]
    kind: Kind
    layout: str
    span: tuple[float, float] | None

    def __call__(self, rows: Array) -> Tensor:
        """Convert array rows to a tensor (B, *shape): bytes of images stay bytes, others take the default dtype."""
        if self.layout == "NHWC":
            rows = np.moveaxis(rows, -1, 1)
        rows = rows.reshape(-1, *self.shape)
        if rows.dtype == np.uint8 and self.kind == "images" and self.span == (0, 255):
            return torch.from_numpy(np.array(rows, order="C"))
        x = torch.from_numpy(
            np.array(rows, np.float64 if torch.get_default_dtype() == torch.float64 else np.float32, order="C")
        )
        return x if self.span is None else (x - self.span[0]) * (2 / (self.span[1] - self.span[0])) - 1


def _channels(array: Array) -> tuple[int, ...]:
    """Possible numbers of channels of an image: bytes are an image, other numbers may be latents."""
    return (1, 2, 3, 4) if array.dtype == np.uint8 else (1, 3)


def layout_of(array: Array, name: str, layout: str | None) -> str:
    """The requested layout, or the one that the shape implies; see `array_file`."""
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
    if not first and not last and array.shape[1] == array.shape[2] != array.shape[3] and array.shape[3] <= 16:
        warnings.warn(
            f'{name} has shape {array.shape} and is read as it is: pass layout="NHWC" if the last are channels, '
            'layout="NCHW" if not',
            stacklevel=4,
        )
    return "NHWC" if last else "NCHW"


def format_of(array: Array, name: str, layout: str, kind: Kind | None, span: tuple[float, float] | None) -> ArrayFormat:
    """Shape, kind and value range of the rows; see `array_file`."""
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
    return ArrayFormat(shape, chosen, layout, None if span is None else (span[0], span[1]))


def check_values(array: Array, form: ArrayFormat, name: str) -> None:
    """Raise ValueError unless all values are finite, and images lie within their range."""
    least, most = finite_range(array, name)
    low, high = form.span or (-1, 1)
    slack = 1e-4 * (high - low)
    if form.kind == "images" and (least < low - slack or most > high + slack):
        raise ValueError(
            f"images of {name} must lie in [{low:g}, {high:g}], and their values reach from {least:g} to {most:g}: "
            "pass value_range=(low, high), the values that become -1 and 1 (of an array in Python pass "
            '2 * (x - low) / (high - low) - 1), or kind="vectors"'
        )


def finite_range(array: Array, name: str) -> tuple[float, float]:
    """The smallest and the largest value, searched in chunks. Raises ValueError unless all are finite."""
    nan = infinite = 0
    least, most = np.inf, -np.inf
    step = max(1, CHUNK * len(array) // array.nbytes)
    for chunk in (array[at : at + step] for at in range(0, len(array), step)):
        nan, infinite = nan + int(np.isnan(chunk).sum()), infinite + int(np.isinf(chunk).sum())
        least, most = min(least, float(chunk.min())), max(most, float(chunk.max()))
    refuse_non_finite(nan, infinite, array.size, name)
    return least, most
