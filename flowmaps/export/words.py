"""Words of a run for the model card: names and settings that may hold paths of a machine, Markdown or HTML."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

LONGEST = 300
"""Characters of a setting that the card shows."""
PATH = re.compile(
    r"""(?<![^\s"'(\[{=,])(?:file://)?(?:(?:~[\w.-]*|\.\.|[A-Za-z]:)[/\\]+|/+|\\\\+)"""  # a start
    r"""(?:[^\s"'/\\]+[/\\]+)*([^\s"'/\\]+)[/\\]*"""  # folders and the last part
)
"""A path in a text, absolute or from a home folder or from the folder above; the group is its last part."""
MARKUP = re.compile(r"[\\`*\[\]#~!@$^]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=\b[wW]{3})\.|^[-+=](?=[\s=+-]|$)")
"""Characters that Markdown may read as markup, where they stand."""
NUMBER = re.compile(r"^(\d+)([.)])(?=\s|$)")
"""The start of a numbered list."""
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def without_paths(value: Any) -> Any:
    """Shorten every absolute path in a nested value to its last part."""
    if isinstance(value, str):
        kinds = (PurePosixPath(value), PureWindowsPath(value))  # a whole path may have spaces
        whole = next((path.name for path in kinds if path.is_absolute() and path.name), value)
        return PATH.sub(lambda found: found[1], whole)
    if isinstance(value, (list, tuple)):
        return [without_paths(item) for item in value]
    if isinstance(value, dict):
        return {without_paths(key): without_paths(item) for key, item in value.items()}
    return value


def plain_text(value: Any) -> str:
    """Return a value as one line of printable characters, without absolute paths."""
    line = " ".join(str(without_paths(value)).split())
    line = "".join(character for character in line if character.isprintable())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def escaped(value: Any) -> str:
    """Return a value as one line of Markdown that shows its text, with no markup, HTML or link in it."""
    line = "".join(ENTITIES.get(character, character) for character in plain_text(value))
    return NUMBER.sub(r"\1\\\2", MARKUP.sub(lambda found: f"\\{found[0]}", line))


def in_python(name: str) -> str:
    """Write a name as a string of Python in double quotes, or in single ones if it is not ASCII."""
    return json.dumps(name) if name.isascii() else ascii(name)


def block(code: str) -> str:
    """Write code as a block of Markdown that its text cannot end."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))
    return f"{fence}python\n{code}\n{fence}"
