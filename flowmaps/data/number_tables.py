"""Tables of numbers for points on manifolds: files with comments and headings, and arrays."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ..arguments import listed, shown
from .coordinates import columns_named
from .core import IN_MEMORY
from .csv_files import INDEX_NAMES
from .csv_lines import DELIMITERS, are_numbers, delimiter_of

COMMENT = "#"
"""First character of a line that is left out."""
MEASURED = 1000
"""Number of rows by which columns of numbers are told from columns of texts."""


@dataclass(frozen=True, eq=False)
class NumberTable:
    """Columns of numbers.

    Args:
        numbers: The numbers (N, columns), float64.
        where: Name of the source in messages.
        columns: Names of the columns in the file, or their numbers as texts. Empty: an array.
        headed: Whether the columns have names.
        lines: Line of each row in its file. None: an array, whose rows are counted from 0.
    """

    numbers: Tensor
    where: str
    columns: tuple[str, ...] = ()
    headed: bool = False
    lines: Sequence[int] | None = None

    def refuse(self, wrong: Tensor, what: str, advice: str = "") -> None:
        """Refuse rows.

        Args:
            wrong: Boolean mask (N,) of wrong rows.
            what: Verb and object of the message.
            advice: Its end, after a colon.

        Raises:
            ValueError: Some rows are wrong; the message has their number and the first.
        """
        if not bool(wrong.any()):
            return
        first = int(wrong.nonzero()[0])
        place = f"row {first}" if self.lines is None else f"line {self.lines[first]}"
        values = ", ".join(f"{value:g}" for value in self.numbers[first].tolist())
        count = int(wrong.sum())
        verb = what if count > 1 else what.replace("have ", "has ", 1).replace("hold ", "holds ", 1)
        raise ValueError(
            f"{count} of the {len(wrong)} rows of {self.where} {verb}, the first in {place} ({values})"
            + (f": {advice}" if advice else "")
        )


def table_of(source: Any, columns: Sequence[str | int] | str | None, usual: Usual) -> NumberTable:
    """Read numbers from a file or an array.

    Args:
        source: Path of a file of text, also .gz, or an array (N, columns).
        columns: Names of the columns, or their numbers in a file without a heading. None: chosen by `usual`.
        usual: Chooses columns.

    Returns:
        The table; all its numbers are finite.

    Raises:
        TypeError: The source is neither.
        ValueError: There are no rows, lines have different numbers of cells, a column does not exist or none can be
            chosen, or a row holds no number or one that is not finite.
    """
    table = _file(Path(source).expanduser(), columns, usual) if isinstance(source, str | Path) else _array(source)
    if columns is not None and table.lines is None:
        raise ValueError(f"columns are chosen in a file; {table.where} has its own")
    if not len(table.numbers):
        raise ValueError(f"{table.where} holds no rows")
    table.refuse(~table.numbers.isfinite().all(1), "hold NaN, infinite or missing numbers", "leave these rows out")
    return table


@dataclass(frozen=True)
class Usual:
    """The choice of columns that are not named.

    Args:
        names: Usual names of each wanted column. Empty: all columns of numbers are wanted.
        words: The wanted columns in words.
    """

    names: tuple[tuple[str, ...], ...]
    words: str

    def choose(self, names: Sequence[str], numeric: Sequence[str], headed: bool, where: str) -> list[str]:
        """Choose columns.

        Args:
            names: Names of all columns.
            numeric: Names of the columns of numbers.
            headed: Whether the file has a heading.
            where: The file.

        Returns:
            Their names.

        Raises:
            ValueError: There are too few columns of numbers, or the heading has none of the usual names.
        """
        found = columns_named(names, self.names) if headed and self.names else []
        if not found and headed and self.names:
            raise ValueError(
                f"the heading of {where} names no {self.words}, but {', '.join(names)}: pass columns=[NAMES]"
            )
        plain = [name for name in numeric if name not in INDEX_NAMES]
        found = found or plain[: len(self.names) or None]
        if not found or len(found) < len(self.names):
            raise ValueError(f"{where} has too few columns of numbers for {self.words}: {', '.join(plain) or 'none'}")
        return found


def _file(path: Path, columns: Sequence[str | int] | str | None, usual: Usual) -> NumberTable:
    """Read the columns of a file."""
    lines, cells, comment = _lines(path)
    if not cells:
        raise ValueError(f"{path} holds no rows")
    names, headed = [str(at) for at in range(len(cells[0]))], not any(are_numbers([cell]) for cell in cells[0])
    if headed:
        names, lines, cells = [cell.strip() for cell in cells[0]], lines[1:], cells[1:]
    elif len(comment) == len(names) and not any(are_numbers([cell]) for cell in comment):
        named = columns_named(comment, usual.names) if usual.names else comment
        names, headed = (comment, True) if named and len(set(comment)) == len(comment) else (names, False)
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{path} has several columns of one name: {', '.join(sorted(twice))}")
    for line, row in zip(lines, cells, strict=True):
        if len(row) != len(names):
            raise ValueError(f"line {line} of {path} has {len(row)} cells, and the first has {len(names)}")
    numeric = [name for at, name in enumerate(names) if _is_numeric([row[at] for row in cells[:MEASURED]])]
    chosen = _chosen(columns, names, path) or usual.choose(names, numeric, headed, str(path))
    places = [names.index(name) for name in chosen]
    numbers = [[_number(row[place]) for place in places] for row in cells]
    found = torch.tensor(numbers, dtype=torch.float64).reshape(-1, len(chosen))
    return NumberTable(found, str(path), tuple(chosen), headed, lines)


def _lines(path: Path) -> tuple[list[int], list[list[str]], list[str]]:
    """The number of each line with cells, the cells, and the cells of the last comment above them."""
    opener: Callable[..., IO[str]] = gzip.open if path.suffix.lower() == ".gz" else open
    size, comment, kept = 0, "", list[tuple[int, str]]()
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline=None) as file:
            for number, line in enumerate(file, 1):
                size += len(line)
                if size > IN_MEMORY:
                    raise ValueError(f"{path} has more than {IN_MEMORY // 2**20} MiB of text: split it")
                if line.lstrip().startswith(COMMENT):
                    comment = comment if kept else line.strip().lstrip(COMMENT)
                elif line.strip():
                    kept.append((number, line))
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as a table of text in UTF-8: {error}") from None
    suffix = path.with_suffix("").suffix if path.suffix.lower() == ".gz" else path.suffix
    ends = [line for _, line in (*kept[:1], *kept[-1:])]  # a heading such as "lat lon" has no delimiter of its own
    delimiter = delimiter_of(
        next((line for line in ends if any(map(line.count, DELIMITERS))), "".join(ends[1:])), suffix
    )
    cells = [_cells(line, delimiter) for line in [*(line for _, line in kept), comment]]
    return [number for number, _ in kept], cells[:-1], [cell.strip() for cell in cells[-1]]


def _cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line."""
    if delimiter == " ":
        return line.split()
    return next(csv.reader([line.rstrip("\n")], delimiter=delimiter, skipinitialspace=delimiter != "\t"), [])


