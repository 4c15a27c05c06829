"""Files that are either whole or absent, and nested values as JSON beside safetensors."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

PICKLES = (b"\x80", b"PK\x03\x04")
"""How a pickle begins, and how the archive begins that `torch.save` puts one into."""


def write_json(path: Path, value: Any) -> None:
    """Write through a temporary file, flushed to disk, then renamed: a reader sees the old file or the new one."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """As `write_json`, for text."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    flush(temporary)
    temporary.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Wait until a file or the entries of a folder are on disk. (Only POSIX systems can open a folder.)"""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a folder, under the name `.NAME.gone.tmp`, so that nothing half removed has the name of a whole one."""
    gone = path.with_name(f".{path.name}.gone.tmp")
    shutil.rmtree(gone, ignore_errors=True)
    path.rename(gone)
    shutil.rmtree(gone)


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """As safetensors: contiguous tensors on the CPU that share no memory."""
    save_file(tensors, path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The inverse of `save_tensors`. Raises ValueError for a file of another kind, of which nothing is unpickled."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except SafetensorError as error:
        with path.open("rb") as start:
            pickled = start.read(4).startswith(PICKLES)
        kind = "a pickle, which may hold code; it was not opened" if pickled else f"no safetensors file ({error})"
        raise ValueError(f"{path} is {kind}: restore the file that training wrote, or remove this checkpoint") from None


def split(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A JSON-able skeleton of nested dicts, lists, tuples, numbers and strings; tensors go into `tensors` under numbers
    as names.

    Raises TypeError for anything else.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        tensors[str(len(tensors))] = value
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, (list, tuple)):
        return {"tuple" if isinstance(value, tuple) else "list": [split(item, tensors) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[split(key, tensors), split(item, tensors)] for key, item in value.items()]}
    raise TypeError(
        f"an optimizer's state may hold numbers, strings, tensors, lists, tuples and dicts, not {type(value).__name__}"
    )


def join(skeleton: Any, tensors: Mapping[str, Any]) -> Any:
    """The inverse of `split`; what stands in `tensors` for a tensor may be anything."""
    if not isinstance(skeleton, dict):
        return skeleton
    [(kind, content)] = skeleton.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {join(key, tensors): join(item, tensors) for key, item in content}
    items = [join(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
