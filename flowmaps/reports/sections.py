"""The parts of a report that are made by running the flow map: samples, the way from noise to data, consistency."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import torch
from torch import Tensor

from ..data import Data
from ..data.labels import uses_labels
from ..evaluate import consistency_residuals
from ..figures import words
from ..figures.charts import heat_map
from ..figures.pictures import enlarged, mosaic, path_strip, png
from ..figures.plane import half_width, paths, points
from ..flow_map import FlowMap
from ..sampling import sample, trajectory
from ..steps import euler
from . import page

SHOWN = {"images": 25, "points": 4000}
ODE_STEPS = 100
TIMES = tuple(k / 10 for k in range(10, -1, -1))
SMALL, GAP = 256, 5

ON_THE_WAY = (
    "Time runs from noise (t = 1, left) to data (t = 0, right). The upper row of each pair is a sample on its way, by "
    "small steps of the ODE. Below each state stands what one jump makes of it: for a perfect flow map, the same final "
    "image all along the lower row."
)
IN_THE_PLANE = (
    "Each line is one noise sample on its way to data, the same ones on both sides; grey dots are real data. The "
    "better the map, the more exactly the ends agree."
)
CONSISTENCY = (
    "Each cell is one kind of jump, from time s (across) to time t (up). Its colour says how far the map contradicts "
    "its own velocity there, as a share of a typical velocity: dark is consistent, bright is not. The lower right "
    "corner is the one-step sampler, from pure noise straight to data: {:.0%}. The largest value is {:.0%}, from "
    "s = {:.2g} to t = {:.2g}. The empty half would be the way from data to noise."
)


@dataclass(frozen=True)
class Material:
    """What a report is made of."""

    flow: FlowMap
    data: Data
    evaluation: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def partial(self) -> bool:
        """Whether the map knows one end of time only, and so has no ODE."""
        return self.flow.only_source is not None or self.flow.only_target is not None

    @property
    def labels(self) -> bool:
        return uses_labels(self.flow.network, self.data, self.config["training"]["labels"])

    def start(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor | None]:
        return start(self.flow, self.data, n, self.labels, seed)


def start(flow: FlowMap, data: Data, n: int, labels: bool, seed: int = 0) -> tuple[Tensor, Tensor | None]:
    """Noise, the same for every sampler, and labels that take turns where the network is told them."""
    noise = torch.randn(n, *data.shape, generator=torch.Generator().manual_seed(seed))
    label = torch.arange(n) % data.classes if labels and data.classes else None
    return noise * flow.path.sigma(torch.ones(())), label


def samples(material: Material) -> str:
    """Samples by 1, 2 and 4 jumps and by the ODE, from the same noise, beside real data."""
    data = material.data
    if data.kind not in SHOWN:
        return ""
    noise, label = material.start(SHOWN[data.kind])
    real = data.held_out(len(noise)).x0
    show = show_images(data) if data.kind == "images" else show_points(half_width(real))
    figures = []
    for steps in (1,) if material.partial else (1, 2, 4):
        x = sample(material.flow, noise, steps, condition=label)
        figures.append(show(x, *_named(material, "jump", steps), "framed chosen" if steps == 1 else "framed"))
    if not material.partial:
        x = sample(material.flow, noise, ODE_STEPS, step=euler, condition=label)
        figures.append(show(x, *_named(material, "euler", ODE_STEPS), "framed"))
    figures.append(show(real, "real data", "held out, not trained on", "framed"))
    same = "The samplers start from the same noise: the same place in each grid is the same sample."
    return page.panels(figures) + (page.paragraph(same, "note") if data.kind == "images" else "")


Show = Callable[[Tensor, str, str, str], str]


def show_images(data: Data) -> Show:
    """Draws images as a grid."""

    def show(x: Tensor, title: str, note: str, kind: str) -> str:
        board = mosaic(enlarged(data.to_pixels(x)), gap=GAP)
        return page.picture(png(board), f"A grid of images: {title}", _caption(title, note), kind)

    return show


def show_points(extent: float) -> Show:
    """Draws points of the plane as a cloud."""

    def show(x: Tensor, title: str, note: str, kind: str) -> str:
        def draw(theme: Any) -> Any:
            return points(x, extent=extent, theme=theme)

        return page.drawing(draw, f"A cloud of points: {title}", _caption(title, note), kind)

    return show


def _caption(title: str, note: str) -> str:
    return f"<b>{escape(title)}</b>{escape(note)}"


def _named(material: Material, sampler: str, steps: int) -> tuple[str, str]:
    """The name of a sampler, and its calls and time if the evaluation has it."""
    for row in material.evaluation["rows"]:
        if "run" not in row and (row["sampler"], row["steps"]) == (sampler, steps):
            calls = words.count(row["network_calls"], "network call")
            return words.name(row), f"{calls}, {words.seconds(row['seconds_per_sample'])} per sample"
    return words.name({"sampler": sampler, "steps": steps}), ""


def becoming(material: Material) -> str:
    """How noise becomes data: states along the ODE, and where one jump goes."""
    if material.partial or material.data.kind not in SHOWN:
        return ""
    noise, label = material.start(3 if material.data.kind == "images" else 80, seed=1)
    states = trajectory(material.flow, noise, ODE_STEPS, step=euler, condition=label)
    flow = material.flow if label is None else material.flow.given(label=label)
    if material.data.kind == "points":
        return _lines(material.data, states, [noise, flow(noise, 1.0, 0.0)])
    chosen = [states[round((1 - t) * ODE_STEPS)] for t in TIMES]
    ends = [flow(x, t, 0.0) for x, t in zip(chosen, TIMES, strict=True)]
    pixels = lambda x: enlarged(material.data.to_pixels(x))  # noqa: E731
    pairs = [torch.stack((pixels(x), pixels(end)), 1).flatten(0, 1) for x, end in zip(chosen, ends, strict=True)]
    names = ["on its way", "one jump"] * len(noise)
    alt = "Samples on their way from noise to an image, each with the image that one jump makes from there."
    figure = page.drawing(lambda theme: path_strip(pairs, TIMES, names=names, gap=GAP, theme=theme), alt, kind="strip")
    return page.section("How noise becomes an image", page.paragraph(ON_THE_WAY), figure)


def _lines(data: Data, ode: list[Tensor], jump: list[Tensor]) -> str:
    real = data.held_out(2000).x0
    extent = max(half_width(real), half_width(ode[0]))

    def drawing(way: list[Tensor], title: str, note: str) -> str:
        alt = f"Lines from noise to data in the plane: {title}"
        draw = lambda theme: paths(way, data=real, extent=extent, theme=theme)  # noqa: E731
        return page.drawing(draw, alt, _caption(title, note), "framed")

    figures = [
        drawing(ode, f"{ODE_STEPS} ODE steps", "follow the velocity along a curve"),
        drawing(jump, "1 jump", "goes straight to where the curve ends"),
    ]
    return page.section("How noise becomes data", page.paragraph(IN_THE_PLANE), page.panels(figures, "wide"))


def consistency(material: Material) -> str:
    """The heat map of the Lagrangian residual, as a share of the typical velocity."""
    if material.partial:
        return ""
    small = math.prod(material.data.shape) <= SMALL
    batch = material.data.draw(64 if small else 16)
    x0, label, grid = batch.x0.float(), batch.label, torch.linspace(0, 1, 21 if small else 9)
    residuals = consistency_residuals(material.flow, x0, grid=grid, condition=label if material.labels else None)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    shares = residuals / float(material.flow.path.velocity(x0, eps, 0.5).square().mean().sqrt())
    row, column = divmod(int(shares.nan_to_num(-1).argmax()), len(grid))
    largest, s, t = float(shares[row, column]), float(grid[row]), float(grid[column])
    text = CONSISTENCY.format(float(shares[-1, 0]), largest, s, t)
    figure = page.drawing(
        lambda theme: heat_map(100 * shares, grid, name="residual, % of a typical velocity", theme=theme),
        "Heat map of the consistency residual over source and target time.",
    )
    return page.section("Does the map agree with itself?", page.paragraph(text), figure)
