"""The section of a page about the way from noise to data: figures, and states for a slider over time."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Data
from ..figures.pictures import enlarged, mosaic, path_strip, webp
from ..figures.plane import frame, paths
from ..sampling import trajectory
from ..steps import euler
from .page import Picture, drawing, image
from .sections import GAP, ODE_STEPS, SHOWN, Material

STRIP_TIMES = tuple(k / 10 for k in range(10, -1, -1))
STRIP = 3
"""Number of images in the strip."""
LINES = 80
"""Number of lines in the plane."""
SLIDER_TIMES = tuple(k / 20 for k in range(20, -1, -1))
"""Times of the slider, from noise to data."""
SMALL_SIDE = 32
"""Largest side of images of which the slider shows 8 instead of 4."""
LARGEST_SIDE = 64
"""Largest side of images in the slider; larger ones are reduced."""
POINTS = 300
"""Number of points that the slider moves."""
UNIT = 8192
"""Steps of a coordinate along the width of the picture."""


@dataclass(frozen=True)
class Slider:
    """States on the way, and the end of one jump from each, for a slider over time.

    Attributes:
        times: The times.
        count: Number of images or of points.
        sprite: All images in one picture: a row for each time, with the states and then the ends. None for points.
        states: Coordinates of points (time, state or end, point, 2) in units of 1 / UNIT of the picture, as 16-bit
            numbers in base64; "" for images.
        data: Coordinates of real data (point, 2), as for `states`.
        unit: UNIT.
    """

    times: Sequence[float]
    count: int
    sprite: Picture | None = None
    states: str = ""
    data: str = ""
    unit: int = UNIT


@dataclass(frozen=True)
class Way:
    """The figures of the section, and the states for the slider."""

    figures: Sequence[Picture]
    slider: Slider


def section(material: Material) -> Way | None:
    """States along the ODE from noise to data, each with its one jump to data; None without an ODE or for vectors."""
    data = material.data
    if not material.flow.has_ode or data.kind not in SHOWN:
        return None
    small = max(data.shape[1:], default=0) <= SMALL_SIDE
    noise, label = material.start((8 if small else 4) if data.kind == "images" else POINTS, seed=1)
    flow = material.flow.standardised()  # noise and data are of one size in these coordinates
    flow = flow if label is None else flow.given(label=label)
    states = trajectory(flow, noise, ODE_STEPS, step=euler)
    chosen = [states[round((1 - t) * ODE_STEPS)] for t in SLIDER_TIMES]
    ends = [flow(x, t, 0.0) for x, t in zip(chosen, SLIDER_TIMES, strict=True)]
    if data.kind == "images":
        return Way([_strip(data, chosen, ends)], _images(data, chosen, ends))
    return Way(_lines(data, [x[:LINES] for x in states], [x[:LINES] for x in (noise, ends[0])]),
               _points(data, chosen, ends))  # fmt: skip


def _strip(data: Data, states: Sequence[Tensor], ends: Sequence[Tensor]) -> Picture:
    """A column of images for each of a few times."""
    rows = [SLIDER_TIMES.index(t) for t in STRIP_TIMES]
    pixels = lambda x: enlarged(data.to_pixels(x[:STRIP]))  # noqa: E731
    pairs = [torch.stack((pixels(states[k]), pixels(ends[k])), 1).flatten(0, 1) for k in rows]
    names = ["on its way", "one jump"] * len(pairs[0][::2])
    alt = "Samples on their way from noise to an image, each with the image that one jump makes from there."
    return drawing(lambda theme: path_strip(pairs, STRIP_TIMES, names=names, gap=GAP, theme=theme), alt, kind="strip")


def _images(data: Data, states: Sequence[Tensor], ends: Sequence[Tensor]) -> Slider:
    """All states and ends in one picture, at the size of the data or smaller."""
    rows = torch.cat([torch.cat(pair) for pair in zip(states, ends, strict=True)])
    images = data.to_pixels(rows)
    factor = math.ceil(max(images.shape[2:]) / LARGEST_SIDE)
    images = torch.nn.functional.avg_pool2d(images, factor, ceil_mode=True)
    count = len(states[0])
    board = mosaic(images, 2 * count, gap=0)
    return Slider(SLIDER_TIMES, count, image(webp(board), "The states at the time of the slider.", suffix="webp"))


def _points(data: Data, states: Sequence[Tensor], ends: Sequence[Tensor]) -> Slider:
    """All states and ends as coordinates."""
    real = data.held_out(4 * POINTS).x0
    extent, centre = frame(torch.cat((real, states[0].to(real))))
    corner = torch.tensor(centre) - extent

    def written(x: Tensor) -> str:
        shares = (x.detach().cpu().float() - corner) / (2 * extent)
        whole = (UNIT * shares).nan_to_num(-3 * UNIT).round().clamp(-3 * UNIT, 3 * UNIT).short()
        return base64.b64encode(whole.contiguous().numpy().astype("<i2").tobytes()).decode()

    pairs = torch.stack([torch.stack(pair) for pair in zip(states, ends, strict=True)])
    return Slider(SLIDER_TIMES, len(states[0]), states=written(pairs), data=written(real))


def _lines(data: Data, ode: list[Tensor], jump: list[Tensor]) -> list[Picture]:
    """Ways from noise to data in the plane: along the ODE, and by one jump."""
    real = data.held_out(2000).x0
    extent, centre = frame(torch.cat((real, ode[0].to(real))))

    def lines(way: list[Tensor], title: str, note: str) -> Picture:
        alt = f"Lines from noise to data in the plane: {title}"
        return drawing(
            lambda theme: paths(way, data=real, extent=extent, centre=centre, theme=theme), alt, title, note, "framed"
        )

    return [
        lines(ode, f"{ODE_STEPS} ODE steps", "follow the velocity along a curve"),
        lines(jump, "1 jump", "goes straight to where the curve ends"),
    ]
