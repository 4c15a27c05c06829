"""The part of a run's page about guidance: a grid of classes for each scale, and the measures by scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data import Data
from ..evaluate.guided import GuidedSampler, on_its_device
from ..figures import words
from ..figures.guidance import NAMES, percent, scale_curves, summary
from ..figures.pictures import enlarged, mosaic, png
from .page import Picture, Table, drawing, image
from .readings import curves

CLASSES, COLUMNS, GAP = 10, 8, 4


@dataclass(frozen=True)
class Guidance:
    """The values of guidance.html.j2.

    Attributes:
        summary: A sentence with the main numbers.
        usual: The scale of the other samples on the page.
        boards: Grids of samples: a list for each sampler, a grid for each scale.
        classes: The names of the rows of each grid.
        chart: The measures against the scale.
        table: All numbers.
        meanings: The meaning of each measure.
    """

    summary: str
    usual: str
    boards: Sequence[Sequence[Picture]]
    classes: Sequence[str]
    chart: Picture
    table: Table
    meanings: Mapping[str, str]


def section(samplers: Sequence[GuidedSampler], data: Data, found: Mapping[str, Any], usual: float = 1.0) -> Guidance:
    """Draw samples at each scale, and put the measures into a chart and a table.

    Args:
        samplers: The samplers that can still be drawn from.
        data: The data set.
        found: The result of `evaluate.by_scale` for these samplers, and possibly for samplers that are gone.
        usual: The default scale of samples.

    Returns:
        The values of the template.
    """
    by_key = {(one.run, one.name, one.steps, one.scale): one for one in samplers}
    keys = ((row.get("run"), row["sampler"], row["steps"], row["scale"]) for row in found["rows"])
    pairs = [(by_key[key], row) for key, row in zip(keys, found["rows"], strict=True) if key in by_key]
    kinds = dict.fromkeys(map(words.name, found["rows"]))
    names = data.class_names or tuple(map(str, range(data.classes or 0)))
    alt = "Charts of accuracy, diversity and distance against the scale of guidance, a line for each sampler."
    return Guidance(
        summary=summary(found),
        usual=f"{usual:g}",
        boards=[[board(one, data, row) for one, row in pairs if words.name(row) == kind] for kind in kinds],
        classes=names[:CLASSES],
        chart=drawing(lambda theme: scale_curves(found, theme=theme), alt, kind="strip", read=curves),
        table=table(found),
        meanings={NAMES[key]: found["measures"][key] for key in _known(found)},
    )


def board(one: GuidedSampler, data: Data, row: words.EvaluationRow) -> Picture:
    """Draw a grid of samples with a row for each class.

    Args:
        one: The sampler at its scale.
        data: The data set.
        row: The measures of the sampler, for the caption.

    Returns:
        The picture.
    """
    title = f"{words.name(row)}, scale {one.scale:g}"
    note = f"{percent(row)} recognised, diversity {words.plus_minus(row['diversity'], row['diversity_stderr'])}"
    return image(png(class_mosaic(one, data)), f"A grid of images, a row for each class: {title}", title, note)


def class_mosaic(one: GuidedSampler, data: Data) -> Tensor:
    """Samples side by side, (height, width, 4): a row for each of the first classes, always from the same noise."""
    label = torch.arange(min(data.classes or 1, CLASSES)).repeat_interleave(COLUMNS)
    noise = torch.randn(len(label), *data.shape, generator=torch.Generator().manual_seed(0))
    x = one.draw(*on_its_device(one, noise, label), len(label)).x
    return mosaic(enlarged(data.to_pixels(x.float()), 32), COLUMNS, GAP)


def table(found: Mapping[str, Any]) -> Table:
    """All numbers of `evaluate.by_scale`."""
    keys = _known(found)

    def cells(row: Mapping[str, Any]) -> list[str]:
        values = (words.plus_minus(row.get(key), row.get(f"{key}_stderr")) for key in keys if key != "accuracy")
        return [percent(row), *("" if value == "not known" else value for value in values)]

    lines = [("floor", ["real data, held out", "", *cells(found["data"]), "", ""])]
    for row in found["rows"]:
        cost = [str(row["network_calls"]), words.seconds(row["seconds_per_sample"])]
        lines.append(("", [words.name(row), f"{row['scale']:g}", *cells(row), *cost]))
    head = ["sampler", "scale", *(NAMES[key] for key in keys), "network calls", "time per sample"]
    return Table(head, lines, "dense", "guidance")


def _known(found: Mapping[str, Any]) -> list[str]:
    """The available measures, in the order of the table."""
    return [key for key in NAMES if key in found["measures"]]
