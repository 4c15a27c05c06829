"""Hints for names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, words: Iterable[str], cutoff: float = 0.6) -> str:
    """Hint for an unknown word, to end an error message with.

    Args:
        word: The unknown word.
        words: The known words.
        cutoff: Least similarity of a suggestion, in [0, 1].

    Returns:
        " (did you mean a or b?)" with at most three suggestions; "" if no known word is similar.
    """
    near = difflib.get_close_matches(word, list(words), cutoff=cutoff)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
