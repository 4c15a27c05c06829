"""The section of a page with many samples of each sampler, one sampler at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..figures.pictures import enlarged, mosaic, webp
from ..figures.plane import frame
from .page import Picture, image
from .sections import SHOWN, Drawn, Material

MANY = 64
"""Number of images of each sampler."""
SMALL_SIDE = 64
"""Largest side of images of which many are shown; of larger ones as many as in the small pictures."""
COLUMNS, GAP = 8, 2
DOTS = 2000
"""Number of points of each sampler."""
UNITS = 1000
"""Width of the picture of points in its own units."""


@dataclass(frozen=True)
class Tab:
    """The samples of one sampler: a grid of images, or points as the path of an SVG."""

    title: str
    note: str
    picture: Picture | None = None
    dots: str = ""


@dataclass(frozen=True)
class Gallery:
    """The section.

    Attributes:
        tabs: The samplers, and real data as the last.
        columns: Images in a row.
        count: Number of images; 0 for points.
        gap: The space between two images as a share of an image.
        units: Width of a picture of points in its own units.
    """

    tabs: Sequence[Tab]
    columns: int = COLUMNS
    count: int = 0
    gap: float = 0.0
    units: int = UNITS


def size(material: Material) -> int:
    """The number of samples of each sampler that the page needs."""
    data = material.data
    if data.kind == "images" and max(data.shape[1:]) <= SMALL_SIDE:
        return MANY
    return SHOWN.get(data.kind, 0)


def section(material: Material, found: Sequence[Drawn]) -> Gallery | None:
    """Show many samples of each sampler.

    Args:
        material: The content of the page.
        found: The samples of each sampler, and real data as the last.

    Returns:
        The section; None without samples.
    """
    if not found:
        return None
    if material.data.kind == "points":
        extent, centre = frame(found[-1].x)
        return Gallery([Tab(one.title, one.note, dots=dots(one.x[:DOTS], extent, centre)) for one in found])
    boards = [enlarged(material.data.to_pixels(one.x), 32) for one in found]
    columns = min(COLUMNS, round(len(found[0].x) ** 0.5))
    tabs = [
        Tab(one.title, one.note, image(webp(mosaic(board, columns, GAP)), _alt(one), kind="grid", suffix="webp"))
        for one, board in zip(found, boards, strict=True)
    ]
    return Gallery(tabs, columns, len(found[0].x), GAP / boards[0].shape[3])


def _alt(one: Drawn) -> str:
    return f"A grid of {len(one.x)} images: {one.title}"


def dots(x: Tensor, extent: float, centre: tuple[float, float]) -> str:
    """Points of the plane as the path of an SVG: a line without a length for each, which round ends make a dot.

    Args:
        x: The points (N, 2). Points outside the square are left out.
        extent: Half the width of the square.
        centre: Its middle.

    Returns:
        The path, in whole units; UNITS of them are the width of the square.
    """
    shares = (x.detach().cpu().double() - x.new_tensor(centre).cpu().double()) / (2 * extent) + 0.5
    inside = shares[((shares >= 0) & (shares <= 1)).all(1)]
    return "".join(f"M{across} {UNITS - up}h0" for across, up in (UNITS * inside).round().int().tolist())
