"""The land of the earth: its coast lines, and the share of land around a point.

`land-110m.topojson` is the land of Natural Earth at 1:110 million (public domain), in the file of the npm package
world-atlas 2.0.2 (ISC, `land-110m.LICENSE`).
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ..arguments import install

FILE = Path(__file__).with_name("land-110m.topojson")
PIXELS = 8
"""Pixels of the mask of land, for each degree."""


def unit(latitude: Tensor, longitude: Tensor) -> Tensor:
    """The unit vectors (cos lat cos lon, cos lat sin lon, sin lat), (..., 3), of degrees (...)."""
    lat, lon = torch.deg2rad(latitude), torch.deg2rad(longitude)
    return torch.stack((lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()), -1)


@cache
def polygons() -> list[list[Tensor]]:
    """The land: of each polygon the outer ring and the rings of lakes, (M, 2), as longitude and latitude in degrees."""
    topology = json.loads(FILE.read_text(encoding="utf-8"))
    scale, shift = (torch.tensor(topology["transform"][name]).double() for name in ("scale", "translate"))
    # an arc is its first point and the steps to the next ones, in whole multiples of the scale
    arcs = [torch.tensor(arc).cumsum(0) * scale + shift for arc in topology["arcs"]]

    def ring(numbers: list[int]) -> Tensor:
        # -1 - k is arc k backwards; an arc starts at the end of the one before it
        parts = [arcs[k] if k >= 0 else arcs[~k].flip(0) for k in numbers]
        return torch.cat([*(part[:-1] for part in parts), parts[-1][-1:]])

    [land] = topology["objects"]["land"]["geometries"]
    return [[ring(numbers) for numbers in polygon] for polygon in land["arcs"]]


@cache
def coast() -> Tensor:
    """Coast lines as straight pieces between unit vectors, (M, 2, 3)."""
    ends = torch.cat([torch.stack((ring[:-1], ring[1:]), 1) for polygon in polygons() for ring in polygon])
    longitude, latitude = ends.unbind(-1)
    cut = (longitude.abs() > 179.999).all(1)  # islands at the date line are cut in two there, which is no coast
    return unit(latitude[~cut], longitude[~cut])


@cache
def graticule(every: int = 30, step: int = 3) -> Tensor:
    """Meridians and parallels as pieces of `step` degrees between unit vectors, (M, 2, 3)."""
    longitude, latitude = torch.arange(-180.0, 180.0, step), torch.arange(-90.0, 90.0, step)
    meridians = torch.cartesian_prod(torch.arange(-180.0, 180.0, every), latitude).double()
    parallels = torch.cartesian_prod(longitude, torch.arange(-90.0 + every, 90.0, every)).double()
    along, across = torch.tensor([[0, step], [step, 0]])
    starts = torch.cat((meridians, parallels))
    ends = torch.cat((meridians + along, parallels + across))
    longitude, latitude = torch.stack((starts, ends), 1).unbind(-1)
    return unit(latitude, longitude)


@cache
def _mask() -> Tensor:
    """Land as an image (1, 1, height, width) of latitude from 90 to -90 degrees and longitude from -180 to 180."""
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise ImportError(f"pictures of the earth need Pillow: {install('plot')}") from error
    image = Image.new("L", (360 * PIXELS, 180 * PIXELS))
    pen = ImageDraw.Draw(image)
    for polygon in polygons():
        for number, ring in enumerate(polygon):
            steps = ring.diff(dim=0)
            steps[:, 0] -= 360 * (steps[:, 0] / 360).round()  # across the date line
            way = torch.cat((ring[:1], ring[0] + steps.cumsum(0)))
            if (way[-1, 0] - way[0, 0]).abs() > 180:  # around the pole: Antarctica
                pole = torch.full((2, 2), -90.0, dtype=way.dtype)
                pole[:, 0] = way[[-1, 0], 0]
                way = torch.cat((way, pole))
            for turn in (-360, 0, 360):
                corners = (way * torch.tensor([1, -1]) + torch.tensor([180 + turn, 90])) * PIXELS
                pen.polygon(list(map(tuple, corners.tolist())), fill=0 if number else 1)
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(1, 1, 180 * PIXELS, -1).float()


def share_of_land(x: Tensor) -> Tensor:
    """Share of land around points of the earth, smooth over a pixel of the mask.

    Args:
        x: Unit vectors (..., 3).

    Returns:
        Values in [0, 1], (...).
    """
    return at(_mask(), x)


def at(grid: Tensor, x: Tensor) -> Tensor:
    """Interpolate values on a grid of latitude and longitude.

    Args:
        grid: Values (1, 1, height, width) at cells of latitude from 90 to -90 degrees and longitude from -180 to 180.
        x: Unit vectors (..., 3).

    Returns:
        The values there, (...).
    """
    # a column more at either side, because longitude is periodic
    wide, cells = torch.cat((grid[..., -1:], grid, grid[..., :1]), -1), grid.shape[-1]
    longitude = torch.atan2(x[..., 1], x[..., 0]) / math.pi * cells / (cells + 2)
    latitude = -torch.asin(x[..., 2].clamp(-1, 1)) / (math.pi / 2)
    where = torch.stack((longitude, latitude), -1).to(grid).reshape(1, 1, -1, 2)
    found = torch.nn.functional.grid_sample(wide, where, padding_mode="border", align_corners=False)
    return found.reshape(x.shape[:-1]).double()
