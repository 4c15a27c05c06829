"""The parts of a report that a run folder holds already: the table, other measures, losses, configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..data import Data
from ..figures import words
from ..figures.charts import loss_curves
from ..flow_map import FlowMap
from . import page

EXACT = (
    "Root mean square error of F against the exact flow map, in the data's units: "
    "{} over pairs (s, t) that the map knows, {} in one jump."
)


def quality_and_cost(evaluation: Mapping[str, Any]) -> str:
    """The table of samplers."""
    rows, ode = evaluation["rows"], words.longest_ode(evaluation["rows"])
    lines = [("floor", ["real data against itself: the floor", words.floor(evaluation), "", "", ""])]
    for row in rows:
        cost = [str(row["network_calls"]), words.seconds(row["seconds_per_sample"]), words.speed_up(row, ode)]
        lines.append(("chosen" if row is words.one_jump(rows) else "", [words.name(row), words.pair(row), *cost]))
    faster = f"speed-up over {words.name(ode)}" if ode else ""
    head = ["sampler", "distance to real data", "network calls", "time per sample", faster]
    caption = (
        f"{evaluation['metric']}, lower is better; mean and standard error over {evaluation['draws']} draws of "
        f"{evaluation['samples']} samples. Time: median, {evaluation['batch_size']} samples at once on "
        f"{evaluation['device']}, {words.count(evaluation['threads'], 'thread')}."
    )
    return page.section("Quality and cost", page.table(head, lines, caption), _exact(evaluation), _others(evaluation))


def _exact(evaluation: Mapping[str, Any]) -> str:
    if evaluation.get("map_error_one_jump") is None:
        return ""
    errors = (evaluation[key] for key in ("map_error", "map_error_one_jump"))
    return page.paragraph(EXACT.format(*("not known" if error is None else f"{error:.2g}" for error in errors)))


def _others(evaluation: Mapping[str, Any]) -> str:
    """All measures but the main one, with what each means."""
    titles = {key: title for key, title in evaluation["measures"].items() if key != "distance"}
    if not titles:
        return ""
    names = [key.replace("_", " ") for key in titles]
    floors = [words.plus_minus(evaluation[f"{key}_floor"], evaluation[f"{key}_floor_stderr"]) for key in titles]
    lines = [("floor", ["real data", *floors])]
    for row in evaluation["rows"]:
        lines.append(("", [words.name(row), *(words.plus_minus(row[key], row[f"{key}_stderr"]) for key in titles)]))
    meanings = page.facts(zip(names, titles.values(), strict=True))
    return page.details("Other measures", page.table(["sampler", *names], lines), meanings)


def training(rows: Sequence[Mapping[str, Any]]) -> str:
    """Loss curves, from the rows of metrics.jsonl."""
    if not rows:
        return ""
    text = (
        f"{rows[-1]['step']} steps in {rows[-1]['seconds']:.0f} s. The targets are noisy, so the losses level off far "
        "above 0 even for a perfect network; only their fall says something."
    )
    alt = f"Loss over {rows[-1]['step']} training steps, one curve for each term."
    return page.section(
        "Training", page.paragraph(text), page.drawing(lambda theme: loss_curves(rows, theme=theme), alt)
    )


def configuration(config: Mapping[str, Any], flow: FlowMap, data: Data) -> str:
    """What the run was made of, in short, and config.json whole."""
    plan = config["training"]
    classes = f", {data.classes} classes" if data.classes else ""
    parameters = sum(parameter.numel() for parameter in flow.parameters())
    pairs = {
        "data": f"{data.name}, {data.kind} of shape {tuple(data.shape)}{classes}",
        "method": config["method"]["name"],
        "network": f"{type(flow.network).__name__}, {parameters:,} parameters",
        "labels": "used" if plan["labels"] else "not used",
        "batch size": str(plan["batch_size"]),
        "learning rate": str(plan["lr"]),
        "precision": "float32" if plan["precision"] == "no" else plan["precision"],
        "seed": str(plan["seed"]),
        "versions": ", ".join(f"{name} {version}" for name, version in config["versions"].items()),
    }
    whole = page.details("config.json", page.code(json.dumps(config, indent=2)))
    return page.section("Configuration", page.facts(pairs.items()), whole)
