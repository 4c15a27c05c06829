"""The JSON documents of a run folder: the types of their entries, and the check of a document."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from ..arguments import MOST_CLASSES, MOST_VALUES
from ..serialise import mismatch, shown_value

MOST_STEPS = 10**6
"""Largest number of steps of a sampler in evaluation.json."""

Number = float | None


class FlowEntry(TypedDict):
    """The entry "flow" of config.json."""

    network: Any
    output: Any
    path: Any
    only_source: Number
    only_target: Number
    guidance: NotRequired[Any]
    trained: NotRequired[Any]
    units: NotRequired[Any]
    guided: NotRequired[str | None]  # format 1


class FlowFile(TypedDict):
    """The description in the file of a flow map."""

    format: int
    flow: FlowEntry
    sha256: str
    versions: dict[str, str]


class MethodEntry(TypedDict):
    """The entry "method" of config.json."""

    name: str
    terms: NotRequired[Any]
    stages: NotRequired[list[float] | None]


class Change(TypedDict):
    """A transform in the entry "data" of config.json."""

    type: str
    arguments: NotRequired[dict[str, Any]]


class LabelDropoutArguments(TypedDict):
    """The arguments of a `data.LabelDropout`, which samplers read."""

    share: float
    null: NotRequired[int]


class GuidanceScalesArguments(TypedDict):
    """The arguments of a `data.GuidanceScales`, which the conversion of format 1 reads."""

    low: float
    high: float


ARGUMENTS: dict[tuple[str, ...], Any] = {
    ("LabelDropout", "WithoutLabel"): LabelDropoutArguments,
    ("GuidanceScales", "WithGuidance"): GuidanceScalesArguments,
}
"""The arguments of transforms that are read, by the ends of their names."""


class DataEntry(TypedDict):
    """The entry "data" of config.json."""

    name: str
    kind: Literal["images", "points", "tokens", "vectors"]
    shape: list[int]
    classes: int | None
    class_names: NotRequired[list[str] | None]  # later than 0.1.0
    recipe: dict[str, Any] | None
    coupling: NotRequired[Any]
    changes: NotRequired[Any]
    vocabulary: NotRequired[Any]  # of tokens alone
    columns: NotRequired[Any]  # of rows with categories alone
    coordinates: NotRequired[Any]  # of points on manifolds alone
    signal: NotRequired[Any]  # of sound alone


class TrainingEntry(TypedDict):
    """The entry "training" of config.json, as far as a run is read by it."""

    labels: bool
    batch_size: int
    lr: float
    precision: str
    seed: int


class PostTraining(TypedDict):
    """The entry "post_training" of the notes: the run that was moved towards a reward, and the reward."""

    run: str
    step: int
    reward: str
    classifier: str | None  # its file, if one was given
    beta: float
    method: str


class Notes(TypedDict):
    """The entry "notes" of config.json, as far as a run is read by it."""

    teacher: NotRequired[str | None]
    folder: NotRequired[str | None]
    post_training: NotRequired[PostTraining]


class Config(TypedDict):
    """The content of config.json."""

    format: int
    flow: FlowEntry
    method: MethodEntry
    data: DataEntry
    training: TrainingEntry
    notes: Notes
    versions: dict[str, str]
    processes: NotRequired[dict[str, Any]]


class LoggedRow(TypedDict):
    """A row of metrics.jsonl."""

    step: int
    loss: float
    seconds: float
    terms: NotRequired[dict[str, float] | None]
    mean_squares: NotRequired[dict[str, Number] | None]
    progress: NotRequired[float]


class SampledRow(TypedDict):
    """A row of the table of an evaluation."""

    run: NotRequired[str]
    sampler: Literal["jump", "euler", "restart", "ancestral"]
    steps: int
    distance: Number
    seconds_per_sample: float
    network_calls: int


class EvaluatedRow(SampledRow):
    """A row of the table of evaluation.json."""

    stderr: Number


class GuidedRow(SampledRow):
    """A row of the entry "guidance" of evaluation.json."""

    scale: float


class GuidanceTable(TypedDict):
    """The entry "guidance" of evaluation.json."""

    scales: list[float] | None
    interval: tuple[float, float]
    steps: int
    reference: str | None
    rows: list[GuidedRow]
    data: dict[str, Number]
    measures: dict[str, str]


class Recognition(TypedDict):
    """The entry "classifier" of evaluation.json."""

    accuracy: float
    stderr: float
    commonest: float


class Evaluation(TypedDict):
    """The content of evaluation.json."""

    step: int
    metric: str
    floor: Number
    floor_stderr: Number
    noise: NotRequired[Number]
    noise_stderr: NotRequired[Number]
    noise_name: NotRequired[str]  # of points on manifolds alone
    rows: list[EvaluatedRow]
    measures: dict[str, str]
    samples: int
    device: str
    classifier: NotRequired[Recognition]
    guidance: NotRequired[GuidanceTable]
    map_error: NotRequired[Number]
    map_error_one_jump: NotRequired[Number]


def check(document: Any, hint: Any, path: Path, place: str = "") -> None:
    """Check the entries of a document.

    Args:
        document: The document, as JSON.
        hint: Its type.
        path: Its file, for the message.
        place: Place of the document in its file, such as "line 3".

    Raises:
        ValueError: If an entry is missing or has another type; the message names the file and the entry.
    """
    wrong = mismatch(document, hint, place)
    if wrong is not None:
        raise ValueError(f"{path} cannot be used: {wrong}")


def check_config(config: Any, path: Path) -> None:
    """Check the content of config.json, of any format. Raises ValueError, naming the file and the entry."""
    if isinstance(config, dict) and "flow" not in config and "_class_name" in config:
        raise ValueError(
            f"{path.parent} is neither a run nor a pipeline, but one model of diffusers: give the folder of the "
            "pipeline around it, with model_index.json"
        )
    check(config, Config, path)
    data = config["data"]
    if not data["shape"] or min(data["shape"]) < 1 or math.prod(data["shape"]) > MOST_VALUES:
        raise ValueError(
            f"{path} cannot be used: data.shape must be positive numbers with a product of at most {MOST_VALUES}, got "
            f"{data['shape'][:8]}"
        )
    if data["classes"] is not None and not 0 < data["classes"] <= MOST_CLASSES:
        raise ValueError(
            f"{path} cannot be used: data.classes must be between 1 and {MOST_CLASSES}, got {data['classes']}"
        )
    names = data.get("class_names")
    if names is not None and len(names) != data["classes"]:
        raise ValueError(
            f"{path} cannot be used: data.class_names must be a name for each of the {data['classes']} data.classes, "
            f"got {len(names)}"
        )
    if config["training"]["labels"] and data["classes"] is None:
        raise ValueError(f"{path} cannot be used: training.labels is true, but there are no data.classes")
    after = config["notes"].get("post_training")
    if after is not None and not (math.isfinite(after["beta"]) and after["beta"] > 0):
        raise ValueError(
            f"{path} cannot be used: notes.post_training.beta must be a positive number, got {after['beta']}"
        )
    if data.get("changes") is not None:
        check(data["changes"], list[Any], path, "data.changes")
        for index, change in enumerate(data["changes"]):
            _check_change(change, path, f"data.changes[{index}]")


def post_training_of(config: Mapping[str, Any]) -> str | None:
    """The post-training of a run in words, from the content of its config.json; None if there is none."""
    found = config.get("notes", {}).get("post_training")
    if found is None:
        return None
    by = "" if found["classifier"] is None else f", classifier {found['classifier']}"
    return (
        f"towards {found['reward']} by {found['method']}, beta {found['beta']:g}{by}, from step {found['step']} of "
        f"{found['run']}"
    )


def _check_change(change: Any, path: Path, place: str) -> None:
    """Check a transform of the data: an object is described with its arguments, a function by its name."""
    if isinstance(change, dict) and "function" not in change:
        check(change, Change, path, place)
        for names, arguments in ARGUMENTS.items():
            if change["type"].endswith(names):
                check(change.get("arguments"), arguments, path, f"{place}.arguments")
        null = (change.get("arguments") or {}).get("null")
        if isinstance(null, int) and not 0 <= null <= MOST_CLASSES:
            raise ValueError(
                f"{path} cannot be used: {place}.arguments.null must be the number of the null class, got {null}"
            )
    else:
        check(change, dict[str, Any] | str, path, place)


def check_evaluation(found: Any, path: Path) -> None:
    """Check the content of evaluation.json. Raises ValueError, naming the file and the entry."""
    check(found, Evaluation, path)
    main = [key for key in found["measures"] if key != "distance"]
    _check_numbers(found, [f"{key}{end}" for key in main for end in ("_floor", "_floor_stderr")], path, "")
    _check_rows(found["rows"], [*main, *(f"{key}_stderr" for key in main)], path, "rows")
    guidance = found.get("guidance")
    if guidance is not None:
        names = [f"{key}{end}" for key in ("accuracy", "diversity", "distance") for end in ("", "_stderr")]
        _check_rows(guidance["rows"], names, path, "guidance.rows")
        _check_numbers(guidance["data"], names, path, "guidance.data.")
        if not guidance["rows"] or not 0 < guidance["steps"] <= MOST_STEPS:
            raise ValueError(f"{path} cannot be used: guidance must have rows, and steps from 1 to {MOST_STEPS}")


def _check_rows(rows: list[Any], names: list[str], path: Path, place: str) -> None:
    """Check the numbers of a table: times are positive, step counts bounded, the entries with `names` there."""
    for index, row in enumerate(rows):
        _check_numbers(row, names, path, f"{place}[{index}].")
        if not (0 < row["steps"] <= MOST_STEPS and row["seconds_per_sample"] > 0):
            raise ValueError(
                f"{path} cannot be used: {place}[{index}] must have steps from 1 to {MOST_STEPS} and a positive "
                "seconds_per_sample"
            )


def _check_numbers(table: Mapping[str, Any], names: list[str], path: Path, place: str) -> None:
    """Check that entries are there, and that all numbers are finite and no standard error is negative."""
    if lost := [name for name in names if name not in table]:
        raise ValueError(f"{path} cannot be used: {place}{lost[0]} is missing, beside the entry measures")
    for name, value in table.items():
        wrong = name in names and not (value is None or is_number(value))
        if wrong or (is_number(value) and (not math.isfinite(value) or (name.endswith("stderr") and value < 0))):
            raise ValueError(f"{path} cannot be used: {place}{name} must be a finite number, got {shown_value(value)}")


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
