"""Figures of the plane: samples, paths, velocity fields."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..arguments import expect_tensor
from ..path import Time
from .style import SHADES, Theme, figure, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HARDLY_LARGER = 1.25
"""Largest ratio of a square around the origin to the fitted one with which the origin is in the middle."""


def points(
    x: Tensor,
    path: str | Path | None = None,
    *,
    beside: Tensor | None = None,
    extent: float | None = None,
    centre: tuple[float, float] | None = None,
    theme: Theme = light,
) -> Figure:
    """Draw samples (N, 2) as dots.

    Args:
        x: The samples.
        path: The file to save; its suffix chooses the format. None: not saved.
        beside: Other points (M, 2), such as real data, for a second panel.
        extent: Half the width of the square that is shown. None: fitted to the points, or to `beside` if given.
        centre: The middle of this square. None: the origin with `extent`, else fitted.
        theme: The colours.

    Returns:
        The figure. Points that are not finite are left out.

    Raises:
        TypeError: These are no tensors.
        ValueError: These are no points of the plane.
    """
    for name, rows in (("x", x), *((("beside", beside),) if beside is not None else ())):
        expect_tensor(name, rows)
        if rows.ndim != 2 or rows.shape[1] != 2:
            raise ValueError(f"points of the plane have the shape (N, 2), got {tuple(rows.shape)}")
    panels = [x] if beside is None else [x, beside]
    with figure(theme, 3 * len(panels), 3, path, ncols=len(panels), squeeze=False) as (made, axes):
        for rows, axis, colour in zip(panels, axes[0], theme.series, strict=False):
            plane(axis, *chosen(extent, centre, panels[-1]))
            axis.set(xticks=[], yticks=[])
            dots(axis, rows, colour)
    return made


def paths(
    states: Sequence[Tensor],
    path: str | Path | None = None,
    *,
    data: Tensor | None = None,
    extent: float | None = None,
    centre: tuple[float, float] | None = None,
    theme: Theme = light,
) -> Figure:
    """Draw the way of each of N samples from the first state (noise, open circles) to the last (data, filled).

    Args:
        states: The states of all samples, (N, 2) each.
        path: The file to save; its suffix chooses the format. None: not saved.
        data: Real data (M, 2), drawn as a shadow.
        extent: Half the width of the square that is shown. None: fitted to the states.
        centre: The middle of this square. None: the origin with `extent`, else fitted.
        theme: The colours.

    Returns:
        The figure.
    """
    way = torch.stack(list(states)).detach().cpu()
    with figure(theme, 5, 5.3, path) as (made, axis):
        plane(axis, *chosen(extent, centre, way.flatten(0, 1)))
        if data is not None:
            dots(axis, data, theme.muted)
        axis.plot(way[:, :, 0], way[:, :, 1], color=theme.series[0], linewidth=0.9, alpha=0.65)
        hollow = {"markerfacecolor": theme.background, "markeredgecolor": theme.muted}
        axis.plot(way[0, :, 0], way[0, :, 1], "o", markersize=4, label="noise", **hollow)
        axis.plot(way[-1, :, 0], way[-1, :, 1], "o", markersize=4.5, color=theme.series[1], label="sample")
        made.legend(loc="outside lower center", ncols=2)
    return made


def field(
    flow: Any, t: Time, path: str | Path | None = None, *, extent: float = 2.0, count: int = 21, theme: Theme = light
) -> Figure:
    """Draw the velocity v(x, t) over the plane, as arrows that point towards data (against v).

    Args:
        flow: Anything with velocity(x, t), such as a flow map.
        t: The time.
        path: The file to save; its suffix chooses the format. None: not saved.
        extent: Half the width of the square of arrows.
        count: Arrows along each side.
        theme: The colours.

    Returns:
        The figure.
    """
    line = torch.linspace(-extent, extent, count)
    x = torch.cartesian_prod(line, line)
    with torch.no_grad():
        v = flow.velocity(x, t)
    with figure(theme, 5, 5, path) as (made, axis):
        plane(axis, extent * 1.05)
        axis.quiver(x[:, 0], x[:, 1], -v[:, 0], -v[:, 1], v.norm(dim=1), cmap=SHADES, angles="xy")
    return made


def plane(axis: Any, extent: float, centre: tuple[float, float] = (0.0, 0.0)) -> None:
    """Make an axis a square of half the width `extent` around a point, with equal units and few numbers."""
    x, y = centre
    axis.set(xlim=(x - extent, x + extent), ylim=(y - extent, y + extent), aspect="equal")
    axis.locator_params(nbins=5)


def chosen(extent: float | None, centre: tuple[float, float] | None, x: Tensor) -> tuple[float, tuple[float, float]]:
    """The frame that a caller gives, completed by the frame of the points x."""
    if extent is not None:
        return extent, centre or (0.0, 0.0)
    fitted, middle = frame(x)
    return fitted, centre or middle


def dots(axis: Any, x: Tensor, colour: str) -> None:
    """Draw points as dots, smaller for more points, and as pixels, so that a vector file stays small.

    Args:
        axis: The matplotlib axis.
        x: The points (N, 2).
        colour: The colour of the dots.
    """
    size = max(0.5, min(5.0, 5000 / max(1, len(x))))
    x = x.detach().cpu()
    axis.scatter(x[:, 0], x[:, 1], s=size, color=colour, linewidths=0, alpha=0.8, rasterized=True)


def frame(x: Tensor) -> tuple[float, tuple[float, float]]:
    """Fit a square to points of the plane.

    Args:
        x: The points (N, 2); those that are not finite are left out.

    Returns:
        Half the width and the middle of a square that shows 99.5 % of each coordinate on either side, and a tenth more.
        The middle is the origin if the square is hardly larger then.
    """
    rows = x.detach().cpu().double().reshape(-1, 2)
    rows = rows[rows.isfinite().all(1)]
    if not len(rows):
        return 1.0, (0.0, 0.0)
    low, high = rows[:: max(1, len(rows) // 100_000)].quantile(torch.tensor([0.005, 0.995], dtype=rows.dtype), 0)
    middle, half, around = (low + high) / 2, float((high - low).max()) / 2, float(torch.maximum(-low, high).max())
    if around <= HARDLY_LARGER * half:
        return 1.1 * around or 1.0, (0.0, 0.0)
    return 1.1 * half or 1.0, (float(middle[0]), float(middle[1]))
