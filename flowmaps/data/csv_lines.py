"""Tables of text: their lines, the names of their columns, and their cells."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

DELIMITERS = ",;\t|"
"""Characters between cells, in the order in which they are tried."""


def lines_of(path: Path, delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of every line that is not empty."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        start = next((line for line in file if line.strip()), "")
        file.seek(0)
        delimiter = delimiter_of(start, path.suffix) if delimiter is None else delimiter
        if len(delimiter) != 1:
            raise ValueError(f"a delimiter is one character, got {delimiter!r}")
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=delimiter != "\t")
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell for cell in cells if cell] if delimiter == " " else cells


def delimiter_of(line: str, suffix: str) -> str:
    """The character between the cells of a line: a tab for .tsv, else the most frequent; a space if there is none."""
    delimiter = "\t" if suffix.lower() == ".tsv" else max(DELIMITERS, key=line.count)
    return " " if not line.count(delimiter) and are_numbers(line.split()) else delimiter


def names_of(path: Path, first: list[str], header: bool | None) -> tuple[list[str], bool]:
    """The names of the columns, and whether they are in the file."""
    cells = [cell.strip() for cell in first]
    numbers = sum(are_numbers([cell]) for cell in cells)
    if header is None and numbers and any(cell and not are_numbers([cell]) for cell in cells):
        raise ValueError(
            f"the first line of {path} holds numbers and texts ({', '.join(cells[:5])}): pass header=True if it names "
            "the columns, header=False if it is a row"
        )
    if not (numbers == 0 if header is None else header):
        return [str(at) for at in range(len(cells))], False
    cells[0] = cells[0].lstrip("# ")
    if twice := {name for name in cells if cells.count(name) > 1}:
        raise ValueError(f"{path} has several columns of one name: {', '.join(sorted(twice))}")
    return cells, True


def are_numbers(cells: Sequence[str]) -> bool:
    """Whether all cells are numbers, and there are any."""
    with suppress(ValueError):
        return bool([float(cell) for cell in cells])
    return False


def is_text(cell: str) -> bool:
    """Whether a cell holds a text: it is not empty, no number, and no number with a decimal comma."""
    return bool(cell.strip()) and not are_numbers([cell]) and not re.fullmatch(r"[-+]?[\d.]*,\d+", cell.strip())
