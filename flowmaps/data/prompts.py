"""Texts of rows: captions beside images, lines of a file, and their encodings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..files import parse_json
from .check import TEXT_NAMES
from .tables import TensorTable

METADATA, CAPTIONS = "metadata.jsonl", "captions.txt"


@dataclass(frozen=True, eq=False)
class Prompts:
    """Distinct texts, their rows and their encodings.

    Args:
        texts: The texts, each once.
        index: Number of the text of each row (N,). None: the texts belong to no rows.
        table: Encodings of the texts, one row for each, by the names of conditions. The default is empty: the texts
            are not encoded yet.
    """

    texts: Sequence[str]
    index: Tensor | None = None
    table: TensorTable = field(default_factory=lambda: TensorTable(()))

    @classmethod
    def of_rows(cls, texts: Sequence[str]) -> Prompts:
        """Make prompts from one text for each row, in order."""
        known = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        return cls(list(known), torch.tensor([known[text] for text in texts]))

    def __len__(self) -> int:
        """Number of rows if rows have texts, or else of encoded texts."""
        return len(self.table if self.index is None else self.index)

    def take(self, rows: Tensor) -> dict[str, Tensor]:
        """Encodings of the texts of the rows with these numbers (B,), as tensors (B, ...) by name."""
        return self.table.take(rows if self.index is None else self.index[rows])

    def conditions(self, text: str, rows: int = 1) -> dict[str, Tensor]:
        """Encoding of one text, repeated: `flow.given(**data.prompts.conditions("a red cube", 4))`.

        Args:
            text: One of the texts.
            rows: Number of repetitions.

        Returns:
            Tensors (rows, ...) by name.

        Raises:
            ValueError: The text is unknown, or the texts are not encoded yet.
        """
        if not len(self.table):
            raise ValueError("these texts are not encoded yet: flowmaps.integrations.diffusers.cache.cached does it")
        if text not in self.texts:
            raise ValueError(f"the text {text!r} is none of the {len(self.texts)} that were encoded")
        return self.table.take(torch.full((rows,), self.texts.index(text)))


def read_lines(path: str | Path) -> list[str]:
    """Read the texts of a file, one to a line. Empty lines are empty texts, except for the last.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is empty or is no text.
    """
    lines = _text(Path(path)).split("\n")
    lines = [line.strip() for line in (lines[:-1] if lines[-1] == "" else lines)]
    if not lines:
        raise ValueError(f"{path} holds no texts: it needs one to a line")
    return lines


def captions_of(root: Path, files: Sequence[Path]) -> list[str]:
    """Read the text of each image file.

    Sources in this order: metadata.jsonl (lines with "file_name" and "text", as in `datasets`) in the folder of the
    image or one above, captions.txt there (file name, a tab, text), a .txt file with the name of the image.

    Args:
        root: Folder of the data set.
        files: Image files below it.

    Returns:
        One text for each file.

    Raises:
        ValueError: An image has no text.
    """
    known: dict[Path, str] = {}
    for folder in dict.fromkeys(parent for file in files for parent in _up_to(root, file)):
        for name, read in ((CAPTIONS, _tabbed), (METADATA, _json_lines)):
            if (folder / name).is_file():
                known |= {folder / image: text for image, text in read(folder / name)}
    found = [known[file] if file in known else _beside(file) for file in files]
    missing = [file for file, text in zip(files, found, strict=True) if text is None]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(files)} images of {root} have no text, the first {missing[0].relative_to(root)}: "
            f'write them to {METADATA} ({{"file_name": ..., "text": ...}} on each line), or beside each image as .txt'
        )
    return [text for text in found if text is not None]


def _up_to(root: Path, file: Path) -> Iterable[Path]:
    """Folders of a file up to `root`, outermost first, so that inner ones take precedence."""
    return reversed([parent for parent in file.parents if parent == root or root in parent.parents])


def _beside(file: Path) -> str | None:
    """The text in the .txt file beside an image."""
    text = file.with_suffix(".txt")
    return _text(text).strip() if text.is_file() else None


def _text(path: Path) -> str:
    """The content of a text file."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file: {error}") from None


def _tabbed(path: Path) -> Iterable[tuple[str, str]]:
    """(file name, text) of each line of a file with tabs."""
    for number, line in enumerate(_text(path).splitlines(), 1):
        name, tab, text = line.partition("\t")
        if not tab:
            raise ValueError(f"line {number} of {path} must be a file name, a tab and a text, got {line!r}")
        yield name, text.strip()


def _json_lines(path: Path) -> Iterable[tuple[str, str]]:
    """(file name, text) of each line of a JSON lines file."""
    for number, line in enumerate(_text(path).splitlines(), 1):
        try:
            row = parse_json(line)
            yield row["file_name"], next(row[name] for name in TEXT_NAMES if isinstance(row.get(name), str))
        except (ValueError, TypeError, KeyError, StopIteration, AttributeError, RecursionError):
            raise ValueError(
                f'line {number} of {path} must be JSON with "file_name" and "text", got {line!r}'
            ) from None
