"""Rows of tokens, kept as whole numbers and made one-hot batch by batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..arguments import MOST_CLASSES, MOST_VALUES, between, given, shown, truth
from .core import Batch, Data
from .sources import Finite, hold_out
from .text_labels import labels_and_names
from .vocabularies import Vocabulary, one_hot


@dataclass(frozen=True, eq=False)
class TokenRows:
    """A table of rows of tokens.

    Args:
        tokens: Tokens (N, L), whole numbers below `size`.
        size: Number K of tokens.
        label: Labels (N,), int64.
    """

    tokens: Tensor
    size: int
    label: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, index: Tensor) -> Batch:
        """One-hot rows (B, L, K) by number, as in `sources.IndexedRows`."""
        return Batch(one_hot(self.tokens[index], self.size), None if self.label is None else self.label[index])


@dataclass(frozen=True, eq=False)
class WindowRows:
    """A table of the windows of a sequence of tokens.

    Args:
        tokens: The sequence (T,), whole numbers below `size`.
        size: Number K of tokens.
        length: Number L of tokens in a window.
        stride: Distance of the starts of neighbouring windows.
    """

    tokens: Tensor
    size: int
    length: int
    stride: int = 1

    def __len__(self) -> int:
        return (len(self.tokens) - self.length) // self.stride + 1

    def take(self, index: Tensor) -> Batch:
        """One-hot rows (B, L, K) by number, as in `sources.IndexedRows`."""
        places = index[:, None] * self.stride + torch.arange(self.length)
        return Batch(one_hot(self.tokens[places], self.size))


def tokens(
    ids: Any,
    K: int | None = None,  # noqa: N803
    *,
    label: Any = None,
    classes: int | None = None,
    vocabulary: Vocabulary | None = None,
    allow_unused: bool = False,
) -> Data:
    """Make a data set of rows of tokens, whose rows x_0 are one-hot, (L, K).

    A fifth of the rows, at most 10000, is held out. The rows are kept as whole numbers; batches are made one-hot.

    Args:
        ids: Tokens (N, L), whole numbers 0..K-1, as a tensor, an array or a list of lists.
        K: Number of tokens. None: the size of the vocabulary, or the largest token plus one.
        label: Class labels (N,), or None.
        classes: Number of classes. None: the largest label plus one.
        vocabulary: Texts of the tokens. None: tokens are numbers without texts.
        allow_unused: Whether some of the K tokens may occur in no row.

    Returns:
        The data set.

    Raises:
        TypeError: The tokens are no whole numbers.
        ValueError: There are no rows, a token is out of range, some tokens never occur, or labels are wrong.
    """
    truth(allow_unused=allow_unused)
    table = _table(ids)
    K = vocabulary.size if K is None and vocabulary is not None else K  # noqa: N806
    between(2, MOST_CLASSES, **given(K=K))
    if vocabulary is not None and vocabulary.size != K:
        raise ValueError(f"the vocabulary has {vocabulary.size} tokens, and K is {K}")
    size = max(2, int(table.max()) + 1) if K is None else K
    check_tokens(table, size, "the tokens", allow_unused)
    targets, count, names = labels_and_names(label, len(table), "the tokens", classes)
    rows = TokenRows(compact(table, size), size, targets)
    return token_data("tokens", hold_out(rows), table.shape[1], size, vocabulary, classes=count, class_names=names)


def token_data(name: str, source: Finite, length: int, size: int, vocabulary: Vocabulary | None, **known: Any) -> Data:
    """Describe rows of tokens.

    Args:
        name: Name of the data set.
        source: Its rows.
        length: Number L of tokens of a row.
        size: Number K of tokens.
        vocabulary: Their texts, or None.
        **known: Other fields of `Data`.

    Returns:
        The data set.

    Raises:
        ValueError: A row would have too many values.
    """
    between(1, MOST_VALUES // size, length=length)
    std = math.sqrt(size - 1) / size  # of the entries of a one-hot row
    return Data(name, (length, size), source, "tokens", vocabulary=vocabulary, known_std=std, **known)


def _table(ids: Any) -> Tensor:
    """Tokens as a tensor (N, L) on the CPU. Raises if they are no rows of whole numbers."""
    try:
        table = torch.as_tensor(ids).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"tokens must be rows of whole numbers of one length, got {shown(ids)}: {error}") from None
    if table.is_floating_point() or table.is_complex() or table.dtype == torch.bool:
        if table.numel():
            raise TypeError(f"tokens must be whole numbers, got {table.dtype}")
    if table.ndim != 2 or not table.numel():
        raise ValueError(
            f"tokens must be rows (N, L) with at least one token, got shape {tuple(table.shape)}: a text becomes rows "
            "by fm.data.text"
        )
    return table if table.dtype in (torch.uint8, torch.int16, torch.int32) else table.long()


def check_tokens(table: Tensor, size: int, where: str, allow_unused: bool) -> None:
    """Check the range of tokens, and that each of them occurs.

    Args:
        table: The tokens, whole numbers.
        size: Number K of tokens.
        where: Their name in messages.
        allow_unused: Whether tokens may occur nowhere.

    Raises:
        ValueError: A token is out of range, or some never occur.
    """
    low, high = int(table.min()), int(table.max())
    if low < 0 or high >= size:
        wrong = int(((table < 0) | (table >= size)).sum())
        raise ValueError(
            f"{where} must lie in 0..{size - 1}; {wrong} of {table.numel()} do not, they reach from {low} to {high}"
        )
    if allow_unused:
        return
    counts = torch.bincount(table.flatten().long(), minlength=size)
    unused = (counts == 0).nonzero()[:, 0].tolist()
    if unused:
        raise ValueError(
            f"{len(unused)} of the {size} tokens never occur in {where}, the first is {unused[0]}: number those that "
            "occur from 0, or pass allow_unused=True"
        )


def compact(table: Tensor, size: int) -> Tensor:
    """Tokens in the smallest type of whole numbers that holds them."""
    kinds = ((torch.uint8, 2**8), (torch.int16, 2**15), (torch.int32, 2**31))
    return table.to(next(kind for kind, most in kinds if size <= most))
