"""Text files as rows of tokens: windows of a running text, or one row for each line."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..arguments import at_least, did_you_mean, expect_path, shown, truth, within
from .core import IN_MEMORY, Data
from .sources import Finite, hold_out
from .token_rows import TokenRows, WindowRows, check_tokens, compact, token_data
from .vocabularies import (
    HUB,
    LETTERS,
    PADDING,
    Bytes,
    Characters,
    Tokenizer,
    Vocabulary,
    ids_of,
    letters_only,
    tokenizer_named,
)

PREFIX = "text:"
"""Start of the name of a text file for `load`."""
RowKind = Literal["windows", "lines"]


def text(
    path: str,
    /,
    length: int = 64,
    vocabulary: Any = "characters",
    *,
    rows: RowKind = "windows",
    stride: int = 1,
    held_out: float = 0.1,
    encoding: str = "utf-8",
    allow_unused: bool = False,
) -> Data:
    """Read a text file, .txt or .gz, as rows of tokens, whose rows x_0 are one-hot, (L, K).

    The rows are windows of the text, or its lines. Of windows, a region at the end of the text is held out, and no
    window lies across its border; of lines, a random fifth is held out, at most 10000. The text is kept as whole
    numbers, at most 512 MiB; batches are made one-hot.

    Args:
        path: The file.
        length: Number L of tokens of a row.
        vocabulary: The tokens: "characters" of the text; "letters", a to z and the space, to which the text is folded
            as the text8 corpus is; "bytes" of the text; "hf:NAME" or an object, a tokenizer of Hugging Face, of whose
            tokens those that occur are numbered anew; a string of all symbols; or the vocabulary of another data set.
        rows: "windows", or "lines" for lists of words: one row for each line that is not empty, filled with line feeds.
        stride: Distance of the starts of neighbouring windows.
        held_out: Share of the text that is held out, of windows. 0: none.
        encoding: Encoding of the file.
        allow_unused: Whether symbols that are given may be missing in the text.

    Returns:
        The data set, with its `vocabulary`.

    Raises:
        ValueError: The file is too large, too short, not in this encoding, has characters outside of the vocabulary,
            lacks some symbols, or has lines that are longer than the length.
    """
    expect_path("path", path)
    at_least(1, length=length, stride=stride)
    within(0, 1, held_out=held_out)
    truth(allow_unused=allow_unused)
    if rows not in get_args(RowKind):
        raise ValueError(f"`rows` must be windows or lines, got {shown(rows)}{did_you_mean(rows, get_args(RowKind))}")
    where, padded = Path(path).expanduser(), rows == "lines"
    content = _content(where)
    known: Vocabulary
    if vocabulary == "bytes" or isinstance(vocabulary, (Bytes, list, tuple)):
        known, tokens = _of_bytes(content, vocabulary, where, padded)
    else:
        string = _filled(_decoded(content, encoding, where), length, where, padded, folded=vocabulary == "letters")
        known, tokens = _of_text(string, vocabulary, where, padded)
    check_tokens(tokens, known.size, str(path), allow_unused or isinstance(vocabulary, Vocabulary))
    tokens = compact(tokens, known.size)
    if padded:
        source = hold_out(TokenRows(tokens.reshape(-1, length), known.size))
    else:
        source = _windows(tokens, known.size, length, stride, held_out, where)
    options = {"rows": rows, "stride": stride, "held_out": held_out, "encoding": encoding, "allow_unused": allow_unused}
    recipe = _recipe(vocabulary, known, {"name_or_path": f"{PREFIX}{where.resolve()}", "length": length, **options})
    return token_data(where.name.split(".")[0] or where.name, source, length, known.size, known, recipe=recipe)


def _content(path: Path) -> bytes:
    """The bytes of a file of limited size, unpacked if its name ends in .gz."""
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            content = file.read(IN_MEMORY + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be unpacked: {error}") from None
    if len(content) > IN_MEMORY:
        raise ValueError(f"{path} has more than {IN_MEMORY // 2**20} MiB of text: split it")
    if not content.strip():
        raise ValueError(f"{path} holds no text")
    return content


def _decoded(content: bytes, encoding: str, path: Path) -> str:
    """The text of a file, with line feeds at the ends of lines."""
    try:
        string = content.decode(encoding)
    except LookupError:
        raise ValueError(f"there is no encoding {shown(encoding)}") from None
    except UnicodeDecodeError as error:
        count = _undecodable(content, encoding)
        raise ValueError(
            f"{path} is not in {encoding}: {count} of its {len(content)} bytes are wrong, the first "
            f'0x{content[error.start]:02x} at offset {error.start}. Name its encoding, such as encoding="latin-1", or '
            'take vocabulary="bytes"'
        ) from None
    return string.removeprefix("\ufeff").replace("\r\n", "\n")


def _undecodable(content: bytes, encoding: str) -> int:
    """Number of bytes that an encoding cannot read."""
    string = content.decode(encoding, errors="surrogateescape")
    return sum("\udc80" <= symbol <= "\udcff" for symbol in string)


def _filled(string: str, length: int, path: Path, padded: bool, folded: bool) -> str:
    """The text, folded to letters; of lines, all of one length, one after another."""
    if not padded and not (string := letters_only(string) if folded else string):
        raise ValueError(f"{path} holds no letters")
    if not padded:
        return string
    lines = [letters_only(line) if folded else line for line in string.split("\n")]
    lines = [line for line in lines if line]
    longest = max(lines, key=len, default="")
    if not lines:
        raise ValueError(f"{path} holds no lines with text")
    if len(longest) > length:
        count = sum(len(line) > length for line in lines)
        raise ValueError(
            f"{count} of the {len(lines)} lines of {path} have more than {length} characters, the longest "
            f"{len(longest)}: pass length={len(longest)}"
        )
    return "".join(line.ljust(length, PADDING) for line in lines)


def _of_text(string: str, vocabulary: Any, path: Path, padded: bool) -> tuple[Vocabulary, Tensor]:
    """The vocabulary of a text, and its tokens (T,)."""
    if isinstance(vocabulary, str) and vocabulary.startswith(HUB):
        vocabulary = tokenizer_named(vocabulary.removeprefix(HUB))
    if padded and not isinstance(vocabulary, (str, Characters)):
        raise ValueError('rows="lines" needs a vocabulary of characters, which has a symbol to fill lines with')
    if isinstance(vocabulary, str):
        symbols = {
            "characters": "".join(sorted(set(string) - {PADDING} if padded else set(string))),
            "letters": LETTERS,
        }
        vocabulary = Characters(symbols.get(vocabulary, vocabulary) + (PADDING if padded else ""), padded)
    elif not isinstance(vocabulary, Vocabulary):
        if not callable(getattr(vocabulary, "encode", None)):
            raise TypeError(
                'a vocabulary is "characters", "letters", "bytes", "hf:NAME", a string of symbols, a tokenizer, or the '
                f"vocabulary of another data set, got {shown(vocabulary)}"
            )
        ids = torch.tensor(ids_of(vocabulary, string))
        found, tokens = ids.unique(return_inverse=True)
        return Tokenizer.of(vocabulary, found.tolist()), tokens
    try:
        return vocabulary, vocabulary.encode(string)
    except ValueError as error:
        raise ValueError(f"{path} does not fit the vocabulary: {error}") from None


def _of_bytes(content: bytes, vocabulary: Any, path: Path, padded: bool) -> tuple[Bytes, Tensor]:
    """The vocabulary of the bytes of a file, and its tokens (T,)."""
    if padded:
        raise ValueError('rows="lines" needs a vocabulary of characters, which has a symbol to fill lines with')
    known = (
        vocabulary
        if isinstance(vocabulary, Bytes)
        else Bytes(tuple(sorted(set(content)) if vocabulary == "bytes" else vocabulary))
    )
    try:
        return known, known.encode_bytes(content)
    except ValueError as error:
        raise ValueError(f"{path} does not fit the vocabulary: {error}") from None


def _windows(tokens: Tensor, size: int, length: int, stride: int, share: float, path: Path) -> Finite:
    """The windows of a text; a region at its end is held out."""
    kept = max(round(share * len(tokens)), length) if share else 0
    if len(tokens) - kept < length:
        held = f", beside {kept} that are held out" if kept else ""
        raise ValueError(
            f"{path} has {len(tokens)} tokens{held}, too few for a window of {length}: pass a shorter length"
        )
    parts = (tokens[: len(tokens) - kept], tokens[len(tokens) - kept :])
    train, test = (WindowRows(part, size, length, stride) if len(part) else None for part in parts)
    assert train is not None
    return Finite(train, test)


def _recipe(given: Any, known: Vocabulary, options: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments that read the text again with the same tokens; None if they are no JSON."""
    if isinstance(given, str) and (given == "letters" or given.startswith(HUB)):
        return {**options, "vocabulary": given}
    if isinstance(known, Characters):
        return {**options, "vocabulary": known.symbols.removesuffix(PADDING) if known.padded else known.symbols}
    return {**options, "vocabulary": list(known.values)} if isinstance(known, Bytes) else None
