"""Tables of text (.csv, .tsv): columns of numbers as rows, and a column of class labels."""

from __future__ import annotations

import csv
import warnings
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from ..arguments import listed
from .array_files import Array
from .arrays import array_data
from .check import LABEL_NAMES
from .core import IN_MEMORY, Data

DELIMITERS = ",;\t|"
"""Characters between cells, in the order in which they are tried."""
INDEX_NAMES = ("", "Unnamed: 0", "index")
"""Names of a first column that may number the rows."""


@dataclass(frozen=True)
class TextTable:
    """The content of a table.

    Args:
        names: Names of the columns of numbers.
        numbers: Numbers (N, columns).
        labels: Labels as texts, or as numbers if all are; None without labels.
        label: Name of the column of labels, or None.
    """

    names: tuple[str, ...]
    numbers: Array
    labels: list[str] | Array | None
    label: str | None


def csv_file(
    path: str,
    /,
    *,
    columns: Sequence[str | int] | str | None = None,
    labels: str | int | bool | None = None,
    classes: int | None = None,
    header: bool | None = None,
    delimiter: str | None = None,
) -> Data:
    """Read a table of text, .csv or .tsv, as points or vectors.

    A fifth of the rows, at most 10000, is held out. The file has at most 512 MiB; larger tables are read as .npy.

    Args:
        path: The file.
        columns: Names of the columns of numbers, also as one text with commas. None: all columns except the labels,
            and except a first column without a name that numbers the rows.
        labels: Name of the column of class labels, which are whole numbers or texts. None: the first of "label",
            "labels", "target", "class" and "y" (not beside an "x") that holds such values. False: no labels.
        classes: Number of classes. None: the number of texts, or the largest label plus one.
        header: Whether the first line names the columns; otherwise they are called 0, 1, ... None: if none of its cells
            is a number.
        delimiter: The character between cells. None: a tab in .tsv; otherwise the most frequent of comma, semicolon,
            tab and bar in the first line, or spaces between numbers.

    Returns:
        The data set. Its recipe names the columns and the classes.

    Raises:
        ValueError: The file is too large or no text, lines have different numbers of cells, a cell is empty or no
            number, a column does not exist, or the labels are wrong.
    """
    where = Path(path)
    if where.stat().st_size > IN_MEMORY:
        raise ValueError(
            f"{path} has more than {IN_MEMORY // 2**20} MiB: save its numbers as .npy, which is not copied"
        )
    try:
        found = _table(where, columns, labels, header, delimiter)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a table of text in UTF-8: {error}") from None
    data = array_data(found.numbers, found.labels, where.name, classes=classes)
    chosen = {} if found.label is None else {"labels": found.label}
    named = {} if data.class_names is None else {"class_names": list(data.class_names)}
    return replace(data, recipe={"columns": list(found.names), **chosen, **named})


def _table(
    path: Path,
    columns: Sequence[str | int] | str | None,
    labels: str | int | bool | None,
    header: bool | None,
    delimiter: str | None,
) -> TextTable:
    """Read the table; see `csv_file`."""
    lines = _lines(path, delimiter)
    first = next(lines, None)
    if first is None:
        raise ValueError(f"{path} holds no rows")
    names, headed = _names(path, first[1], header)
    columns = _chosen(columns, names)
    labels = str(labels) if isinstance(labels, int) and not isinstance(labels, bool) else labels
    label = _label(path, names, columns, labels)
    for name in [*(columns or ()), *([] if label is None else [label])]:
        if name not in names:
            raise ValueError(f'{path} has no column "{name}", it has {", ".join(names)}')
    wanted = [name for name in names if name != label] if columns is None else list(columns)
    numbers, texts = _cells(path, chain(() if headed else (first,), lines), names, wanted, label)
    if not numbers.size:
        raise ValueError(f"{path} holds no numbers in {', '.join(wanted) or 'any column'}")
    values = texts if texts is None or not _are_numbers(texts) else np.array(texts, np.float64)
    if label is not None and not isinstance(labels, str) and isinstance(values, np.ndarray) and (values % 1).any():
        # a column with a usual name that holds real numbers is data
        place = sum(names.index(name) < names.index(label) for name in wanted)
        numbers, wanted = np.insert(numbers, place, values, 1), [*wanted[:place], label, *wanted[place:]]
        label = values = None
    if columns is None and wanted[0] in INDEX_NAMES:
        wanted, numbers = _without_index(path, wanted, numbers)
    return TextTable(tuple(wanted), numbers, values, label)


