"""Docstrings on the API pages: paragraphs set in columns stay as they stand."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Columns(griffe.Extension):
    """Fence the paragraphs of a docstring that are set in columns, which Markdown would run together."""

    def on_object(self, *, obj: griffe.Object, **rest: Any) -> None:
        """Called for every object of the package."""
        if obj.docstring:
            paragraphs = obj.docstring.value.split("\n\n")
            obj.docstring.value = "\n\n".join(_fenced(text) if _in_columns(text) else text for text in paragraphs)


def _in_columns(text: str) -> bool:
    return not text.startswith((" ", "|", "\n")) and bool(re.search(r"\S {3,}\S", text))


def _fenced(text: str) -> str:
    return f"```text\n{text}\n```"
