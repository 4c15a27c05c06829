"""Checks of arguments, and hints for names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def at_least(least: int, **arguments: int) -> None:
    """Raise ValueError for an argument below `least`, naming it."""
    for name, value in arguments.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


LONGEST_WORD = 200
"""Length of words, in characters, beyond which no similar words are searched."""
MOST_VALUES = 2**28
"""Largest number of values in a row of data."""
MOST_CLASSES = 2**24
"""Largest number of classes."""
MOST_WIDTH = 2**20
"""Largest width of a layer."""
MOST_LAYERS = 2**14
"""Largest number of layers of one kind."""


def between(least: int, most: int, **arguments: int | None) -> None:
    """Raise ValueError for an argument that is no whole number from `least` to `most`, naming it; None is allowed."""
    for name, value in arguments.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most):
            raise ValueError(f"{name} must be a whole number from {least} to {most}, got {value}")


def did_you_mean(word: str, words: Iterable[str], cutoff: float = 0.6) -> str:
    """Hint for an unknown word, to end an error message with.

    Args:
        word: The unknown word.
        words: The known words.
        cutoff: Least similarity of a suggestion, in [0, 1].

    Returns:
        " (did you mean a or b?)" with at most three suggestions; "" if no known word is similar.
    """
    near = difflib.get_close_matches(word, list(words), cutoff=cutoff) if len(word) <= LONGEST_WORD else ()
    return f" (did you mean {' or '.join(near)}?)" if near else ""
