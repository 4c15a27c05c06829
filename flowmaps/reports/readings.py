"""Values of charts that a reader can point at: where each value is in the picture, and its text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..figures import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 200
"""Largest number of places along a curve."""


@dataclass(frozen=True)
class Places:
    """Places of one axis of a chart, each with a text.

    Attributes:
        frame: Left, top, width and height of the axis: in pixels from the bottom left of the figure, until `placed`
            makes them shares of the picture from its top left.
        stops: (x, heights, text) of each place: shares of the axis from its left and from its bottom.
        across: Whether a place belongs to all points above and below it, as for curves.
        cell: Width and height of a cell around each place, as shares of the axis; empty for a dot.
    """

    frame: tuple[float, ...]
    stops: Sequence[tuple[float, Sequence[float], str]]
    across: bool = False
    cell: tuple[float, ...] = ()


Read = Callable[["Figure"], list[Places]]
"""Function that finds the places of a figure."""


def placed(found: Places, left: float, top: float, width: float, height: float) -> Places:
    """Turn the frame of places from pixels into shares of a picture.

    Args:
        found: The places, with pixels.
        left: The left edge of the picture, in pixels of the figure.
        top: Its upper edge, from the bottom of the figure.
        width: Its width.
        height: Its height.

    Returns:
        The places with shares.
    """
    x, y, across, down = found.frame
    shares = ((x - left) / width, (top - y) / height, across / width, down / height)
    return replace(found, frame=tuple(round(share, 4) for share in shares))


def curves(made: Figure) -> list[Places]:
    """The values of all labelled curves at each of their places, an entry for each axis.

    Args:
        made: The figure. Its axes have curves with labels, possibly with error bars.

    Returns:
        The places. Of more than MOST places of an axis every k-th is kept, and the last.
    """
    return [_curves(axis) for axis in made.axes if axis.get_legend_handles_labels()[1]]


def _curves(axis: Axes) -> Places:
    """The places of one axis."""
    found: dict[float, list[tuple[float, str]]] = {}
    for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
        line: Any = getattr(handle, "lines", (handle,))[0]  # a container with error bars, or the line itself
        x, y = line.get_data()
        if line.get_transform() != axis.transData:  # a line across the axis, such as a floor
            continue
        for k, (at, value) in enumerate(zip(x, y, strict=True)):
            if not math.isfinite(value):
                continue
            found.setdefault(float(at), []).append((float(value), f"{name}: {_number(value, _errors(handle), k)}"))
    kept = sorted(found)
    step = -(-len(kept) // MOST) or 1
    kept = [at for k, at in enumerate(kept) if k % step == 0 or k == len(kept) - 1]
    unit = axis.get_xlabel()
    stops = []
    for at in kept:
        heights = [_share(axis, at, value)[1] for value, _ in found[at]]
        stops.append((_share(axis, at, found[at][0][0])[0], heights, "\n".join([f"{unit} {at:g}", *(
            text for _, text in found[at])])))  # fmt: skip
    return Places(_frame(axis), stops, across=True)


def marks(made: Figure) -> list[Places]:
    """The values of labelled marks along named rows, as `figures.ranking` draws them.

    Args:
        made: The figure, with one axis whose rows have names.

    Returns:
        The places.
    """
    [axis] = made.axes
    rows = [label.get_text() for label in axis.get_yticklabels()]
    stops = []
    for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
        if not hasattr(handle, "lines"):
            continue
        for k, (value, row) in enumerate(zip(*handle.lines[0].get_data(), strict=True)):
            x, y = _share(axis, value, row)
            stops.append((x, [y], f"{rows[round(row)]}, {name}\n{_number(value, _errors(handle), k)}"))
    return [Places(_frame(axis), stops)]


def cells(values: Tensor, times: Tensor, unit: str) -> Read:
    """Make a function that finds the cells of `figures.charts.heat_map`.

    Args:
        values: The amounts (S, T) at s = times[i], t = times[j]; NaN is left out.
        times: Evenly spaced times.
        unit: The unit behind a number.

    Returns:
        The function.
    """
    size = len(times)
    shares = [round((k + 0.5) / size, 4) for k in range(size)]
    stops = [
        (shares[i], [shares[j]], f"s = {float(times[i]):.2g} to t = {float(times[j]):.2g}\n{float(value):.3g} {unit}")
        for i, row in enumerate(values)
        for j, value in enumerate(row)
        if value.isfinite()
    ]
    return lambda made: [Places(_frame(made.axes[0]), stops, cell=(1 / size, 1 / size))]


def _errors(handle: Any) -> list[float]:
    """Half the lengths of the error bars of a container; empty for a line."""
    if not hasattr(handle, "lines"):
        return []
    return [float(abs(end - start).max()) / 2 for start, end in handle.lines[2][0].get_segments()]


def _number(value: float, errors: Sequence[float], k: int) -> str:
    """A value with its error if it has one."""
    return words.plus_minus(value, errors[k] if k < len(errors) else None)


def _share(axis: Axes, x: float, y: float) -> tuple[float, float]:
    """A point of the data as shares of the axis, from its left and its bottom."""
    across, up = (axis.transData + axis.transAxes.inverted()).transform((x, y))
    return round(float(across), 4), round(float(up), 4)


def _frame(axis: Axes) -> tuple[float, ...]:
    """Left, top, width and height of an axis in pixels, from the bottom left of the figure."""
    box = axis.get_window_extent()
    return float(box.x0), float(box.y1), float(box.width), float(box.height)
