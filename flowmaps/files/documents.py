"""JSON documents of limited size and depth, with checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .writing import write_text

LARGEST_JSON = 64 * 2**20
"""Largest size of a JSON document in bytes."""
DEEPEST_JSON = 100
"""Largest number of lists and objects inside one another in a JSON document."""


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically, as `replacing` does."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path, most: int = LARGEST_JSON) -> Any:
    """Read a JSON document of limited size and depth.

    Args:
        path: The file.
        most: Largest size in bytes.

    Returns:
        Its content.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no regular file, no JSON, too large or too deep; the message names the file.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} cannot be read: it is not a regular file")
    with path.open("rb") as file:
        text = file.read(most + 1)
    if len(text) > most:
        raise ValueError(f"{path} cannot be read: a JSON file of at most {most} bytes is expected, and it is larger")
    try:
        return parse_json(text.decode())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def parse_json(text: str) -> Any:
    """Parse a JSON document of limited depth.

    Args:
        text: The document.

    Returns:
        Its content.

    Raises:
        ValueError: If it is no JSON, or deeper than `DEEPEST_JSON`.
    """
    too_deep = f"it holds more than {DEEPEST_JSON} lists and objects inside one another"
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError(too_deep) from None
    level = [found]
    for _ in range(DEEPEST_JSON):
        level = [item for part in level for item in _inside(part)]
        if not level:
            return found
    raise ValueError(too_deep)


def _inside(value: Any) -> Iterable[Any]:
    """Lists and objects directly in a JSON value."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, (dict, list))]


def json_checksum(content: Any) -> str:
    """Compute the SHA-256 of a JSON value, in hexadecimal. Line breaks and the order of keys do not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Add to a JSON object the entry "checksum", with the checksum of its other entries."""
    plain = json.loads(json.dumps(content))
    return {**plain, "checksum": json_checksum(plain)}


def unsealed(content: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Take the checksum out of a JSON object, the inverse of `sealed`.

    Args:
        content: The object.

    Returns:
        The other entries, and whether they are the ones that were written; True for an object without a checksum.
    """
    plain = {name: value for name, value in content.items() if name != "checksum"}
    return plain, content.get("checksum", None) in (None, json_checksum(plain))
