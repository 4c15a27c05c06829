"""Printed messages, tables and JSON: results on standard output, the rest on standard error."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from ..evaluate.clip_measures import MotionRow
from ..figures import words


def say(text: str) -> None:
    """Print a message on standard error, with options for arguments; of several processes only the first prints."""
    from . import in_options

    if os.environ.get("RANK", "0") == "0":
        print(in_options(text), file=sys.stderr)


def as_options(message: str, known: Iterable[str]) -> str:
    """A message of an experiment with names of arguments replaced by options.

    Args:
        message: A text with arguments in backticks: `name` or `name=value`.
        known: Names of options; only these are replaced.

    Returns:
        The text with --name, --name value or, for name=False, --no-name.
    """
    names = set(known)

    def option(found: re.Match[str]) -> str:
        name, value = found.groups()
        if name not in names:
            return found.group()
        typed = name.replace("_", "-")
        return f"--no-{typed}" if value == "False" else f"--{typed}{f' {value}' if value else ''}"

    return re.sub(r"`([a-z_]+)(?:=([^`]*))?`", option, message)


def as_data_options(message: str, names: Iterable[str], also_options: Iterable[str] = ()) -> str:
    """A message with name=value of a data set's options replaced by --data-args "name=value".

    Args:
        message: The message.
        names: Names of the options of data sets.
        also_options: Names that the command has too, as another option; name="text" belongs to the data set.

    Returns:
        The message.
    """
    for known, values in ((names, r"""\([^)]*\)|"[^"]*"|[^\s,;`]+"""), (also_options, '"[^"]*"')):
        pattern = "|".join(known)
        if pattern:
            message = re.sub(rf"(?<![\w.=-])`?({pattern})=({values})`?", _data_option, message)
    return message


def _data_option(found: re.Match[str]) -> str:
    """One option of a data set, quoted for a shell where that is needed."""
    name, value = found[1], found[2].strip('"')
    pair = f"{name}={value}"
    return f"--data-args {pair}" if re.fullmatch(r"[\w=.-]+", pair) else f'--data-args "{pair}"'


def print_json(value: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=2))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a title and a plain table; nothing is cut if the output is not a terminal."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(columns))
    for place, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=place == 0)
    for row in rows:
        table.add_row(*row)
    console = Console()
    print(title)
    (console if console.is_terminal else Console(width=200)).print(table)


def print_evaluation(result: Mapping[str, Any]) -> None:
    """Print the rows of an evaluation, under the metric and its floor."""
    named = any("run" in row for row in result["rows"])
    columns = ["run"] * named + ["sampler", "steps", "distance", "+-", "time per sample", "network calls"]
    rows = [[str(row.get("run", "this run"))] * named + cells(row) for row in result["rows"]]
    print_table(heading(result), columns, rows)
    if (known := words.recognition(result)) is not None:
        print(known)
    if (lesson := words.unlearned(result)) is not None:
        print(f"{lesson} {words.ADVICE}")
    if {"token_entropy", "motion"} & result["measures"].keys():
        print_others(result)
    if "map_error" in result:
        anywhere, whole = (number(result[key]) for key in ("map_error", "map_error_one_jump"))
        print(f"error against the exact flow map: {anywhere} over the times it knows, {whole} from noise to data")
    if "guidance" in result:
        print_guidance(result["guidance"])


def print_others(result: Mapping[str, Any]) -> None:
    """Print the measures beside the main one, under the values of real data."""
    titles = {key: title for key, title in result["measures"].items() if key != "distance"}
    data = {"sampler": "real data", "steps": ""}
    data |= {f"{key}{end}": result[f"{key}_floor{end}"] for key in titles for end in ("", "_stderr")}
    rows = [
        [str(row.get("run", row["sampler"])), str(row["steps"])]
        + [number(row[name]) for key in titles for name in (key, f"{key}_stderr")]
        for row in (data, *result["rows"])
    ]
    meanings = [f"{key.replace('_', ' ')}: {title}" for key, title in titles.items()]
    columns = ["sampler", "steps", *(part for key in titles for part in (key.replace("_", " "), "+-"))]
    print_table("\n".join(["", *meanings]), columns, rows)


def print_motion(rows: Sequence[MotionRow]) -> None:
    """Print the motion of a student's clips beside their teacher's."""
    cells = [[row.clips, *map(number, (*row.motion, *row.ratio))] for row in rows]
    title = "Motion, the mean absolute difference of neighbouring frames, and its ratio to the teacher's"
    print_table(title, ["clips", "motion", "+-", "ratio", "+-"], cells)


def print_guidance(found: Mapping[str, Any]) -> None:
    """Print the measures by scale of guidance, under the values of held-out data."""
    keys = list(found["measures"])
    columns = ["run", "sampler", "steps", "scale", *(part for key in keys for part in (key.replace("_", " "), "+-"))]
    data = {"run": "held-out data", "sampler": "", "steps": "", "scale": "", **found["data"]}
    rows = [
        [str(row.get(name, "this run")) for name in columns[:4]]
        + [number(row.get(name)) for key in keys for name in (key, f"{key}_stderr")]
        for row in (data, *found["rows"])
    ]
    meanings = (f"{key.replace('_', ' ')}: {title}" for key, title in found["measures"].items())
    print_table("\n".join(["", "by scale of guidance", *meanings]), columns, rows)


def heading(result: Mapping[str, Any]) -> str:
    """The metric, its floor, and the distance of noise if it was measured."""
    noise = "" if result.get("noise") is None else f", noise against data: {number(result['noise'])}"
    return f"{result['metric']}; data against data: {number(result['floor'])}{noise}"


def cells(row: Mapping[str, Any]) -> list[str]:
    """One row of an evaluation."""
    return [
        str(row["sampler"]),
        str(row["steps"]),
        number(row["distance"]),
        number(row["stderr"]),
        duration(row["seconds_per_sample"]),
        number(row["network_calls"]),
    ]


def number(value: float | None) -> str:
    """A number in four digits, or a dash."""
    return "-" if value is None else f"{value:.4g}"


def duration(seconds: float | None) -> str:
    """A time in s, ms or us, or a dash."""
    if seconds is None:
        return "-"
    unit, factor = ("s", 1.0) if seconds >= 1 else ("ms", 1e3) if seconds >= 1e-3 else ("us", 1e6)
    return f"{seconds * factor:.3g} {unit}"
