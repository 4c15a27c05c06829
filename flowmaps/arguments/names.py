"""Checks of paths, and hints for names that do not exist and for packages that are missing."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Iterable
from typing import Any

from .numbers import shown

LONGEST_WORD = 200
"""Length of words, in characters, beyond which no similar words are searched."""


def expect_path(name: str, path: Any) -> None:
    """Check that a value is a path.

    Args:
        name: Its name in the message.
        path: The value.

    Raises:
        TypeError: It is neither a text nor a path.
        ValueError: It is an empty text, or holds a zero byte.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {shown(path)}")
    if not str(path) or "\0" in str(path):
        raise ValueError(f"{name} must be a path, got {shown(path)}")


def install(extra: str) -> str:
    """The command that installs the packages of an extra, for the end of an error message.

    The package is on no index yet, so the command is for a clone.
    """
    return f'pip install ".[{extra}]" in a clone of flowmaps'


def listed(names: str) -> list[str]:
    """The names in a text such as "height, weight" or "[height]", as a person types them in a shell."""
    return [name.strip(" \t\"'") for name in names.strip("[]() ").split(",")]


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


def refuse_factory(name: str, value: Any, kind: str) -> None:
    """Check that a function is not one of this library that makes the wanted function: `gap` for `gap()`.

    Args:
        name: Its name in the message.
        value: The function.
        kind: The wanted type, as the annotations write it, such as "Times".

    Raises:
        TypeError: It is such a function.
    """
    made = getattr(value, "__annotations__", {}).get("return") if inspect.isfunction(value) else None
    if made == kind:
        raise TypeError(f"{name} must be made by calling {value.__name__}: pass {value.__name__}(...)")
