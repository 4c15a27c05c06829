"""Figures of angles: pairs of them on a torus, in degrees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..arguments import expect_tensor, positive
from .earth import NAMES
from .style import Theme, figure, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 4
"""Largest number of pairs that are chosen."""
BINS = 72
"""Bins of a histogram of one angle."""


def angles(
    x: Tensor,
    path: str | Path | None = None,
    *,
    beside: Tensor | None = None,
    pairs: Sequence[tuple[int, int]] | None = None,
    names: Sequence[str] | None = None,
    width: float = 2.9,
    theme: Theme = light,
) -> Figure:
    """Draw pairs of angles of a torus as dots on squares from -180 to 180 degrees, as in a Ramachandran plot.

    Args:
        x: Angles (N, n) in radians; turns of 2 pi do not matter. Rows that are not finite are left out.
        path: The file to save; its suffix chooses the format. None: not saved.
        beside: Other angles (M, n), such as real data, in a second row.
        pairs: Numbers of the angles of each square, from 0. None: (0, 1), (2, 3) and so on, up to four; a single angle
            is drawn as a histogram.
        names: Names of the n angles. None: "angle 1", "angle 2" and so on.
        width: Width of a square with its labels, in inches.
        theme: The colours.

    Returns:
        The figure.

    Raises:
        TypeError: These are no tensors.
        ValueError: Shapes, names or pairs do not fit, or the width is not positive.
    """
    positive(width=width)
    rows = [_degrees("x", x), *([] if beside is None else [_degrees("beside", beside)])]
    n = rows[0].shape[1]
    if rows[-1].shape[1] != n:
        raise ValueError(f"both must have the same angles, got {n} and {rows[-1].shape[1]}")
    names = [f"angle {k + 1}" for k in range(n)] if names is None else list(names)
    if len(names) != n:
        raise ValueError(f"each of the {n} angles needs a name, got {len(names)} names")
    shown = _first_pairs(n) if pairs is None else [_checked(pair, n) for pair in pairs]
    if not shown:
        raise ValueError("pairs must be at least one pair of numbers of angles, got none")
    size = (width * len(shown) + 0.3, (width - 0.4) * len(rows) + 0.6)
    with figure(theme, *size, path, nrows=len(rows), ncols=len(shown), squeeze=False, sharex=True) as (made, axes):
        for panels, points, colour in zip(axes, rows, theme.series[1::-1], strict=False):
            for axis, pair in zip(panels, shown, strict=True):
                _panel(axis, points, pair, names, colour, max(map(len, rows)), theme)
        for axis, (first, _) in zip(axes[-1], shown, strict=True):
            axis.set_xlabel(f"{names[first]} (°)")
        for panels, name in zip(axes, NAMES if len(rows) > 1 else (), strict=False):
            panels[0].set_title(name)
    return made


def _degrees(name: str, x: Tensor) -> Tensor:
    """Check angles in radians, and return the finite rows in degrees, from -180 to 180."""
    expect_tensor(name, x)
    if x.ndim != 2 or not x.shape[1] or not x.is_floating_point():
        raise ValueError(f"{name} must be angles (N, n) in radians, got {x.dtype} of shape {tuple(x.shape)}")
    rows = torch.rad2deg(x.detach().cpu().double())
    rows = rows[rows.isfinite().all(1)]
    return rows - 360 * (rows / 360).round()


def _first_pairs(n: int) -> list[tuple[int, int]]:
    """Pairs of neighbours that hold each of the first angles; (0, 0) for a single angle."""
    found = [(k, k + 1) for k in range(0, n - 1, 2)]
    odd = [(n - 2, n - 1)] if n > 1 and n % 2 else []
    return [*found, *odd][:MOST] or [(0, 0)]


def _checked(pair: tuple[int, int], n: int) -> tuple[int, int]:
    """Check that a pair is two numbers of angles."""
    if len(pair) != 2 or not all(isinstance(k, int) and 0 <= k < n for k in pair):
        raise ValueError(f"a pair is two numbers of angles from 0 to {n - 1}, got {pair!r}")
    return pair


def _panel(
    axis: Any, x: Tensor, pair: tuple[int, int], names: Sequence[str], colour: str, count: int, theme: Theme
) -> None:
    """Draw a pair of angles as dots, or an angle with itself as a histogram."""
    ticks, labels = [-180, -90, 0, 90, 180], ["−180", "", "0", "", "180"]
    axis.set_xlim(-180, 180)
    axis.set_xticks(ticks, labels)
    first, second = pair
    if first == second:
        counts, edges = torch.histogram(x[:, first], torch.linspace(-180, 180, BINS + 1, dtype=x.dtype))
        axis.stairs((counts / max(1, len(x))).tolist(), edges.tolist(), fill=True, color=colour)
        axis.set_ylabel(f"share in {360 // BINS}°")
        return
    area = max(1.0, min(10.0, 8000 / max(1, count)))
    axis.scatter(x[:, first], x[:, second], s=area, color=colour, alpha=0.4 if count > 1000 else 0.8, linewidths=0,
                 rasterized=True)  # fmt: skip
    axis.set_yticks(ticks, labels)
    axis.set(ylim=(-180, 180), aspect="equal", ylabel=f"{names[second]} (°)")
    axis.grid(linewidth=0.6, zorder=0)
    axis.set_axisbelow(True)
    for spine in axis.spines.values():
        spine.set(visible=True, color=theme.rule)