def _is_numeric(cells: Sequence[str]) -> bool:
    """Whether most cells of a column are numbers."""
    return 2 * sum(are_numbers([cell]) for cell in cells) > len(cells)


def _number(cell: str) -> float:
    """A cell as a number; NaN if it is none."""
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _chosen(columns: Sequence[str | int] | str | None, names: Sequence[str], path: Path) -> list[str]:
    """The names of columns that are given as a list, or as a text such as "lat, lon"."""
    if columns is None:
        return []
    found = listed(columns) if isinstance(columns, str) else [columns] if isinstance(columns, int) else columns
    chosen = [str(name) for name in found]
    for name in chosen:
        if name not in names:
            raise ValueError(f'{path} has no column "{name}", it has {", ".join(names)}')
    return chosen


def _array(source: Any) -> NumberTable:
    """The numbers of an array."""
    try:
        numbers = torch.as_tensor(source).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"points are the path of a file or an array (N, columns), got {shown(source)}: {error}"
        ) from None
    if numbers.ndim != 2 or numbers.is_complex() or numbers.dtype == torch.bool:
        raise ValueError(
            f"an array of points has shape (N, columns) and real numbers, got {numbers.dtype} of shape "
            f"{tuple(numbers.shape)}"
        )
    return NumberTable(numbers.double(), "the array")
