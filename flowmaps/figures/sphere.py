"""Parts of pictures of the sphere: its surface, lines and dots on an axis, the best views, densities on a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, expect_tensor
from .land import at, graticule, share_of_land, unit
from .projections import Orthographic, Projection
from .style import Theme

Colours = Callable[[Tensor], Tensor]
"""Function from unit vectors (..., 3) to red, green and blue in [0, 1], (..., 3)."""
HEIGHT = 400
"""Pixels of the surface from top to bottom."""
STEP = 1.5
"""Degrees between the points at which a density is evaluated."""
LEAST = -80.0
"""Least logarithm of a kernel: the exponentials of lower ones are slow, because they are no normal numbers."""
OFF = 1e-2
"""Largest distance of a point to the sphere."""


def expect_sphere(name: str, x: Any) -> Tensor:
    """Check that rows are points of the unit sphere.

    Args:
        name: Their name in the message.
        x: The rows (N, 3).

    Returns:
        The finite rows, in float64 on the CPU.

    Raises:
        TypeError: They are no tensor.
        ValueError: They have another shape, or are off the sphere.
    """
    expect_tensor(name, x)
    if x.ndim != 2 or x.shape[1] != 3:
        raise ValueError(f"{name} must be unit vectors of the shape (N, 3), got {tuple(x.shape)}")
    rows = x.detach().cpu().double()
    rows = rows[rows.isfinite().all(1)]
    off = (rows.norm(dim=1) - 1).abs()
    if bool((off > OFF).any()):
        raise ValueError(
            f"{name} must be unit vectors, and {int((off > OFF).sum())} of {len(rows)} rows have another length, such "
            f"as {float(rows[off.argmax()].norm()):.3g}: fm.data.sphere makes unit vectors of degrees"
        )
    return rows


def earth(theme: Theme) -> Colours:
    """Make the colours of sea and land."""
    sea, land = blend(theme.series[0], theme.background, 0.14), blend(theme.muted, theme.background, 0.36)
    return lambda x: torch.lerp(sea, land, share_of_land(x)[..., None])


def bare(theme: Theme) -> Colours:
    """Make the colours of a sphere without land."""
    colour = blend(theme.muted, theme.background, 0.12)
    return lambda x: colour.expand(*x.shape[:-1], 3)


def shaded(grid: Tensor, scale: Callable[[Any], Any]) -> Colours:
    """Make the colours of values on a grid; see `land.at` for the grid. `scale` maps an array to colours (..., 4)."""

    def colours(x: Tensor) -> Tensor:
        return torch.as_tensor(scale(at(grid, x).numpy()), dtype=torch.float64)[..., :3]

    return colours


def blend(colour: str, other: str, share: float) -> Tensor:
    """Mix a share of one colour with another one: red, green and blue, (3,)."""
    from matplotlib.colors import to_rgb

    one, two = (torch.tensor(to_rgb(name), dtype=torch.float64) for name in (colour, other))
    return torch.lerp(two, one, share)


def surface(axis: Any, view: Projection, colours: Colours, ink: str, *, lines: Tensor | None = None) -> None:
    """Draw the sphere: its colours, the graticule, and lines.

    Args:
        axis: The matplotlib axis.
        view: The projection.
        colours: The colours of the sphere.
        ink: The colour of lines.
        lines: Lines between unit vectors (M, 2, 3), such as `land.coast()`. None: none.
    """
    from matplotlib.patches import Polygon

    width, height = view.size
    x, brightness = _raster(view)
    pixels = colours(x) * brightness[..., None]
    extent = (-width, width, -height, height)
    picture = axis.imshow(
        pixels.clamp(0, 1).numpy(), extent=extent, interpolation="bilinear", zorder=0, rasterized=True
    )
    edge = Polygon(view.outline().numpy(), closed=True, facecolor="none", edgecolor=ink, linewidth=0.8, zorder=4)
    axis.add_patch(edge)
    picture.set_clip_path(edge)
    for pieces, strength, thick in ((graticule(), 0.25, 0.4), *([(lines, 0.9, 0.6)] if lines is not None else [])):
        ends = view.pieces(pieces)
        # one line with gaps is drawn much faster than many lines
        way = torch.cat((ends, torch.full_like(ends[:, :1], math.nan)), 1).reshape(-1, 2)
        axis.plot(*way.T.numpy(), color=ink, alpha=strength, linewidth=thick, rasterized=True, zorder=1)
    margin = 0.015 * height
    axis.set(xlim=(-width - margin, width + margin), ylim=(-height - margin, height + margin), aspect="equal")
    axis.set_axis_off()


@lru_cache(maxsize=8)
def _raster(view: Projection) -> tuple[Tensor, Tensor]:
    """The unit vectors (HEIGHT, width, 3) at the pixels of a picture, and their brightness."""
    width, height = view.size
    up = torch.linspace(1, -1, HEIGHT, dtype=torch.float64) * height
    right = torch.linspace(-1, 1, round(HEIGHT * width / height), dtype=torch.float64) * width
    x = view.sphere(right, up[:, None])
    return x, view.light(x)


def dots(axis: Any, view: Projection, x: Tensor, colour: str, count: int, *, far: float = 0.0) -> None:
    """Draw points of the sphere as pixels.

    Args:
        axis: The matplotlib axis.
        view: The projection.
        x: The points (N, 3).
        colour: The colour of the dots.
        count: Number of points by which the size of a dot is chosen, smaller for more.
        far: Opacity of dots on the hidden side; 0 draws none.
    """
    place, near = view.place(x)
    area, opacity = max(1.2, min(14.0, 9000 / max(1, count))), 0.55 if count > 1000 else 0.8
    for rows, strength, order in ((place[~near], far, 2), (place[near], opacity, 3)):
        if strength:
            axis.scatter(rows[:, 0], rows[:, 1], s=area, color=colour, alpha=strength, linewidths=0, rasterized=True,
                         zorder=order)  # fmt: skip


def best_views(x: Tensor, count: int, weight: Tensor | None = None) -> list[Orthographic]:
    """Choose views of a globe that show points from above, one after the other, each for points not shown well yet.

    Args:
        x: The points (N, 3).
        count: Number of views.
        weight: Weights of the points (N,). None: 1.

    Returns:
        The views; the equator if there are no points.
    """
    at_least(1, views=count)
    latitude, longitude = torch.meshgrid(torch.arange(-40.0, 41, 20), torch.arange(-180.0, 180, 10), indexing="ij")
    candidates = torch.stack((latitude.flatten(), longitude.flatten()), -1).double()
    every = max(1, len(x) // 5000) if weight is None else 1
    shown = (x[::every] @ unit(*candidates.unbind(-1)).T).clamp(min=0)
    shown = shown if weight is None else shown * weight[:, None]
    known, views = torch.zeros_like(shown[:, :1]), []
    for _ in range(count):
        gain = torch.maximum(shown, known).sum(0) if len(x) else -candidates.abs().sum(1)
        best = int(gain.argmax())
        known = torch.maximum(known, shown[:, best : best + 1])
        views.append(Orthographic(*candidates[best].tolist()))
    return views


def chosen_views(views: int | Sequence[tuple[float, float]], x: Tensor) -> list[Orthographic]:
    """The views that a caller gives as latitudes and longitudes, or this number of best views of points."""
    if isinstance(views, int):
        return best_views(x, views)
    if not views:
        raise ValueError("views must be a number or pairs (latitude, longitude) in degrees, got none")
    return [Orthographic(float(latitude), float(longitude)) for latitude, longitude in views]


def grid_points() -> Tensor:
    """The unit vectors (height, width, 3) of the grid of `land.at`, STEP degrees apart."""
    latitude = torch.arange(90 - STEP / 2, -90, -STEP, dtype=torch.float64)
    longitude = torch.arange(-180 + STEP / 2, 180, STEP, dtype=torch.float64)
    return unit(*torch.meshgrid(latitude, longitude, indexing="ij"))


def grid_of(density: Callable[[Tensor], Tensor]) -> Tensor:
    """Evaluate a function of unit vectors (N, 3) on the grid of `land.at`.

    Raises:
        TypeError: Its values are no tensor.
        ValueError: They have another shape than (N,).
    """
    x = grid_points()
    with torch.no_grad():
        values = density(x.reshape(-1, 3))
    expect_tensor("the density", values)
    if values.shape != (x.shape[0] * x.shape[1],):
        raise ValueError(f"a density is a function from points (N, 3) to values (N,), got {tuple(values.shape)}")
    return values.detach().cpu().double().reshape(1, 1, *x.shape[:2])


def kernel_estimate(samples: Tensor, width: float) -> Callable[[Tensor], Tensor]:
    """Make the kernel estimate of the density of samples, relative to the uniform density.

    Args:
        samples: The samples (N, 3).
        width: Standard deviation of the kernel along a direction, in degrees.

    Returns:
        Function from unit vectors (M, 3) to values (M,); 1 everywhere for uniform samples.

    The kernel is the von Mises-Fisher density of concentration k = 1/width^2, with width in radians,

        4 pi p(x) = 2 k/(1 - exp(-2 k)) mean_i exp(k (<x, x_i> - 1))
    """
    k = 1 / math.radians(width) ** 2
    cell = math.radians(width) / 2  # samples in one small cube count as one, which widens the kernel by a hundredth
    cubes, counts = (samples / cell).round().unique(dim=0, return_counts=True)
    rows, share = torch.nn.functional.normalize(cubes, dim=1).float(), counts.float() / max(1, len(samples))

    def density(x: Tensor) -> Tensor:
        parts = [torch.exp((k * (part @ rows.T - 1)).clamp(min=LEAST)) @ share for part in x.float().split(1000)]
        return 2 * k / -math.expm1(-2 * k) * torch.cat(parts).double()

    return density