def _chosen(columns: Sequence[str | int] | str | None, names: list[str]) -> list[str] | None:
    """The names of columns that are given as a list, or as a text such as "height, weight"."""
    if isinstance(columns, str) and columns not in names:
        columns = listed(columns)
    if isinstance(columns, str | int):
        columns = [columns]
    return None if columns is None else [str(name) for name in columns]


def _cells(
    path: Path, lines: Iterable[tuple[int, list[str]]], names: list[str], wanted: list[str], label: str | None
) -> tuple[Array, list[str] | None]:
    """The numbers of the wanted columns, and the cells of the column of labels."""
    places = [names.index(name) for name in wanted]
    at = None if label is None else names.index(label)
    values, texts = array("d"), []
    for number, cells in lines:
        if len(cells) != len(names):
            raise ValueError(f"line {number} of {path} has {len(cells)} cells, and the first has {len(names)}")
        values.extend([_number(cells[place], names[place], number, path) for place in places])
        if at is not None:
            texts.append(cells[at].strip())
    numbers = np.frombuffer(values, np.float64).reshape(-1, len(wanted)) if values else np.empty((0, 1))
    return numbers, None if label is None else texts


def _lines(path: Path, delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of every line that is not empty."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        start = next((line for line in file if line.strip()), "")
        file.seek(0)
        if delimiter is None:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else max(DELIMITERS, key=start.count)
            if not start.count(delimiter) and _are_numbers(start.split()):
                delimiter = " "
        if len(delimiter) != 1:
            raise ValueError(f"a delimiter is one character, got {delimiter!r}")
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=delimiter != "\t")
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell for cell in cells if cell] if delimiter == " " else cells


def _names(path: Path, first: list[str], header: bool | None) -> tuple[list[str], bool]:
    """The names of the columns, and whether they are in the file."""
    cells = [cell.strip() for cell in first]
    numbers = sum(_are_numbers([cell]) for cell in cells)
    if header is None and numbers and any(cell and not _are_numbers([cell]) for cell in cells):
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


def _label(path: Path, names: list[str], columns: Sequence[str] | None, labels: str | bool | None) -> str | None:
    """The column of labels: the requested one, or the first with a usual name."""
    if isinstance(labels, str) or labels is False:
        return labels or None
    lower = {name.lower(): name for name in reversed(names) if name not in (columns or ())}
    usual = [
        lower[name] for name in LABEL_NAMES if name in lower and not (name == "y" and "x" in map(str.lower, names))
    ]
    if labels is True and not usual:
        raise ValueError(f"labels=True, and {path} has no column {', '.join(LABEL_NAMES)} but {', '.join(names)}")
    return usual[0] if usual else None


def _number(cell: str, name: str, line: int, path: Path) -> float:
    """A cell as a number. Raises ValueError for an empty cell and for text."""
    try:
        return float(cell)
    except ValueError:
        about = f'line {line} of {path} has no number in column "{name}"'
        if not cell.strip():
            raise ValueError(f"{about}, the cell is empty: fill it, or leave out the row") from None
        raise ValueError(
            f'{about} but {cell!r}: pass labels="{name}" if the column holds classes, or columns=[NAMES] without it; '
            "numbers have a decimal point"
        ) from None


def _are_numbers(cells: Sequence[str]) -> bool:
    """Whether all cells are numbers, and there are any."""
    with suppress(ValueError):
        return bool([float(cell) for cell in cells])
    return False


def _without_index(path: Path, names: list[str], numbers: Array) -> tuple[list[str], Array]:
    """The columns without a first one that numbers the rows from 0 or 1."""
    column = numbers[:, 0]
    if (
        len(names) < 2
        or len(column) < 2
        or not np.array_equal(column, np.arange(len(column)) + column[0])
        or column[0] not in (0, 1)
    ):
        return names, numbers
    warnings.warn(
        f'the first column of {path}, "{names[0]}", numbers the rows and is left out: pass columns=[NAMES] to choose',
        stacklevel=5,
    )
    return names[1:], numbers[:, 1:]


def write_csv(path: Path, x: Array, names: Sequence[str], label: tuple[str, Sequence[object]] | None = None) -> None:
    """Write rows as a table with a line of names.

    Args:
        path: The file; a tab separates the cells of a .tsv.
        x: Rows (N, D).
        names: Names of the D columns.
        label: Name and values of a last column, or None.
    """
    digits = ".9g" if x.dtype == np.float32 else ".17g"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", lineterminator="\n")
        writer.writerow([*names, *([] if label is None else [label[0]])])
        for at, row in enumerate(x.tolist()):
            writer.writerow([*(format(value, digits) for value in row), *([] if label is None else [label[1][at]])])
