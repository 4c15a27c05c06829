"""Tables of text (.csv, .tsv): columns of numbers and categories as rows, and a column of class labels."""

from __future__ import annotations

import csv
import warnings
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import listed
from .array_files import Array
from .arrays import array_data
from .check import LABEL_NAMES
from .class_names import in_order
from .columns import Columns
from .core import IN_MEMORY, Data
from .csv_lines import are_numbers, is_text, lines_of, names_of

INDEX_NAMES = ("", "Unnamed: 0", "index")
"""Names of a first column that may number the rows."""
MOST_CATEGORIES = 1000
"""Largest number of categories of a column."""


@dataclass(frozen=True)
class TextTable:
    """The content of a table.

    Args:
        names: Names of the columns of numbers.
        numbers: Numbers (N, columns).
        texts: Texts of each column of categories, by its name.
        labels: Labels as texts, or as numbers if all are; None without labels.
        label: Name of the column of labels, or None.
    """

    names: tuple[str, ...]
    numbers: Array
    texts: dict[str, list[str]]
    labels: list[str] | Array | None
    label: str | None


def csv_file(
    path: str,
    /,
    *,
    columns: Sequence[str | int] | str | None = None,
    categories: Mapping[str, Sequence[str]] | Sequence[str | int] | str | None = None,
    labels: str | int | bool | None = None,
    classes: int | None = None,
    header: bool | None = None,
    delimiter: str | None = None,
) -> Data:
    """Read a table of text, .csv or .tsv, as points or vectors.

    A column of texts is a column of categories. A row has its D numbers first, and then a one-hot block of K entries
    for each column of K categories, (D + K_1 + K_2 + ...,); `Data.columns` names all entries.

    A fifth of the rows, at most 10000, is held out. The file has at most 512 MiB; larger tables are read as .npy.

    Args:
        path: The file.
        columns: Names of the columns of a row, also as one text with commas. None: all columns except the labels,
            and except a first column without a name that numbers the rows.
        categories: Names of columns whose cells are categories even if they are numbers, likewise; or the categories
            of each of them, in the order of their entries, as in {"kind": ["iris", "rose"]}. Without them, they are
            those of the file, in the order of the alphabet.
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
            number, a column does not exist, the labels are wrong, or a column of categories has one alone, one for each
            row, more than 1000, or an unknown one.
    """
    where = Path(path)
    if where.stat().st_size > IN_MEMORY:
        raise ValueError(
            f"{path} has more than {IN_MEMORY // 2**20} MiB: save its numbers as .npy, which is not copied"
        )
    try:
        found = _table(where, columns, categories, labels, header, delimiter)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a table of text in UTF-8: {error}") from None
    mixed, x = _mixed(where, found, categories)
    data = array_data(x, found.labels, where.name, classes=classes, kind=None if mixed is None else "vectors")
    recipe: dict[str, Any] = {"columns": list(found.names)}
    if mixed is not None:
        recipe["categories"] = {name: list(values) for name, values in mixed.categories}
    if found.label is not None:
        recipe["labels"] = found.label
    if data.class_names is not None:
        recipe["class_names"] = list(data.class_names)
    return replace(data, columns=mixed, recipe=recipe)


def _mixed(path: Path, table: TextTable, categories: object) -> tuple[Columns | None, Array]:
    """The columns of a table with categories, or None, and its rows."""
    if not table.texts:
        return None, table.numbers
    known = categories if isinstance(categories, Mapping) else {}
    found = tuple(
        (name, tuple(known[name] if name in known else _categories(texts, name, path)))
        for name, texts in table.texts.items()
    )
    columns = Columns(table.names, found)
    return columns, columns.encode(table.numbers, table.texts, str(path))


def _categories(texts: Sequence[str], name: str, path: Path) -> list[str]:
    """The categories of a column in their order. Raises ValueError for one alone, one for each row, and too many."""
    found = in_order(set(texts))
    if len(found) < 2:
        raise ValueError(
            f'column "{name}" of {path} holds {texts[0]!r} in every row: leave it out with columns=[NAMES]'
        )
    if len(found) == len(texts) or len(found) > MOST_CATEGORIES:
        raise ValueError(
            f'column "{name}" of {path} has {len(found)} different values in {len(texts)} rows, too many for '
            "categories, so it may be an identifier: leave it out with columns=[NAMES]"
        )
    return found


