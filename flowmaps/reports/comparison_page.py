"""The page of a comparison: ranking, samples side by side, all numbers, losses, cost, configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import steps
from ..data import Data
from ..figures import comparison, words
from ..figures.charts import Amount, has_mean_squares
from ..figures.comparison import Document, Entry
from ..figures.manifolds import sight_of
from ..figures.ranking import ranking
from ..flow_map import FlowMap
from ..sampling import sample
from . import points
from .downloads import document as as_text
from .downloads import uri
from .page import Picture, Table, drawing, render
from .readings import marks
from .sections import SHOWN, Show, frame, show_images, show_points, start
from .tables import curves

STEPS: dict[str, steps.Step] = {one.__name__: one for one in (steps.jump, steps.euler, steps.restart, steps.ancestral)}
"""The steps of samplers, by their names in an evaluation."""
ROOM = 1.25
"""Width of a picture of points over the width of the data, so that samples outside the data are visible."""


@dataclass(frozen=True)
class Comparison:
    """The content of the page of a comparison.

    Attributes:
        document: The content of table.json.
        data: The data set of all methods.
        settings: The content of comparison.json.
        metrics: The rows of metrics.jsonl by method.
        flow: Function from the name of a run in the document to its flow map, and whether the network takes labels. It
            is called when samples are drawn, so that one model at a time is in memory.
    """

    document: Document
    data: Data
    settings: Mapping[str, Any]
    metrics: Mapping[str, Sequence[Mapping[str, Any]]]
    flow: Callable[[str], tuple[FlowMap, bool]]


@torch.no_grad()
def comparison_page(material: Comparison) -> str:
    """Draw the page of a comparison.

    Args:
        material: The measures and the runs.

    Returns:
        The HTML text.
    """
    document = material.document
    head, rows = comparison.distances(document)
    return render(
        "comparison.html.j2",
        data=material.data,
        methods=len(document["methods"]),
        headline=comparison.headline(document),
        heading=comparison.heading(document),
        ranking=_ranking(document),
        boards=_boards(material),
        distances=_distances(head, rows),
        notes=comparison.notes(document)[:-1],
        losses=[_losses(name, rows) for name, rows in material.metrics.items() if rows],
        cost=_cost(document),
        settings=json.dumps(material.settings, indent=2),
        document_file=uri(as_text(document), "application/json"),
    )


def _boards(material: Comparison) -> dict[str, list[Picture]]:
    """Samples of all methods side by side, by title: by one jump, and by four jumps; empty for data without figures."""
    document, data = material.document, material.data
    seen = sight_of(data)
    if seen is None and data.kind not in SHOWN:
        return {}
    real = data.in_units(data.held_out(points.SHOWN if seen else SHOWN[data.kind]).x0)
    show = points.show_points(seen, real) if seen else show_images(data) if data.kind == "images" else _with_room(real)
    ode = comparison.many_steps(document["reference"])
    beside = [show(real, "real data", "held out, not trained on", "framed")]
    if ode is not None:
        run = document["reference"]["run"]
        beside.append(show(_drawn(material, run, ode, len(real)), f"reference: {Path(run).name}", _note(ode), "framed"))
    boards = {}
    for k, title in ((1, "In one jump"), (4, "In four jumps")):
        found = {name: row for name, e in comparison.evaluated(document).items() if (row := comparison.at(e, k))}
        figures = [
            show(_drawn(material, name, row, len(real)), name, _note(row), "framed") for name, row in found.items()
        ]
        if figures:
            boards[title] = [*beside, *figures]
    return boards


def _with_room(real: Tensor) -> Show:
    """Make a function that draws points on a square that is larger than the one of real data."""
    extent, centre = frame(real)
    return show_points(ROOM * extent, centre)


def _note(row: words.EvaluationRow) -> str:
    """The sampler and the distance, for a caption."""
    return f"{words.name(row)}: {words.pair(row)}"


def _drawn(material: Comparison, run: str, row: words.EvaluationRow, n: int) -> Tensor:
    """Samples of a run by the sampler of a row of its evaluation."""
    flow, labels = material.flow(run)
    noise, label = start(flow, material.data, n, labels)
    return sample(flow, noise, row["steps"], step=STEPS[row["sampler"]], condition=label, seed=0)


def _ranking(document: Document) -> Picture | None:
    """Distances by number of jumps, with the floor and the reference as lines; None if nothing was measured."""
    found = comparison.evaluated(document)
    rows = {name: {k: row for k in comparison.JUMPS if (row := comparison.at(e, k))} for name, e in found.items()}
    evaluation, ode = comparison.any_evaluation(document), comparison.many_steps(document["reference"])
    if evaluation is None or not any(rows.values()):
        return None
    lines = {} if evaluation["floor"] is None else {"real data": evaluation["floor"]}
    if ode is not None and ode["distance"] is not None:
        lines[f"{words.name(ode)}, {Path(document['reference']['run']).name}"] = ode["distance"]
    alt = "Distance to real data of each method, by number of jumps."
    return drawing(lambda theme: ranking(rows, lines=lines, theme=theme), alt, kind="strip", read=marks)


def _distances(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The table of distances; the reference is a row like real data."""
    kinds = ["floor" if row[0].startswith("reference") else "" for row in rows]
    return Table(head, list(zip(kinds, rows, strict=True)), "dense", "distances")


def _losses(name: str, rows: Sequence[Mapping[str, Any]]) -> Picture:
    """The mean squares of a method over its own steps, or its losses if it has none."""
    of: Amount = "mean_squares" if has_mean_squares(rows) else "terms"
    return curves(rows, of, name, words.count(rows[-1]["step"], "step"))


def _cost(document: Document) -> Table:
    """Cost of a training step, counted and measured, and of a sample."""
    head = ["method", "passes, own shares", "passes, full batch", "the post", "steps", "time per step", "one sample"]
    rows = [("", [name, *_cost_cells(entry)]) for name, entry in document["methods"].items()]
    return Table(head, rows, "dense", "cost")


def _cost_cells(entry: Entry) -> list[str]:
    """One row of the cost table, without the method's name."""
    costs: list[Any] = [entry[name] for name in ("shared", "cost", "published_cost")]
    counted = ["" if cost is None else f"{cost:g}" for cost in costs]
    if "failure" in entry:
        return [*counted, "", "", ""]
    training: Mapping[str, Any] = entry["training"]
    row = comparison.at(entry, 1) or entry["evaluation"]["rows"][0]
    step = words.seconds(training["seconds_per_step"]) if training["seconds_per_step"] else ""
    return [*counted, str(training["step"]), step, words.seconds(row["seconds_per_sample"])]
