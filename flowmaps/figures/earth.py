"""Figures of the sphere: points on globes and on a flat map, and densities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..arguments import expect_finite, positive
from .land import coast
from .projections import EqualEarth, Orthographic, Projection
from .sphere import (
    bare,
    best_views,
    chosen_views,
    dots,
    earth,
    expect_sphere,
    grid_of,
    grid_points,
    kernel_estimate,
    shaded,
    surface,
)
from .style import Theme, figure, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = ("samples", "data")
"""Titles of points and of other points beside them."""
INK = "#a9b8c9"
"""Colour of lines on a density."""
GLOW = "inferno"
"""Colours of a density, from black to bright, readable with colour blindness."""


def globe(
    x: Tensor,
    path: str | Path | None = None,
    *,
    beside: Tensor | None = None,
    views: int | Sequence[tuple[float, float]] = 1,
    land: bool = True,
    width: float = 3.3,
    theme: Theme = light,
) -> Figure:
    """Draw points of the sphere on globes; points on the far side are hidden.

    Args:
        x: Unit vectors (N, 3), such as (cos lat cos lon, cos lat sin lon, sin lat). Rows that are not finite are left
            out.
        path: The file to save; its suffix chooses the format. None: not saved.
        beside: Other points (M, 3), such as real data, in a second row, seen from the same sides.
        views: Number of globes, from the sides that show most points of `beside` or else `x`; or the latitude and
            longitude of the middle of each globe, in degrees.
        land: Whether the sphere is the earth, drawn with land and coast lines.
        width: Width of a globe in inches.
        theme: The colours.

    Returns:
        The figure.

    Raises:
        TypeError: These are no tensors.
        ValueError: These are no points of the sphere, or the width is not positive.
    """
    positive(width=width)
    rows = _rows(x, beside)
    seen = chosen_views(views, rows[-1])
    with figure(theme, width * len(seen), width * len(rows) + 0.3 * (len(rows) > 1), path, nrows=len(rows),
                ncols=len(seen), squeeze=False) as (made, axes):  # fmt: skip
        _points(axes, rows, seen, land, theme)
    return made


def world(
    x: Tensor,
    path: str | Path | None = None,
    *,
    beside: Tensor | None = None,
    longitude: float = 0.0,
    land: bool = True,
    theme: Theme = light,
) -> Figure:
    """Draw points of the sphere on a flat map of equal areas, so that uniform points look uniform.

    Args:
        x: Unit vectors (N, 3); rows that are not finite are left out.
        path: The file to save; its suffix chooses the format. None: not saved.
        beside: Other points (M, 3), such as real data, on a second map below.
        longitude: Longitude of the middle in degrees.
        land: Whether the sphere is the earth, drawn with land and coast lines.
        theme: The colours.

    Returns:
        The figure.

    Raises:
        TypeError: These are no tensors.
        ValueError: These are no points of the sphere.

    The projection is Equal Earth (Savric, Patterson and Jenny 2019).
    """
    rows = _rows(x, beside)
    with figure(theme, 6.6, 3.25 * len(rows) + 0.3 * (len(rows) > 1), path, nrows=len(rows), squeeze=False) as (
        made,
        axes,
    ):
        _points(axes, rows, [EqualEarth(longitude)], land, theme)
    return made


def overview(
    x: Tensor,
    path: str | Path | None = None,
    *,
    beside: Tensor | None = None,
    land: bool = True,
    theme: Theme = light,
) -> Figure:
    """Draw points of the sphere on a globe, from the side that shows most of them, and on a flat map of equal areas.

    Args:
        x: Unit vectors (N, 3); rows that are not finite are left out.
        path: The file to save; its suffix chooses the format. None: not saved.
        beside: Other points (M, 3), such as real data, in a second row.
        land: Whether the sphere is the earth, drawn with land and coast lines.
        theme: The colours.

    Returns:
        The figure.

    Raises:
        TypeError: These are no tensors.
        ValueError: These are no points of the sphere.
    """
    rows = _rows(x, beside)
    with _wide(theme, len(rows), path) as (made, axes):
        _points(axes, rows, [*best_views(rows[-1], 1), EqualEarth()], land, theme)
    return made


def _wide(theme: Theme, rows: int, path: str | Path | None) -> Any:
    """Open a figure with a globe and a flat map in each row."""
    width, height = EqualEarth().size
    ratios = [1, width / height]
    return figure(
        theme, 9.6, 3.1 * rows + 0.3 * (rows > 1), path, nrows=rows, ncols=2, squeeze=False, width_ratios=ratios
    )


Density = Tensor | Callable[[Tensor], Tensor]
"""Samples (N, 3), or a function from unit vectors (M, 3) to densities (M,)."""


def density(
    of: Density,
    path: str | Path | None = None,
    *,
    beside: Density | None = None,
    width: float = 3.0,
    view: tuple[float, float] | None = None,
    longitude: float = 0.0,
    land: bool = True,
    theme: Theme = light,
) -> Figure:
    """Draw a density of the sphere as the colour of a globe and of a flat map of equal areas.

    Args:
        of: Samples (N, 3), whose kernel estimate relative to the uniform density is drawn, or a function from unit
            vectors (M, 3) to values (M,) >= 0, such as a density.
        path: The file to save; its suffix chooses the format. None: not saved.
        beside: The same of something else, such as real data, in a second row with the same colours.
        width: Standard deviation of the kernel in degrees.
        view: Latitude and longitude of the middle of the globe, in degrees. None: the side with most of the density.
        longitude: Longitude of the middle of the map, in degrees.
        land: Whether the sphere is the earth, drawn with coast lines.
        theme: The colours.

    Returns:
        The figure.

    Raises:
        TypeError: `of` is neither a tensor nor a function.
        ValueError: The samples are no points of the sphere, or values are negative or not finite.
    """
    from matplotlib.colors import PowerNorm

    positive(width=width)
    grids = [_grid(one, width) for one in (of, beside) if one is not None]
    most = max(float(grid.max()) for grid in grids) or 1.0
    norm = PowerNorm(0.5, 0, most)
    seen = chosen_views([view], torch.empty(0, 3)) if view is not None else _best_view(grids[-1])
    panels: list[Projection] = [*seen, EqualEarth(longitude)]
    with _wide(theme, len(grids), path) as (made, axes):
        import matplotlib

        shades = matplotlib.colormaps[GLOW]
        for row, grid in zip(axes, grids, strict=True):
            for axis, panel in zip(row, panels, strict=True):
                colours = shaded(grid, lambda values: shades(norm(values)))
                surface(axis, panel, colours, INK, lines=coast() if land else None)
        _titles(axes, len(grids))
        _bar(made, axes, matplotlib.cm.ScalarMappable(norm, shades), isinstance(of, Tensor))
    return made


def _rows(x: Tensor, beside: Tensor | None) -> list[Tensor]:
    return [expect_sphere("x", x), *([] if beside is None else [expect_sphere("beside", beside)])]


def _points(axes: Any, rows: Sequence[Tensor], views: Sequence[Projection], land: bool, theme: Theme) -> None:
    """Draw a row of panels for each set of points."""
    for panels, points, colour in zip(axes, rows, theme.series[1::-1], strict=False):
        for axis, view in zip(panels, views, strict=True):
            surface(axis, view, (earth if land else bare)(theme), theme.muted, lines=coast() if land else None)
            dots(axis, view, points, colour, max(map(len, rows)))
    _titles(axes, len(rows))


def _titles(axes: Any, rows: int) -> None:
    """Name the rows, if there are two."""
    for panels, name in zip(axes, NAMES[: rows if rows > 1 else 0], strict=False):
        panels[0].set_title(name)


def _grid(one: Density, width: float) -> Tensor:
    if isinstance(one, Tensor):
        return grid_of(kernel_estimate(expect_sphere("samples", one), width))
    if not callable(one):
        raise TypeError(f"a density is drawn of samples (N, 3) or of a function, got {type(one).__name__}")
    grid = grid_of(one)
    expect_finite("the density", grid)
    if float(grid.min()) < 0:
        raise ValueError(f"a density is not negative, got {float(grid.min()):.3g}")
    return grid


def _best_view(grid: Tensor) -> list[Orthographic]:
    """The view that shows most of a density."""
    x = grid_points().reshape(-1, 3)
    return best_views(x, 1, grid.flatten() * x[:, :2].norm(dim=1))  # the area of a cell is the cosine of its latitude


def _bar(made: Any, axes: Any, shades: Any, relative: bool) -> None:
    """Draw the bar of colours."""
    bar = made.colorbar(shades, ax=axes, shrink=0.7, aspect=25, pad=0.015)
    bar.set_label("density, uniform = 1" if relative else "density", fontsize=10)
    bar.ax.tick_params(labelsize=9)
    bar.outline.set_visible(False)
