"""The sections of a page that run the flow map: samples, consistency."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data import Data
from ..data.labels import uses_labels
from ..evaluate import consistency_residuals
from ..evaluate.guided import GuidedSampler
from ..figures import words
from ..figures.charts import heat_map
from ..figures.pictures import enlarged, mosaic, png
from ..figures.plane import frame, points
from ..flow_map import FlowMap
from ..sampling import sample
from ..steps import ancestral, euler, jump
from .page import Picture, drawing, image
from .readings import cells

SHOWN = {"images": 25, "points": 4000}
JUMPS = (1, 2, 4, 8)
ODE_STEPS = 100
SMALL, GAP = 256, 5


@dataclass(frozen=True)
class Material:
    """The content of the page of a run.

    Attributes:
        flow: The flow map, in float32.
        data: The data set that it was trained on.
        evaluation: The content of evaluation.json.
        config: The content of config.json.
        metrics: The rows of metrics.jsonl; empty if there are none.
        samplers: The available samplers of evaluation["guidance"].
        usual_scale: The default guidance scale of samples.
        steered: The record of the last steered samples, and the bytes of their picture; None without any.
        likelihood: The record of the last log-densities; None without any.
        explored: The page with instruments beside this one, by its name; "" without any.
    """

    flow: FlowMap
    data: Data
    evaluation: Mapping[str, Any]
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]] = ()
    samplers: Sequence[GuidedSampler] = ()
    usual_scale: float = 1.0
    steered: tuple[Mapping[str, Any], bytes | None] | None = None
    likelihood: Mapping[str, Any] | None = None
    explored: str = ""

    @property
    def labels(self) -> bool:
        """Whether the network is conditioned on class labels."""
        return uses_labels(self.flow.network, self.data, self.config["training"]["labels"])

    def start(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor | None]:
        """Noise (n, *shape), and labels (n,) or None, as `start` makes them."""
        return start(self.flow, self.data, n, self.labels, seed)


def start(flow: FlowMap, data: Data, n: int, labels: bool, seed: int = 0) -> tuple[Tensor, Tensor | None]:
    """Noise, the same for every sampler, and labels that take turns.

    Args:
        flow: The flow map; its path gives the scale of the noise.
        data: The data set, which gives shape and classes.
        n: The number of samples.
        labels: Whether the network is conditioned on class labels.
        seed: Fixes the noise.

    Returns:
        Noise (n, *shape), and labels (n,) or None.
    """
    normal = torch.randn(n, *data.shape, generator=torch.Generator().manual_seed(seed))
    label = torch.arange(n) % data.classes if labels and data.classes else None
    return flow.path.noise(normal), label


@dataclass(frozen=True)
class Drawn:
    """Samples of one sampler, or real data.

    Attributes:
        x: The samples, in the units of the data.
        title: The name of the sampler.
        note: Its calls and time if the evaluation has it.
    """

    x: Tensor
    title: str
    note: str


def drawn(material: Material, n: int) -> list[Drawn]:
    """Draw samples by 1, 2, 4 and 8 jumps and by the ODE from the same noise, and take held-out data.

    Args:
        material: The content of the page.
        n: The number of samples.

    Returns:
        The samples of each sampler, and real data as the last; empty for vectors.
    """
    data = material.data
    if data.kind not in SHOWN:
        return []
    noise, label = material.start(n)
    found = [Drawn(*one) for one in sampled(material, noise, label, JUMPS)]
    return [*found, Drawn(data.in_units(data.held_out(n).x0), "real data", "held out, not trained on")]


def samples(material: Material, found: Sequence[Drawn]) -> list[Picture]:
    """Draw the first of the samples in small pictures side by side, all but the ones of many jumps."""
    if not found:
        return []
    data = material.data
    show = show_images(data) if data.kind == "images" else show_points(*frame(found[-1].x))
    cards = [one for one in found if one.title != words.count(JUMPS[-1], "jump")]
    return [
        show(one.x[: SHOWN[data.kind]], one.title, one.note, "framed chosen" if k == 0 else "framed")
        for k, one in enumerate(cards)
    ]


def sampled(
    material: Material, noise: Tensor, label: Tensor | None, jumps: Sequence[int] = (1, 2, 4)
) -> Iterator[tuple[Tensor, str, str]]:
    """Draw samples by some numbers of jumps and by the ODE from the same noise.

    Args:
        material: The content of the page.
        noise: The noise, (n, *shape).
        label: Labels (n,), or None.
        jumps: The numbers of jumps; a partial map takes one.

    Yields:
        The samples, the name of the sampler, and its calls and time if the evaluation has it.
    """
    flow = material.flow
    jumping = flow.has_ode or flow.is_partial
    for steps in (1,) if flow.is_partial else jumps:
        step = jump if jumping else ancestral
        x = sample(flow, noise, steps, step=step, condition=label, seed=None if jumping else 0)
        yield x, *_named(material, step.__name__, steps)
    if flow.has_ode:
        x = sample(material.flow, noise, ODE_STEPS, step=euler, condition=label)
        yield x, *_named(material, "euler", ODE_STEPS)


Show = Callable[[Tensor, str, str, str], Picture]
"""Function that draws samples: (x, title, note, kind) -> picture."""


def show_images(data: Data) -> Show:
    """Make a function that draws images of a data set as a grid."""

    def show(x: Tensor, title: str, note: str, kind: str) -> Picture:
        board = mosaic(enlarged(data.to_pixels(x)), gap=GAP)
        return image(png(board), f"A grid of images: {title}", title, note, kind)

    return show


def show_points(extent: float, centre: tuple[float, float]) -> Show:
    """Make a function that draws points of the plane as a cloud, on a square of half the width `extent`."""

    def show(x: Tensor, title: str, note: str, kind: str) -> Picture:
        return drawing(
            lambda theme: points(x, extent=extent, centre=centre, theme=theme),
            f"A cloud of points: {title}",
            title,
            note,
            kind,
        )

    return show


def _named(material: Material, sampler: str, steps: int) -> tuple[str, str]:
    """The name of a sampler, and its calls and time if the evaluation has it."""
    for row in material.evaluation["rows"]:
        if "run" not in row and (row["sampler"], row["steps"]) == (sampler, steps):
            calls = words.count(row["network_calls"], "network call")
            return words.name(row), f"{calls}, {words.seconds(row['seconds_per_sample'])} per sample"
    return words.name({"sampler": sampler, "steps": steps}), ""


@dataclass(frozen=True)
class Consistency:
    """The Lagrangian residual over (s, t), from noise to data, and its largest value at (s, t), in per cent."""

    figure: Picture
    one_jump: str
    largest: str
    s: str
    t: str


def consistency(material: Material) -> Consistency | None:
    """The Lagrangian residual as a share of a typical velocity; None for a map without an ODE."""
    if not material.flow.has_ode:
        return None
    small = math.prod(material.data.shape) <= SMALL
    batch = material.data.draw(64 if small else 16)
    x0, label, grid = batch.x0.float(), batch.label, torch.linspace(0, 1, 21 if small else 9)
    residuals = consistency_residuals(material.flow, x0, grid=grid, condition=label if material.labels else None)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    shares = residuals / float(material.flow.path.velocity(x0, eps, 0.5).square().mean().sqrt())
    row, column = divmod(int(shares.nan_to_num(-1).argmax()), len(grid))
    figure = drawing(
        lambda theme: heat_map(100 * shares, grid, name="residual, % of a typical velocity", theme=theme),
        "Heat map of the consistency residual over source and target time.",
        read=cells(100 * shares, grid, "% of a typical velocity"),
    )
    one_jump, largest = f"{float(shares[-1, 0]):.0%}", f"{float(shares[row, column]):.0%}"
    return Consistency(figure, one_jump, largest, f"{float(grid[row]):.2g}", f"{float(grid[column]):.2g}")
