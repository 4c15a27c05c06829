"""The records of a run: metrics.jsonl and evaluation.json, each row and each result with its checksum."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from ..files import parse_json, read_json, sealed, unsealed, write_json
from .checkpoint_reading import latest
from .documents import LoggedRow, check, check_evaluation

EVALUATION = "evaluation.json"
"""File with the result of the last evaluation."""
LONGEST_LINE = 2**24
"""Largest length of a line of metrics.jsonl, in characters."""
MOST_ROWS = 4096
"""Largest number of rows of metrics in a curve."""


def metrics_line(row: Mapping[str, Any]) -> str:
    """Return a row of metrics as a line of metrics.jsonl, with its checksum."""
    return json.dumps(sealed(row)) + "\n"


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl of a run folder.

    Args:
        run: The run folder.

    Returns:
        The rows of `metrics_rows`.

    Raises:
        ValueError: If a complete line cannot be read, has no such entries, or has changed since it was written.
    """
    return list(metrics_rows(run))


def thinned_metrics(run: str | Path, most: int = MOST_ROWS) -> list[dict[str, Any]]:
    """Read evenly spaced rows of metrics.jsonl, for curves. The memory does not grow with the file.

    Args:
        run: The run folder.
        most: Largest number of rows, at least 2.

    Returns:
        Every row of a short run; of a longer one every k-th, and the last, with the least power of two for k.

    Raises:
        ValueError: As `read_metrics`.
    """
    kept: list[dict[str, Any]] = []
    every, last = 1, None
    for number, last in enumerate(metrics_rows(run)):
        if number % every:
            continue
        if len(kept) == most - 1:
            kept, every = kept[::2], 2 * every
        if number % every == 0:
            kept.append(last)
    return kept if last is None or kept[-1] is last else [*kept, last]


def metrics_rows(run: str | Path) -> Iterator[dict[str, Any]]:
    """Iterate over the rows of metrics.jsonl, one line in memory at a time.

    Args:
        run: The run folder.

    Yields:
        One row for each logged step, oldest first: step, loss, terms, mean_squares and progress (since version
        0.2), lr, steps_per_second, seconds. An incomplete last line is ignored; without the file there are no rows.

    Raises:
        ValueError: If a complete line cannot be read, has no such entries, or has changed since it was written.
    """
    path = Path(run) / "metrics.jsonl"
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="\n") as file:
        for number in count(1):
            place = f"line {number}"
            try:
                line = file.readline(LONGEST_LINE)
                if not line.endswith("\n"):
                    return _check_rest(line, place)
                row = _parse_row(line[:-1], place)
            except ValueError as error:
                raise ValueError(
                    f"{path} is damaged ({error}): restore it, or move it away; checkpoints do not need it. To accept "
                    'an edited line, remove its entry "checksum"'
                ) from None
            check(row, LoggedRow, path, place)
            yield row


def _parse_row(line: str, place: str) -> Any:
    """Parse a line of metrics.jsonl, without its checksum."""
    found = parse_json(line)
    if not isinstance(found, dict):
        return found
    row, intact = unsealed(found)
    if not intact:
        raise ValueError(f"{place} has changed since it was written")
    return row


def _check_rest(rest: str, place: str) -> None:
    """Refuse a complete last line without the end of a line, which is damaged; an incomplete one was interrupted."""
    if len(rest) >= LONGEST_LINE:
        raise ValueError(f"{place} is longer than {LONGEST_LINE} characters")
    try:
        _parse_row(rest[:-1], place)
    except ValueError:
        return
    raise ValueError(f"{place} has changed since it was written")


def measured_step(run: str | Path) -> int | None:
    """Return the step of the newest checkpoint whose averaged weights are valid; None without a checkpoint."""
    found = latest(Path(run) / "checkpoints", ("ema",))
    return None if found is None else found[1]["step"]


def write_evaluation(path: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Write the result of an evaluation, and return it as it is written, with its checksum."""
    written = sealed(result)
    write_json(path, written)
    return written


def read_evaluation(run: str | Path, step: int | None = None) -> dict[str, Any] | None:
    """Read evaluation.json of a run.

    Args:
        run: The run folder.
        step: The step of the weights that it must have measured. None: the one that `load` reads.

    Returns:
        The result; None if it is missing, of another step, or has changed since it was written, with a warning.

    Raises:
        ValueError: If the file is broken, or lacks an entry.
    """
    path = Path(run) / EVALUATION
    return read_measures(path, measured_step(run) if step is None else step) if path.is_file() else None


def read_measures(path: Path, step: int | None) -> dict[str, Any] | None:
    """Read an evaluation.

    Args:
        path: The file.
        step: The step of the weights that it must have measured.

    Returns:
        The result; None if it is missing, of another step, or has changed since it was written, with a warning.

    Raises:
        ValueError: If the file is broken, or lacks an entry.
    """
    if not path.is_file():
        return None
    found = read_json(path)
    if not isinstance(found, dict) or found.get("step") == step:
        check_evaluation(found, path)
    intact = unsealed(found)[1]
    if not intact:
        warnings.warn(
            f"{path} has changed since it was measured, and counts as missing: evaluate again. To accept an edit, "
            'remove the entry "checksum"',
            stacklevel=3,
        )
    return found if intact and found.get("step") == step else None
