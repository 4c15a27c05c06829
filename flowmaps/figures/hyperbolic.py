"""Figure of the hyperbolic plane: the Poincare disc."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..arguments import expect_tensor
from ..manifolds import Hyperbolic
from .earth import NAMES
from .plane import dots
from .style import Theme, figure, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RINGS = (1, 2, 3)
"""Distances to the origin that are drawn as circles."""
OFF = 1e-2
"""Largest distance of a point to the hyperboloid, relative to its first coordinate."""


def disc(x: Tensor, path: str | Path | None = None, *, beside: Tensor | None = None, theme: Theme = light) -> Figure:
    """Draw points of the hyperbolic plane on the Poincare disc, with circles at distances 1, 2, 3 from the origin.

    Args:
        x: Points (N, 3) of the hyperboloid, -x_0^2 + x_1^2 + x_2^2 = -1. Rows that are not finite are left out.
        path: The file to save; its suffix chooses the format. None: not saved.
        beside: Other points (M, 3), such as real data, on a second disc.
        theme: The colours.

    Returns:
        The figure.

    Raises:
        TypeError: These are no tensors.
        ValueError: These are no points of the hyperboloid.

    A point is drawn at (x_1, x_2)/(1 + x_0); angles are right, and the edge is infinitely far away.
    """
    rows = [_placed("x", x), *([] if beside is None else [_placed("beside", beside)])]
    with figure(theme, 3.3 * len(rows), 3.3 + 0.3 * (len(rows) > 1), path, ncols=len(rows), squeeze=False) as (
        made,
        axes,
    ):
        for axis, places, colour in zip(axes[0], rows, theme.series[1::-1], strict=False):
            _disc(axis, theme)
            dots(axis, places, colour)
        for axis, name in zip(axes[0], NAMES if len(rows) > 1 else (), strict=False):
            axis.set_title(name)
    return made


def _placed(name: str, x: Tensor) -> Tensor:
    """The positions (N, 2) of the finite ones of points (N, 3)."""
    expect_tensor(name, x)
    if x.ndim != 2 or x.shape[1] != 3:
        raise ValueError(f"{name} must be points (N, 3) of the hyperboloid, got {tuple(x.shape)}")
    rows = x.detach().cpu().double()
    rows = rows[rows.isfinite().all(1)]
    off = Hyperbolic(2).off(rows) > OFF * rows[:, 0].abs()
    if bool(off.any()):
        raise ValueError(f"{name} must be points of the hyperboloid, and {int(off.sum())} of {len(rows)} rows are not")
    return rows[:, 1:] / (1 + rows[:, :1])


def _disc(axis: Any, theme: Theme) -> None:
    """Draw the edge and the circles."""
    from matplotlib.patches import Circle

    for radius, width in ((1.0, 1.0), *((math.tanh(distance / 2), 0.5) for distance in RINGS)):
        axis.add_patch(Circle((0, 0), radius, facecolor="none", edgecolor=theme.muted, linewidth=width))
    axis.set(xlim=(-1.02, 1.02), ylim=(-1.02, 1.02), aspect="equal")
    axis.set_axis_off()
