"""Texts that belong to rows: captions beside images, lines of a file, and what an encoder made of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from .tables import Table

METADATA, CAPTIONS = "metadata.jsonl", "captions.txt"
TEXT_NAMES = ("text", "caption", "prompt", "captions", "txt")
"""What the column of texts is called, where nobody says it."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """The texts that rows may have, each once; `index` (N,) is the number of each row's text, where rows have one.
    table: what an encoder made of each text, by the names of conditions; empty before.
    """

    texts: Sequence[str]
    index: Tensor | None = None
    table: Table = field(default_factory=lambda: Table(()))

    @classmethod
    def of_rows(cls, texts: Sequence[str]) -> Prompts:
        """One text for each row, in order."""
        known = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        return cls(list(known), torch.tensor([known[text] for text in texts]))

    def __len__(self) -> int:
        """Of rows, where rows have texts, else of texts."""
        return len(self.table if self.index is None else self.index)

    def take(self, rows: Tensor) -> dict[str, Tensor]:
        """What the texts of these rows were made into, by their numbers (B,)."""
        return self.table.take(rows if self.index is None else self.index[rows])

    def conditions(self, text: str, rows: int = 1) -> dict[str, Tensor]:
        """What a text was made into, (rows, ...) each: `flow.given(**data.prompts.conditions("a red cube", 4))`. Raises
        ValueError for a text that is not among these, and before they are encoded.
        """
        if not len(self.table):
            raise ValueError("these texts are not encoded yet: flowmaps.integrations.diffusers.cache.cached does it")
        if text not in self.texts:
            raise ValueError(f"the text {text!r} is none of the {len(self.texts)} that were encoded")
        return self.table.take(torch.full((rows,), self.texts.index(text)))


def read_lines(path: str | Path) -> list[str]:
    """The texts of a file, one to a line; empty lines are texts too, but for the last. Raises FileNotFoundError where
    there is no such file, ValueError for one that is empty or no text.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file: {error}") from None
    lines = [line.strip() for line in (lines[:-1] if lines[-1] == "" else lines)]
    if not lines:
        raise ValueError(f"{path} holds no texts: it needs one to a line")
    return lines


def captions_of(root: Path, files: Sequence[Path]) -> list[str]:
    """The text of each image file below `root`: from metadata.jsonl (lines with "file_name" and "text", as `datasets`
    has it) in its folder or one above, else from captions.txt there (file name, a tab, text), else from the file of
    the image's name that ends in .txt. Raises ValueError where some have none, naming the first.
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
    """The folders of a file, from the outermost, so that an inner one has the last word."""
    return reversed([parent for parent in file.parents if parent == root or root in parent.parents])


def _beside(file: Path) -> str | None:
    text = file.with_suffix(".txt")
    return text.read_text(encoding="utf-8").strip() if text.is_file() else None


def _tabbed(path: Path) -> Iterable[tuple[str, str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        name, tab, text = line.partition("\t")
        if not tab:
            raise ValueError(f"line {number} of {path} must be a file name, a tab and a text, got {line!r}")
        yield name, text.strip()


def _json_lines(path: Path) -> Iterable[tuple[str, str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            yield row["file_name"], next(row[name] for name in TEXT_NAMES if isinstance(row.get(name), str))
        except (ValueError, TypeError, KeyError, StopIteration, AttributeError):
            raise ValueError(
                f'line {number} of {path} must be JSON with "file_name" and "text", got {line!r}'
            ) from None
