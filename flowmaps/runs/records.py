"""The records of a run: metrics.jsonl and evaluation.json, each row and each result with its checksum."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import sealed, unsealed, write_json
from .checkpoint_reading import latest

EVALUATION = "evaluation.json"
"""File with the result of the last evaluation."""


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """Read a file with a JSON object.

    Args:
        path: The file.
        remedy: Advice for the message about a broken file.

    Returns:
        The object.

    Raises:
        ValueError: If it cannot be read, or is no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is not a JSON object")
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}. It is damaged: {remedy}") from None
    return found


def metrics_line(row: Mapping[str, Any]) -> str:
    """Return a row of metrics as a line of metrics.jsonl, with its checksum."""
    return json.dumps(sealed(row)) + "\n"


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl of a run folder.

    Args:
        run: The run folder.

    Returns:
        One row for each logged step, oldest first: step, loss, terms, lr, steps_per_second, seconds. An incomplete last
        line is ignored.

    Raises:
        ValueError: If a complete line cannot be read or has changed since it was written; the message has its number.
    """
    path = Path(run) / "metrics.jsonl"
    try:
        *lines, rest = path.read_text(encoding="utf-8").split("\n") if path.is_file() else [""]
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    rows = [_read_line(path, number, line) for number, line in enumerate(lines, 1)]
    if rest.startswith("{") and rest[:-1].endswith("}"):  # more than a line whose writing was interrupted
        try:
            _, intact = unsealed(json.loads(rest[:-1]))
        except ValueError:
            return rows
        if intact:
            raise _damaged(path, f"line {len(lines) + 1} has changed since it was written")
    return rows


def _read_line(path: Path, number: int, line: str) -> dict[str, Any]:
    """Read a line of metrics.jsonl without its checksum."""
    try:
        row, intact = unsealed(json.loads(line))
    except (ValueError, AttributeError) as error:
        raise _damaged(path, f"line {number}: {error}") from None
    if not intact:
        raise _damaged(path, f"line {number} has changed since it was written")
    return row


def _damaged(path: Path, reason: str) -> ValueError:
    """Return the error for damaged metrics."""
    return ValueError(
        f"{path} is damaged ({reason}): restore it, or move it away; checkpoints do not need it. To accept an edited "
        'line, remove its entry "checksum"'
    )


def measured_step(run: str | Path) -> int | None:
    """Return the step of the newest checkpoint whose averaged weights are valid; None without a checkpoint."""
    found = latest(Path(run) / "checkpoints", ("ema",))
    return None if found is None else found[1]["step"]


def write_evaluation(path: Path, result: Mapping[str, Any]) -> None:
    """Write the result of an evaluation, with its checksum."""
    write_json(path, sealed(result))


def read_evaluation(run: str | Path, step: int | None = None) -> dict[str, Any] | None:
    """Read evaluation.json of a run.

    Args:
        run: The run folder.
        step: The step of the weights that it must have measured. None: the one that `load` reads.

    Returns:
        The result; None if it is missing, of another step, or has changed since it was written, with a warning.
    """
    path = Path(run) / EVALUATION
    return read_measured(path, measured_step(run) if step is None else step) if path.is_file() else None


def read_measured(path: Path, step: int | None) -> dict[str, Any] | None:
    """Read the file of an evaluation.

    Args:
        path: The file; it must exist.
        step: The step of the weights that it must have measured.

    Returns:
        The result; None if it is of another step, or has changed since it was written, with a warning.
    """
    try:
        result, intact = unsealed(read_object(path, "it counts as missing, evaluate again"))
    except ValueError as error:
        warnings.warn(str(error), stacklevel=3)
        return None
    if not intact:
        warnings.warn(
            f"{path} has changed since it was measured, and counts as missing: evaluate again. To accept an edit, "
            'remove the entry "checksum"',
            stacklevel=3,
        )
    return result if intact and result.get("step") == step else None
