"""The sections of a run's page from its records: tables, losses, configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..data import Data
from ..figures import words
from ..figures.charts import Amount, has_mean_squares, loss_curves
from ..flow_map import FlowMap
from ..runs.documents import post_training_of
from .page import Picture, Table, drawing
from .readings import curves as read_curves


@dataclass(frozen=True)
class Others:
    """The measures beside the main one, and the meaning of each."""

    table: Table
    meanings: Mapping[str, str]


@dataclass(frozen=True)
class TrainingSection:
    """The length of training, the mean squares of residuals if they were logged, and the loss curves."""

    length: str
    squares: bool
    figures: Sequence[Picture]


def quality(evaluation: Mapping[str, Any]) -> Table:
    """The table of samplers: distance, network calls, time, speed-up over the longest ODE solution."""
    rows, ode = evaluation["rows"], words.longest_ode(evaluation["rows"])
    lines = [("floor", ["real data against itself: the floor", words.floor(evaluation), "", "", ""])]
    for row in rows:
        cost = [str(row["network_calls"]), words.seconds(row["seconds_per_sample"]), words.speed_up(row, ode)]
        lines.append(("chosen" if row is words.one_jump(rows) else "", [words.name(row), words.pair(row), *cost]))
    faster = f"speed-up over {words.name(ode)}" if ode else ""
    if evaluation.get("noise") is not None:
        lines.append(("floor", [words.noise_name(evaluation), words.noise(evaluation), "", "", ""]))
    head = ["sampler", "distance to real data", "network calls", "time per sample", faster]
    return Table(head, lines, name="quality")


def errors(evaluation: Mapping[str, Any]) -> list[str]:
    """The errors against the exact flow map, over all pairs of times and in one jump; empty if it is unknown."""
    if evaluation.get("map_error_one_jump") is None:
        return []
    values = (evaluation[key] for key in ("map_error", "map_error_one_jump"))
    return ["not known" if value is None else f"{value:.2g}" for value in values]


def others(evaluation: Mapping[str, Any]) -> Others | None:
    """All measures except the main one; None if it is the only one."""
    titles = {key: title for key, title in evaluation["measures"].items() if key != "distance"}
    if not titles:
        return None
    names = [key.replace("_", " ") for key in titles]
    floors = [words.plus_minus(evaluation[f"{key}_floor"], evaluation[f"{key}_floor_stderr"]) for key in titles]
    lines = [("floor", ["real data", *floors])]
    for row in evaluation["rows"]:
        lines.append(("", [words.name(row), *(words.plus_minus(row[key], row[f"{key}_stderr"]) for key in titles)]))
    return Others(Table(["sampler", *names], lines, name="measures"), dict(zip(names, titles.values(), strict=True)))


def training(rows: Sequence[Mapping[str, Any]]) -> TrainingSection | None:
    """Length of training and loss curves, from the rows of metrics.jsonl; None if there are none."""
    if not rows:
        return None
    last, squares = rows[-1], has_mean_squares(rows)
    of = f", {100 * last['progress']:.0f} % of the training that was asked for" if "progress" in last else ""
    figures = [curves(rows, "mean_squares", "mean square of the residual", "before any weight")] if squares else []
    figures.append(curves(rows, "terms", "loss", "weighted, the number that is minimised"))
    return TrainingSection(f"{words.count(last['step'], 'step')} in {last['seconds']:.0f} s{of}", squares, figures)


def curves(rows: Sequence[Mapping[str, Any]], of: Amount, title: str, note: str) -> Picture:
    """One curve for each term over the steps, of one amount in the rows of metrics."""
    kind = "Mean square of the residual" if of == "mean_squares" else "Loss"
    alt = f"{kind} over {rows[-1]['step']} training steps, one curve for each term."
    draw = lambda theme: loss_curves(rows, of=of, size=(4.6, 3), theme=theme)  # noqa: E731
    return drawing(draw, alt, title, note, "framed", read_curves)


def configuration(config: Mapping[str, Any], flow: FlowMap, data: Data) -> dict[str, str]:
    """Summarise the configuration of a run.

    Args:
        config: The content of config.json.
        flow: The flow map of the run.
        data: Its data set.

    Returns:
        Names and values, in the order of the page.
    """
    plan = config["training"]
    classes = f", {data.classes} classes" if data.classes else ""
    content = f"{data.kind} of shape {tuple(data.shape)}" if data.manifold is None else f"points on {data.manifold}"
    parameters = sum(parameter.numel() for parameter in flow.parameters())
    after = post_training_of(config)
    return {
        "data": f"{data.name}, {content}{classes}",
        "method": config["method"]["name"],
        **({} if after is None else {"post-trained": after}),
        "network": f"{type(flow.network).__name__}, {parameters:,} parameters",
        "labels": "used" if plan["labels"] else "not used",
        "batch size": str(plan["batch_size"]),
        "learning rate": str(plan["lr"]),
        "precision": "float32" if plan["precision"] == "no" else plan["precision"],
        "seed": str(plan["seed"]),
        "versions": ", ".join(f"{name} {version}" for name, version in config["versions"].items()),
    }
