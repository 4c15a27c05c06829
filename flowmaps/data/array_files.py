"""Reading .npy, .npz and .safetensors files: rows, labels and other conditions."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .check import LABEL_NAMES

Array = np.ndarray[Any, Any]
GIVEN = ("text", "mask", "pooled", "size")
"""Names of conditions, beside the label, that are read from a file by default."""


def read(
    path: Path, x: str | None, labels: str | bool | None, given: Sequence[str] | None
) -> tuple[Array, Array | None, dict[str, Array]]:
    """Read the rows, the labels and the other conditions of a file.

    Args:
        path: The file.
        x: Key of the rows. None: "x" or the only key.
        labels: Key of the labels, or the name of a second .npy file. None: the first usual name. False: no labels.
        given: Keys of the other conditions. None: the usual names, if there is a text.

    Returns:
        The rows, the labels or None, and the other conditions by name.

    Raises:
        ValueError: A key does not exist, or the file cannot be read.
    """
    arrays = _arrays(path)
    if "" in arrays:
        if x is not None or labels is True or given:
            raise ValueError(
                f"{path} is a single array without keys: pass no x and no given, and as labels the name of a .npy file"
            )
        return arrays[""], np.array(_arrays(path.parent / labels).get("")) if labels else None, {}
    x = x if x is not None else "x" if "x" in arrays or len(arrays) != 1 else next(iter(arrays))
    labels = next((key for key in LABEL_NAMES if key in arrays), False) if labels is None else labels
    conditions = [key for key in GIVEN if key in arrays and "text" in arrays] if given is None else given
    for key in (x, labels, *conditions):
        if isinstance(key, str) and key not in arrays:
            raise ValueError(f'{path} has no key "{key}" but {sorted(arrays)}: pass x=KEY, and labels=KEY for labels')
    return arrays[x], arrays[labels] if isinstance(labels, str) else None, {key: arrays[key] for key in conditions}


def _arrays(path: Path) -> dict[str, Array]:
    """Arrays of a file by name, "" for a .npy; memory-mapped except for a .npz."""
    if path.suffix == ".safetensors":
        return _tensors(path)
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        return {"": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as arrays of numbers: {error}") from error


def _tensors(path: Path) -> dict[str, Array]:
    """Tensors of a .safetensors file as arrays, memory-mapped. numpy has no bfloat16."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError("safetensors files need safetensors: pip install flowmaps[train]") from error
    try:
        return {name: tensor.numpy() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as arrays of numbers: {error}") from error
