"""Measures of tokens: total variation of tables and n-grams, entropy of tokens, share of valid words.

Rows are one-hot (N, L, K), or numbers where each position counts as its largest entry, or tokens (N, L). A total
variation of samples is biased upwards by their number: compare it with its floor, the same for data at the same counts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, between, check_seed, shown, truth
from ..data import Data
from ..data.sources import Finite, SubsetRows
from ..data.token_rows import TokenRows, WindowRows
from ..data.transformed import Transformed
from ..data.vocabularies import tokens_of
from .distances import Estimate
from .measures import Draws, Measure, mean_and_stderr
from .measures import between as distance_between

GRAMS = (4, 2)
"""Lengths of the n-grams of an evaluation, the main one first."""
FLOOR_DRAWS = 32
"""Number of draws over which a floor is averaged."""
PAIRS = 2**24
"""Number of pairs of positions that are compared at a time, which bounds the memory."""


def table_tv(x: Tensor, table: Any) -> float:
    """Total variation between the words of samples and the law of all words, 1/2 sum |n(w)/N - p(w)|.

    Args:
        x: Samples (N, L, K), or tokens (N, L).
        table: Probabilities of all words, (K, ..., K) with L dimensions, or an `fm.exact.Categorical`.

    Returns:
        The total variation, from 0 to 1. `table_tv_floor` is the same for N exact samples.

    Raises:
        ValueError: The table is no law of words of this length, or a token is out of range.
    """
    law = _law(table)
    tokens = _not_empty(tokens_of(x))
    if tokens.shape[1] != law.ndim or int(tokens.max()) >= law.shape[0] or int(tokens.min()) < 0:
        raise ValueError(
            f"a table of shape {tuple(law.shape)} is for words of {law.ndim} tokens 0..{law.shape[0] - 1}, got samples "
            f"of {tokens.shape[1]} tokens {int(tokens.min())}..{int(tokens.max())}"
        )
    number = torch.zeros(len(tokens), dtype=torch.int64)
    for column in tokens.cpu().unbind(1):
        number = number * law.shape[0] + column
    counts = torch.bincount(number, minlength=law.numel()).double()
    return float((counts / len(tokens) - law.flatten()).abs().sum() / 2)


def table_tv_floor(table: Any, n: int, *, draws: int = FLOOR_DRAWS, seed: int = 0) -> Estimate:
    """Total variation of n exact samples of a table, the floor of `table_tv`.

    Args:
        table: Probabilities of all words, or an `fm.exact.Categorical`.
        n: Number of samples.
        draws: Number of independent sets of samples.
        seed: Fixes the samples.

    Returns:
        The mean over the sets, with the standard deviation of one set in place of a standard error: a value of n
        samples is at the floor if it is within a few of these.
    """
    at_least(1, n=n)
    at_least(2, draws=draws)
    check_seed(seed)
    law, generator = _law(table).flatten(), torch.Generator().manual_seed(seed)
    values = []
    for _ in range(draws):
        words = torch.multinomial(law, n, replacement=True, generator=generator)
        counts = torch.bincount(words, minlength=len(law)).double()
        values.append(float((counts / n - law).abs().sum() / 2))
    mean, stderr = mean_and_stderr(values)
    return Estimate(mean, stderr * math.sqrt(draws))


def _law(table: Any) -> Tensor:
    """A table as a normalised float64 tensor. Raises ValueError for another object."""
    found = torch.as_tensor(getattr(table, "table", table)).detach().cpu().double()
    square = found.ndim > 0 and len(set(found.shape)) == 1
    if not square or bool((found < 0).any()) or abs(float(found.sum()) - 1) > 1e-5:
        raise ValueError(f"a table holds the probabilities of all words, (K, ..., K) with sum 1, got {shown(table)}")
    return found / found.sum()


def ngram_tv(x: Tensor, y: Tensor, n: int = 4) -> float:
    """Total variation between the n-grams of two sets of rows, 1/2 sum |f_x(g) - f_y(g)|, at all positions.

    Args:
        x: Samples (N, L, K), or tokens (N, L).
        y: Data, likewise. Its rows may have another length.
        n: Length of an n-gram.

    Returns:
        The total variation, from 0 to 1. Its floor is `ngram_tv(data, other_data)` at the same numbers of rows.

    Raises:
        ValueError: A row is shorter than n, or a set is empty.
    """
    grams = [_grams(rows, n) for rows in (x, y)]
    counts = _counts(grams)
    return float((counts[0] / counts[0].sum() - counts[1] / counts[1].sum()).abs().sum() / 2)


def _grams(x: Tensor, n: int) -> Tensor:
    """The n-grams of all positions of all rows, (M, n)."""
    tokens = _not_empty(tokens_of(x))
    between(1, tokens.shape[1], n=n)
    return tokens.cpu().unfold(1, n, 1).flatten(0, 1)


def _counts(sets: Sequence[Tensor]) -> list[Tensor]:
    """Counts of the same words in several sets of words (M, n)."""
    words = torch.cat(list(sets))
    number, base = words[:, 0], int(words.max()) + 1
    for column in words[:, 1:].unbind(1):  # numbered anew at each column, so that no number grows beyond base x M
        number = torch.unique(number * base + column, return_inverse=True)[1]
    size = int(number.max()) + 1
    return [torch.bincount(part, minlength=size).double() for part in number.split([len(rows) for rows in sets])]


def _not_empty(tokens: Tensor) -> Tensor:
    """The tokens. Raises ValueError if there are none."""
    if not tokens.numel():
        raise ValueError(f"expected rows of tokens, got none: {tuple(tokens.shape)}")
    return tokens


def token_entropy(x: Tensor) -> Estimate:
    """Entropy of the frequencies of tokens within a row, in nats, averaged over rows: low where texts repeat tokens.

    It is the number that papers on discrete diffusion report beside a perplexity. It says nothing about rows that are
    equal to one another, which `ngram_tv` sees.

    Args:
        x: Samples (N, L, K), or tokens (N, L).

    Returns:
        The mean and its standard error over rows.
    """
    tokens = _not_empty(tokens_of(x)).cpu()
    parts = tokens.split(max(1, PAIRS // tokens.shape[1] ** 2))
    # the mean over the positions of -log of the frequency of the token there
    values = [-(part[:, :, None] == part[:, None, :]).double().mean(2).log().mean(1) for part in parts]
    return mean_and_stderr(torch.cat(values).tolist())


def valid_share(texts: Iterable[str], words: Collection[str], *, cut: bool = False) -> Estimate:
    """Share of the words of texts that are among known words.

    Args:
        texts: Texts, such as `data.vocabulary.decode(x)`. Words are separated by all characters but letters and digits.
        words: The known words; a set is fastest.
        cut: Whether texts are windows of a running text. Their first and last words may be parts, and are left out.

    Returns:
        The share and its standard error over texts, of a ratio of sums. NaN if there are no words.

    Raises:
        TypeError: The texts are one text.
    """
    truth(cut=cut)
    if isinstance(texts, str):
        raise TypeError(f"texts are a list of texts, got {shown(texts)}")
    known = words if isinstance(words, (set, frozenset)) else frozenset(words)
    found = [_words(text, cut) for text in texts]
    all_words = torch.tensor([len(row) for row in found], dtype=torch.float64)
    valid = torch.tensor([sum(word in known for word in row) for row in found], dtype=torch.float64)
    if not all_words.sum():
        return Estimate(math.nan, math.nan)
    share = float(valid.sum() / all_words.sum())
    spread = float((valid - share * all_words).square().sum().sqrt() / all_words.sum())
    return Estimate(share, spread)


def _words(text: str, cut: bool) -> list[str]:
    """The words of a text, of a window without those at its ends."""
    pieces = "".join(symbol if symbol.isalnum() else " " for symbol in text).split(" ")
    return [piece for piece in (pieces[1:-1] if cut else pieces) if piece]


def known_words(data: Data) -> frozenset[str] | None:
    """The words of the training text of a data set; None if its rows are no text."""
    source = data.source
    while isinstance(source, Transformed):
        source = source.source
    if data.vocabulary is None or not isinstance(source, Finite):
        return None
    index, rows = slice(None), source.train
    if isinstance(rows, SubsetRows):
        index, rows = rows.index, rows.rows  # type: ignore[assignment]
    if isinstance(rows, WindowRows):
        texts = [data.vocabulary.text_of(rows.tokens.tolist())]
    elif isinstance(rows, TokenRows):
        texts = data.vocabulary.decode(rows.tokens[index])
    else:
        return None
    return frozenset(word for text in texts for word in _words(text, cut=False))


def are_windows(data: Data) -> bool:
    """Whether rows are cut out of a running text: they have texts, and are not filled up."""
    return data.vocabulary is not None and data.vocabulary.padding is None


def token_measures(data: Data, draws: Draws) -> Iterator[Measure]:
    """The measures of tokens: n-gram distances, the entropy of tokens, valid words where rows are texts.

    Args:
        data: The data set.
        draws: Its draws.

    Yields:
        One measure after another, the main one first.
    """
    grams = [n for n in GRAMS if n <= data.shape[0]] or [data.shape[0]]
    for n in grams:
        key = "distance" if n == grams[0] else f"ngram_tv_{n}"
        title = f"total variation of {n}-grams (it grows as rows get fewer: compare with the floor)"
        yield distance_between(key, title, partial(ngram_tv, n=n), draws)
    title = "entropy of the tokens within a row, in nats; floor: of held-out rows"
    yield _own_measure("token_entropy", title, token_entropy, draws)
    words = known_words(data)
    if words is not None:
        vocabulary, cut = data.vocabulary, are_windows(data)
        assert vocabulary is not None

        def share(x: Tensor) -> Estimate:
            return valid_share(vocabulary.decode(x), words, cut=cut)

        title = "share of words that occur in the training text; floor: of held-out rows"
        yield _own_measure("valid_words", title, share, draws)


def _own_measure(key: str, title: str, estimate: Any, draws: Draws) -> Measure:
    """A number of the samples alone, beside the same of held-out rows."""

    def of_wanted(x: Tensor) -> Estimate:
        found: Estimate = estimate(x[: draws.wanted])
        return found

    return Measure(key, title, draws.wanted, draws.wanted, of_wanted, estimate(torch.cat(draws.held_out)))
