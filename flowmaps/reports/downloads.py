"""Tables and records as files inside a page: CSV and JSON in data URIs."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any
from urllib.parse import quote

Cells = Sequence[str]

NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet evaluate a cell."""
PLAIN = str.maketrans({"\u00a0": " ", "−": "-"})
"""Spaces and minus signs of a page as programs write them."""


def columns(head: Cells, rows: Iterable[Cells]) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of a table, with a column of its own for each standard error.

    Args:
        head: The names of the columns.
        rows: The cells of each row.

    Returns:
        The names of the columns, all that have one, and the cells of each row, in plain characters. "0.91 ± 0.02" is
        "0.91" in its column, and "0.02" in the column of the same name and ", standard error".
    """
    names: list[str] = []
    parts: list[list[str]] = []
    for name, *cells in zip(head, *rows, strict=True):
        if not name:  # a column without anything
            continue
        column = [cell.translate(PLAIN) for cell in cells]
        split = [cell.partition(" ± ") for cell in column]
        if any(sign for _, sign, _ in split):
            names += [name, f"{name}, standard error"]
            parts += [[value for value, _, _ in split], [error for _, _, error in split]]
        else:
            names.append(name)
            parts.append(column)
    return names, [list(row) for row in zip(*parts, strict=True)]


def csv_file(head: Cells, rows: Iterable[Cells]) -> str:
    """The data URI of a table as CSV, with standard errors in columns of their own.

    Args:
        head: The names of the columns.
        rows: The cells of each row.

    Returns:
        The URI. A text that a spreadsheet would evaluate as a formula has an apostrophe in front.
    """
    names, parts = columns(head, rows)
    text = StringIO()
    csv.writer(text).writerows([_plain(cell) for cell in row] for row in (names, *parts))
    return uri(text.getvalue(), "text/csv")


def json_file(head: Cells, rows: Iterable[Cells]) -> str:
    """The data URI of a table as JSON: a list of rows, each a dict by the names of the columns, numbers as numbers."""
    names, parts = columns(head, rows)
    return uri(document([dict(zip(names, map(_value, row), strict=True)) for row in parts]), "application/json")


def document(content: Any) -> str:
    """The text of a JSON file."""
    return json.dumps(content, indent=1, ensure_ascii=False)


def uri(text: str, kind: str) -> str:
    """The data URI of a text, with all special characters quoted."""
    return f"data:{kind};charset=utf-8,{quote(text, safe='')}"


def _plain(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(FORMULA) and not NUMBER.fullmatch(cell) else cell


def _value(cell: str) -> str | int | float | None:
    """A cell as a number if it is one; an empty cell is None."""
    if not NUMBER.fullmatch(cell):
        return cell or None
    return int(cell) if re.fullmatch(r"-?\d+", cell) else float(cell)
