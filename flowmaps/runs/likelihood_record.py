"""The record of the last log-densities of a run: likelihood.json, from which the report draws its histogram."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from ..files import read_json, sealed, unsealed, write_json
from .documents import Number, check, is_number

RECORD = "likelihood.json"
"""File with the numbers and the log-densities."""
PICTURE = "likelihood.png"
"""File with their histogram, for people; nothing reads it."""
KEPT = 4096
"""Largest number of log-densities of one kind of rows that are kept for the histogram."""
ROWS = 256
"""Largest number of rows of the table, and of notes."""
LONGEST = 4096
"""Largest length of a text."""
LARGEST = 1e30
"""Largest size of a number."""


class LikelihoodEntry(TypedDict):
    """A row of the table of likelihood.json."""

    by: str
    rows: str
    n: int
    nats: Number
    stderr: Number
    bits: Number
    bits_stderr: Number
    per_value: Number
    error: Number
    folded: int
    passes: int
    seconds: float
    auroc: Number


class LikelihoodRecord(TypedDict):
    """The content of likelihood.json."""

    step: int
    data: str
    levels: int | None
    quantity: str
    rows: list[LikelihoodEntry]
    values: dict[str, dict[str, list[float]]]
    accuracy: dict[str, float]
    notes: list[str]
    command: str | None


def write_likelihood_record(run: Path, record: Mapping[str, Any]) -> None:
    """Write the record of log-densities.

    Args:
        run: The run folder.
        record: The content of likelihood.json.
    """
    write_json(run / RECORD, sealed(record))


def read_likelihood_record(run: str | Path) -> dict[str, Any] | None:
    """Read the record of the last log-densities.

    Args:
        run: The run folder.

    Returns:
        The content of likelihood.json. None without a record, or with one that has changed, with a warning.

    Raises:
        ValueError: The record is broken, or an entry is missing, of another type or out of range.
    """
    path = Path(run) / RECORD
    if not path.is_file():
        return None
    found = read_json(path)
    _check(found, path)
    if not unsealed(found)[1]:
        warnings.warn(
            f"{path} has changed since it was written, and is left out: run flowmaps likelihood again", stacklevel=2
        )
        return None
    return found


def _check(found: Any, path: Path) -> None:
    """Check the content of likelihood.json. Raises ValueError, naming the file and the entry."""
    check(found, LikelihoodRecord, path)
    if not 0 <= found["step"] <= 2**40 or (found["levels"] is not None and not 2 <= found["levels"] <= 2**32):
        raise ValueError(f"{path} cannot be used: step or levels is out of range")
    for name, content in (("rows", found["rows"]), ("notes", found["notes"]), ("values", found["values"])):
        if len(content) > ROWS or (name != "notes" and not content):
            raise ValueError(f"{path} cannot be used: {name} must have 1 to {ROWS} entries, got {len(content)}")
    texts = [found["data"], found["quantity"], found["command"] or "", *found["notes"]]
    for row in found["rows"]:
        texts += [row["by"], row["rows"]]
        _check_numbers(row, path, "rows")
    _check_numbers(found["accuracy"], path, "accuracy")
    for by, kinds in found["values"].items():
        for kind, values in kinds.items():
            texts += [by, kind]
            if len(values) > KEPT or len(kinds) > ROWS:
                raise ValueError(f"{path} cannot be used: values.{by[:40]} has more than {KEPT} log-densities")
            _check_numbers(dict(enumerate(values)), path, "values")
    if any(len(text) > LONGEST for text in texts):
        raise ValueError(f"{path} cannot be used: a text is longer than {LONGEST} characters")


def _check_numbers(numbers: Mapping[Any, Any], path: Path, place: str) -> None:
    """Check that numbers are finite and not huge, and that counts, times and errors are not negative."""
    for name, value in numbers.items():
        if value is None or isinstance(value, str):
            continue
        if not is_number(value) or not math.isfinite(value) or abs(value) > LARGEST:
            raise ValueError(f"{path} cannot be used: {place}.{name} must be a finite number")
        if name in ("n", "stderr", "bits_stderr", "error", "folded", "passes", "seconds", "auroc") and value < 0:
            raise ValueError(f"{path} cannot be used: {place}.{name} must not be negative")