def _table(
    path: Path,
    columns: Sequence[str | int] | str | None,
    categories: Mapping[str, Sequence[str]] | Sequence[str | int] | str | None,
    labels: str | int | bool | None,
    header: bool | None,
    delimiter: str | None,
) -> TextTable:
    """Read the table; see `csv_file`."""
    lines = lines_of(path, delimiter)
    first = next(lines, None)
    if first is None:
        raise ValueError(f"{path} holds no rows")
    names, headed = names_of(path, first[1], header)
    first = next(lines, None) if headed else first
    columns = _chosen(columns, names)
    asked = _chosen(list(categories) if isinstance(categories, Mapping) else categories, names) or []
    labels = str(labels) if isinstance(labels, int) and not isinstance(labels, bool) else labels
    label = _label(path, names, [*(columns or ()), *asked], labels)
    for name in [*(columns or ()), *asked, *([] if label is None else [label])]:
        if name not in names:
            raise ValueError(f'{path} has no column "{name}", it has {", ".join(names)}')
    if label in asked:
        raise ValueError(f'column "{label}" of {path} cannot hold both the labels and categories')
    wanted = [name for name in names if name != label] if columns is None else list(columns)
    cells = {} if first is None else dict(zip(names, first[1], strict=False))
    texts = [*asked, *(name for name in wanted if name not in asked and is_text(cells.get(name, "")))]
    if not isinstance(categories, Mapping):
        texts.sort(key=names.index)
    rows = chain(() if first is None else (first,), lines)
    kept = [name for name in wanted if name not in texts]
    numbers, found = _cells(path, rows, names, kept, texts, label)
    if not len(numbers) or not (wanted or texts):
        raise ValueError(f"{path} holds no numbers in {', '.join(wanted) or 'any column'}")
    for name in texts:
        _check_texts(found[name], name, path, name in asked)
    cells_of_label = None if label is None else found.pop(label)
    values = np.array(cells_of_label, np.float64) if cells_of_label and are_numbers(cells_of_label) else cells_of_label
    if label is not None and not isinstance(labels, str) and isinstance(values, np.ndarray) and (values % 1).any():
        # a column with a usual name that holds real numbers is data
        place = sum(names.index(name) < names.index(label) for name in kept)
        numbers, kept = np.insert(numbers, place, values, 1), [*kept[:place], label, *kept[place:]]
        label = values = None
    if columns is None and kept and kept[0] in INDEX_NAMES and len(kept) + len(texts) > 1:
        kept, numbers = _without_index(path, kept, numbers)
    return TextTable(tuple(kept), numbers, found, values, label)


def _chosen(columns: Sequence[str | int] | str | None, names: list[str]) -> list[str] | None:
    """The names of columns that are given as a list, or as a text such as "height, weight"."""
    if isinstance(columns, str) and columns not in names:
        columns = listed(columns)
    if isinstance(columns, str | int):
        columns = [columns]
    return None if columns is None else [str(name) for name in columns]


def _cells(
    path: Path,
    lines: Iterable[tuple[int, list[str]]],
    names: list[str],
    wanted: list[str],
    texts: list[str],
    label: str | None,
) -> tuple[Array, dict[str, list[str]]]:
    """The numbers of the wanted columns, and the cells of columns of texts and of labels."""
    places = [names.index(name) for name in wanted]
    values = array("d")
    found: dict[str, list[str]] = {name: [] for name in [*texts, *([] if label is None else [label])]}
    others, count = [(name, names.index(name)) for name in found], 0
    for number, cells in lines:
        if len(cells) != len(names):
            raise ValueError(f"line {number} of {path} has {len(cells)} cells, and the first has {len(names)}")
        values.extend([_number(cells[place], names[place], number, path) for place in places])
        for name, place in others:
            found[name].append(_text(cells[place], name, number, path) if name != label else cells[place].strip())
        count += 1
    numbers = np.frombuffer(values, np.float64) if values else np.empty(0)
    return numbers.reshape(count, len(wanted)), found


def _text(cell: str, name: str, line: int, path: Path) -> str:
    """A cell as a category. Raises ValueError for an empty cell."""
    if not cell.strip():
        raise ValueError(
            f'line {line} of {path} has no category in column "{name}", the cell is empty: fill it, or leave out the '
            "row"
        )
    return cell.strip()


def _check_texts(texts: Sequence[str], name: str, path: Path, asked: bool) -> None:
    """Raise ValueError if a column that was not said to hold categories holds numbers too."""
    numbers = () if asked else [text for text in texts if not is_text(text)]
    if numbers:
        raise ValueError(
            f'column "{name}" of {path} holds numbers and texts, as {numbers[0]!r} and {texts[0]!r}: pass '
            f'categories="{name}" or labels="{name}" if they are classes, or columns=[NAMES] without it'
        )


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


def _without_index(path: Path, names: list[str], numbers: Array) -> tuple[list[str], Array]:
    """The columns without a first one that numbers the rows from 0 or 1."""
    column = numbers[:, 0]
    if len(column) < 2 or not np.array_equal(column, np.arange(len(column)) + column[0]) or column[0] not in (0, 1):
        return names, numbers
    warnings.warn(
        f'the first column of {path}, "{names[0]}", numbers the rows and is left out: pass columns=[NAMES] to choose',
        stacklevel=5,
    )
    return names[1:], numbers[:, 1:]


def write_csv(path: Path, x: Array, names: Sequence[str], others: Mapping[str, Sequence[object]] | None = None) -> None:
    """Write rows as a table with a line of names.

    Args:
        path: The file; a tab separates the cells of a .tsv.
        x: Rows (N, D).
        names: Names of the D columns.
        others: The N cells of each further column, by its name.
    """
    digits, others = ".9g" if x.dtype == np.float32 else ".17g", others or {}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", lineterminator="\n")
        writer.writerow([*names, *others])
        for at, row in enumerate(x.tolist()):
            writer.writerow([*(format(value, digits) for value in row), *(cells[at] for cells in others.values())])
