"""The model card: README.md of an exported folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..figures.words import markdown_table, unlearned
from ..runs.documents import post_training_of
from .words import block, escaped, plain_text

TEXT = """# {title}

A *flow map*: a network that jumps from noise (t = 1) to data (t = 0), or between any two times of the path that links
them, in one pass. {trained}

## Use

{use}

## Measured

{measured}

## Training

{settings}

## Licence

No licence is stated here. Add `license:` to the head of this file before it is published{from_base}.
"""


@dataclass(frozen=True)
class Card:
    """The parts of a model card that depend on the kind of export.

    Attributes:
        use: The first call, as Python code.
        task: The hub's name of the task, such as "text-to-image".
    """

    use: str
    task: str


def write_card(
    folder: Path,
    card: Card,
    title: str,
    config: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None,
    base: str | None,
    weights: Mapping[str, Any] = {},
) -> None:
    """Write README.md with the metadata that the Hugging Face hub reads.

    Args:
        folder: The exported folder.
        card: Use and task.
        title: Title of the card.
        config: Content of the run's config.json; {} if unknown.
        evaluation: Content of the run's evaluation.json. None: not evaluated.
        base: The model from which it was distilled. None: not distilled.
        weights: "step" and "ema" of the weights; {} if unknown.
    """
    base = base if base is None or is_hub_name(base) else Path(base).name
    method = config.get("method", {}).get("name")
    head = {
        "library_name": "diffusers",
        "pipeline_tag": card.task,
        "base_model": base if base is not None and "/" in base else None,
        "tags": ["flow-map", "few-step", "flowmaps", *([plain_text(method)] if method else [])],
    }
    text = TEXT.format(
        title=escaped(title),
        trained=" ".join([_trained(config, base), *_weights(weights)]),
        use=block(card.use),
        measured=_measured(evaluation),
        settings=_settings(config),
        from_base="" if base is None else f"; this model was made from {escaped(base)} and follows its terms",
    )
    (folder / "README.md").write_text(f"---\n{_yaml(head)}---\n\n{text}", encoding="utf-8")


def is_hub_name(base: str) -> bool:
    """Tell whether a name has the form owner/name of the hub and is no local folder."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", base, re.ASCII) is not None and not Path(base).exists()


def _trained(config: Mapping[str, Any], base: str | None) -> str:
    if not config:
        return "Its training is not recorded here."
    method, data = escaped(config["method"]["name"]), escaped(config["data"]["name"])
    source = "" if base is None else f", distilled from {escaped(base)}"
    return f"Trained with flowmaps by {method} on {data}{source}."


def _weights(weights: Mapping[str, Any]) -> list[str]:
    """The step of the weights and whether they are averaged, as a sentence if it is known."""
    kind = "averaged" if weights.get("ema") else "trained, not averaged,"
    return [f"The weights are the {kind} ones of step {escaped(weights['step'])}."] if weights else []


def _measured(evaluation: Mapping[str, Any] | None) -> str:
    if evaluation is None:
        return "Nothing has been measured yet (`flowmaps evaluate RUN`, then export again)."
    named = any("run" in row for row in evaluation["rows"])
    head = ["run"] * named + ["sampler", "steps", "distance", "network calls", "seconds per sample"]
    rows = [
        [escaped(row.get("run", "this"))] * named
        + [escaped(row["sampler"]), escaped(row["steps"]), _error(row["distance"], row["stderr"])]
        + [escaped(row["network_calls"])]
        + [f"{row['seconds_per_sample']:.3g}"]
        for row in evaluation["rows"]
    ]
    floor = _error(evaluation.get("floor"), evaluation.get("floor_stderr"))
    lesson = unlearned(evaluation)
    return ("" if lesson is None else f"{lesson}\n\n") + (
        f"{escaped(evaluation['metric'])}; data against data: {floor}. At step {escaped(evaluation['step'])}, "
        f"{escaped(evaluation['samples'])} samples, on {escaped(evaluation['device'])}.\n\n{markdown_table(head, rows)}"
    )


def _error(value: float | None, stderr: float | None) -> str:
    if value is None:
        return "not finite"
    return f"{value:.4g}" + ("" if stderr is None else f" ± {stderr:.2g}")


def _settings(config: Mapping[str, Any]) -> str:
    if not config:
        return "Unknown."
    rows = [("method", config["method"]["name"]), ("data", config["data"]["name"])]
    training = {**config["training"], "accumulate": config.get("processes", {}).get("accumulate", 1)}
    rows += [(name, _value(value)) for name, value in training.items() if value is not None and value is not False]
    notes = dict(config.get("notes", {}))
    if (after := post_training_of(config)) is not None:
        notes["post_training"] = after
    rows += list(notes.items())
    rows += [(f"{name} version", v) for name, v in config["versions"].items() if v != "not installed"]
    return markdown_table(["setting", "value"], [[escaped(name), escaped(value)] for name, value in rows])


def _value(value: Any) -> Any:
    """A setting; a function or an object by its name, with its known arguments."""
    if not isinstance(value, Mapping):
        return value
    arguments = value.get("arguments") or value.get("with") or {}
    given = arguments.items() if isinstance(arguments, Mapping) else ()
    name = value.get("type") or value.get("function")
    return f"{name}({', '.join(f'{key}={_value(item)}' for key, item in given)})" if given else name


def _yaml(head: Mapping[str, Any]) -> str:
    """Write strings and lists as YAML, which accepts JSON values."""
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in head.items() if value is not None)
