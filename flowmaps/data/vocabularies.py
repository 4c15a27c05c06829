"""Vocabularies: the tokens of a text, as characters, as bytes, or by a tokenizer of Hugging Face."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..arguments import expect_tensor, install, shown

HUB = "hf:"
"""Start of the name of a tokenizer of Hugging Face."""
LETTERS = "abcdefghijklmnopqrstuvwxyz "
"""The symbols of `letters_only`."""
PADDING = "\n"
"""The character that fills rows up to their length: it occurs in no line."""


class Vocabulary(ABC):
    """Tokens 0..K-1 and their texts.

    `encode` and `decode` convert between texts and tokens. The config.json of a run holds the vocabulary of its data,
    so that samples become texts without the data.
    """

    @property
    @abstractmethod
    def size(self) -> int:
        """Number K of tokens."""

    @property
    def padding(self) -> int | None:
        """The token that fills rows up to their length; None without one."""
        return None

    @abstractmethod
    def encode(self, text: str) -> Tensor:
        """Tokens (L,) of a text, int64.

        Raises:
            ValueError: The text has parts that are no tokens; the message counts them and shows the first.
        """

    @abstractmethod
    def text_of(self, tokens: Sequence[int]) -> str:
        """Text of some tokens."""

    def decode(self, x: Tensor) -> list[str]:
        """Texts of rows.

        Args:
            x: Rows (B, L, K), where each position counts as its largest entry; or tokens (B, L), whole numbers.

        Returns:
            One text for each row, without padding at its end.

        Raises:
            ValueError: The rows have another shape.
        """
        tokens = tokens_of(x, self.size)
        return [self.text_of(self._without_padding(row)) for row in tokens.tolist()]

    def _without_padding(self, row: list[int]) -> list[int]:
        """The tokens of a row up to the padding at its end."""
        end = len(row)
        while end and row[end - 1] == self.padding:
            end -= 1
        return row[:end]


def tokens_of(x: Tensor, size: int | None = None) -> Tensor:
    """Convert rows to tokens.

    Args:
        x: Rows (B, L, K), where each position counts as its largest entry; or tokens (B, L), whole numbers.
        size: Number K of tokens. None: not checked.

    Returns:
        Tokens (B, L), int64.

    Raises:
        ValueError: The rows have another shape.
    """
    expect_tensor("x", x)
    is_rows = x.is_floating_point() and x.ndim == 3 and size in (None, x.shape[-1])
    if not is_rows and (x.ndim != 2 or x.is_floating_point() or x.dtype == torch.bool):
        expected = "(B, L, K)" if size is None else f"(B, L, {size})"
        raise ValueError(
            f"expected rows {expected} of numbers or tokens (B, L) of whole numbers, got {x.dtype} of shape "
            f"{tuple(x.shape)}"
        )
    return x.argmax(-1) if is_rows else x.long()


def one_hot(tokens: Tensor, size: int) -> Tensor:
    """Make one-hot rows (..., L, K) in the default dtype of tokens (..., L)."""
    rows = torch.zeros(*tokens.shape, size, device=tokens.device)
    return rows.scatter_(-1, tokens.long()[..., None], 1)


@dataclass(frozen=True)
class Characters(Vocabulary):
    r"""Characters as tokens.

    Args:
        symbols: The characters in the order of their tokens, each once.
        padded: Whether the last symbol is padding, a line feed.

    Raises:
        ValueError: A character occurs twice, or there are fewer than two.
    """

    symbols: str
    padded: bool = False

    def __post_init__(self) -> None:
        twice = [symbol for symbol, count in Counter(self.symbols).items() if count > 1]
        if twice or len(self.symbols) < 2:
            found = f"{twice[0]!r} is there twice" if twice else f"got {self.symbols!r}"
            raise ValueError(f"a vocabulary is at least two different symbols, and {found}")
        if self.padded and self.symbols[-1] != PADDING:
            raise ValueError(f"the padding of a vocabulary is a line feed at its end, got {self.symbols[-1]!r}")

    @property
    def size(self) -> int:
        """Number K of characters."""
        return len(self.symbols)

    @property
    def padding(self) -> int | None:
        """The token that fills rows up to their length; None without one."""
        return self.size - 1 if self.padded else None

    def encode(self, text: str) -> Tensor:
        """Tokens of a text, one for each character."""
        unknown = sorted(set(text) - set(self.symbols), key=text.index)
        if unknown:
            count = sum(text.count(symbol) for symbol in unknown)
            raise ValueError(
                f"{count} of {len(text)} characters are none of the {self.size} symbols {self.symbols!r}, the first "
                f"{unknown[0]!r} at {text.index(unknown[0])}"
            )
        return _looked_up(text, {ord(symbol): token for token, symbol in enumerate(self.symbols)})

    def text_of(self, tokens: Sequence[int]) -> str:
        """Text of some tokens."""
        return "".join(self.symbols[token] for token in tokens)


def _looked_up(text: str, tokens: dict[int, int]) -> Tensor:
    """The tokens of code points, by a table."""
    points = torch.frombuffer(bytearray(text.encode("utf-32-le")), dtype=torch.int32) if text else torch.empty(0)
    table = torch.zeros(max(tokens) + 1, dtype=torch.int64)
    table[list(tokens)] = torch.tensor(list(tokens.values()))
    return table[points.long()]


@dataclass(frozen=True)
class Bytes(Vocabulary):
    """Bytes as tokens.

    Args:
        values: The bytes in the order of their tokens, 0..255, each once.

    Raises:
        ValueError: A byte occurs twice or is out of range, or there are fewer than two.
    """

    values: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if len(set(self.values)) != len(self.values) or len(self.values) < 2 or not set(self.values) <= set(range(256)):
            raise ValueError(
                f"a vocabulary of bytes is at least two different numbers 0..255, got {shown(self.values)}"
            )

    @property
    def size(self) -> int:
        """Number K of bytes."""
        return len(self.values)

    def encode(self, text: str) -> Tensor:
        """Tokens of a text, one for each byte in UTF-8."""
        return self.encode_bytes(text.encode())

    def encode_bytes(self, content: bytes) -> Tensor:
        """Tokens (L,) of bytes, int64."""
        unknown = [value for value in sorted(set(content)) if value not in self.values]
        if unknown:
            count, first = sum(map(content.count, unknown)), min(map(content.index, unknown))
            raise ValueError(
                f"{count} of {len(content)} bytes are none of the {self.size} of this vocabulary, the first "
                f"0x{content[first]:02x} at {first}"
            )
        table = torch.zeros(256, dtype=torch.int64)
        table[list(self.values)] = torch.arange(self.size)
        return table[torch.frombuffer(bytearray(content), dtype=torch.uint8).long()] if content else table[:0]

    def text_of(self, tokens: Sequence[int]) -> str:
        """Text of some tokens; bytes that are no UTF-8 become U+FFFD."""
        return bytes(self.values[token] for token in tokens).decode("utf-8", errors="replace")


@dataclass(frozen=True)
class Tokenizer(Vocabulary):
    """The tokens of a tokenizer of Hugging Face that occur in a text, numbered anew.

    Args:
        name: Name of the tokenizer, or its folder. It is read from the local cache alone.
        ids: Ids of the tokenizer in the order of the tokens, each once.

    Attributes:
        tokenizer: The tokenizer. None: it is read when it is needed.

    Raises:
        ValueError: An id occurs twice, or there are fewer than two.
    """

    name: str
    ids: tuple[int, ...]
    tokenizer: Any = field(default=None, repr=False, compare=False, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(self.ids))
        if len(set(self.ids)) != len(self.ids) or len(self.ids) < 2:
            raise ValueError(f"a vocabulary is at least two different ids of a tokenizer, got {shown(self.ids)}")

    @classmethod
    def of(cls, tokenizer: Any, ids: Sequence[int]) -> Tokenizer:
        """Make the vocabulary of some ids of a tokenizer object."""
        made = cls(str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__), tuple(ids))
        object.__setattr__(made, "tokenizer", tokenizer)
        return made

    @property
    def size(self) -> int:
        """Number K of tokens."""
        return len(self.ids)

    @cached_property
    def read(self) -> Any:
        """The tokenizer."""
        return self.tokenizer or tokenizer_named(self.name, local_files_only=True)

    def encode(self, text: str) -> Tensor:
        """Tokens of a text."""
        found, token = ids_of(self.read, text), {number: token for token, number in enumerate(self.ids)}
        unknown = [number for number in found if number not in token]
        if unknown:
            raise ValueError(
                f"{len(unknown)} of {len(found)} tokens are none of the {self.size} of this vocabulary, the first "
                f"{self.read.decode([unknown[0]])!r}"
            )
        return torch.tensor([token[number] for number in found], dtype=torch.int64)

    def text_of(self, tokens: Sequence[int]) -> str:
        """Text of some tokens."""
        return str(self.read.decode([self.ids[token] for token in tokens]))


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text by a tokenizer of transformers or tokenizers, without special tokens."""
    found = tokenizer.encode(text, add_special_tokens=False)
    return list(getattr(found, "ids", found))


def tokenizer_named(name: str, local_files_only: bool = False) -> Any:
    """Load a tokenizer of Hugging Face.

    Args:
        name: Its name or folder.
        local_files_only: Whether nothing is downloaded.

    Returns:
        The tokenizer.

    Raises:
        ImportError: transformers is not installed.
        ValueError: There is no such tokenizer.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ImportError(f"tokenizers of Hugging Face need transformers: {install('diffusers')}") from error
    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=local_files_only)
    except (OSError, ValueError) as error:
        raise ValueError(f"the tokenizer {name!r} cannot be read: {str(error).splitlines()[0]}") from error


def letters_only(text: str) -> str:
    """Fold a text to a-z and single spaces, as the text8 corpus is: lower case, and all else becomes one space."""
    kept = "".join(symbol if symbol in LETTERS else " " for symbol in text.lower())
    return " ".join(kept.split())
