"""The manifest of a cache folder: the types of its entries, and their check."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from ..arguments import MOST_CLASSES, MOST_VALUES
from ..serialise import mismatch, shown_value


class ShardEntry(TypedDict):
    """A file of the cache."""

    file: str
    rows: int
    bytes: int
    sha256: str


class RowsEntry(TypedDict):
    """The description of the rows."""

    shape: list[int]
    kind: Literal["images", "points", "vectors"]
    classes: int | None
    name: str
    class_names: list[str] | None
    levels: int | None
    moments: bool


class Tables(TypedDict):
    """The files of both tables."""

    texts: list[ShardEntry]
    rows: list[ShardEntry]


class Manifest(TypedDict):
    """The content of cache.json."""

    format: int
    complete: bool
    made: dict[str, Any]
    data: RowsEntry
    tables: Tables
    texts: NotRequired[Any]


def check_manifest(found: Any, path: Path) -> None:
    """Check the content of cache.json.

    Args:
        found: The content, as JSON.
        path: The file, for messages.

    Raises:
        ValueError: An entry is missing or of another type, a size is out of bounds, or a name leads out of the folder.
    """
    wrong = mismatch(found, Manifest, "")
    if wrong is not None:
        raise ValueError(f"{path} cannot be used: {wrong}. Remove the folder and make the cache again")
    about = found["data"]
    if min(about["shape"], default=0) < 1 or math.prod(about["shape"]) > MOST_VALUES:
        raise ValueError(
            f"{path} cannot be used: data.shape must be positive numbers with a product of at most {MOST_VALUES}, got "
            f"{shown_value(about['shape'])}"
        )
    if about["classes"] is not None and not 0 < about["classes"] <= MOST_CLASSES:
        raise ValueError(f"{path} cannot be used: data.classes must be 1 to {MOST_CLASSES}, got {about['classes']}")
    for shard in [*found["tables"]["texts"], *found["tables"]["rows"]]:
        if not re.fullmatch(r"\w[\w-]*\.safetensors", shard["file"]):
            raise ValueError(f"{path} cannot be used: {shown_value(shard['file'])} is not the name of a shard")
