"""Reading .npy, .npz and .safetensors files: rows, labels and other conditions."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import install
from .check import LABEL_NAMES

Array = np.ndarray[Any, Any]
SMALL = 2**30
"""Bytes of an array that are read from a .npz in any case."""
MOST_COMPRESSION = 200
"""Largest number of bytes of an array for each compressed byte, of larger arrays in a .npz."""
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
    conditions = [key for key in GIVEN if key in arrays and "text" in arrays] if given is None else given
    label = _label_key(arrays, labels, path)
    for key in (x, label, *conditions):
        if key is not None and key not in arrays:
            raise ValueError(f'{path} has no key "{key}" but {sorted(arrays)}: pass x=KEY, and labels=KEY for labels')
    if labels is None and given is None:
        _warn_unread(
            {key: found for key, found in arrays.items() if key not in (x, label, *conditions)}, arrays[x], path
        )
    return arrays[x], None if label is None else arrays[label], {key: arrays[key] for key in conditions}


def _label_key(arrays: Mapping[str, Array], labels: str | bool | None, path: Path) -> str | None:
    """The key of the labels: the requested one, or the first usual name in any case of letters."""
    if isinstance(labels, str) or labels is False:
        return labels or None
    lower = {key.lower(): key for key in reversed(list(arrays))}
    found = next((key if key in arrays else lower[key] for key in LABEL_NAMES if key in lower), None)
    if labels is True and found is None:
        raise ValueError(f"labels=True, and {path} has no key {', '.join(LABEL_NAMES)} but {sorted(arrays)}")
    return found


def _warn_unread(unread: Mapping[str, Array], x: Array, path: Path) -> None:
    """Warn about arrays with a value for each row that are not read, and may be labels or conditions."""
    beside = [f"{key} {found.shape}" for key, found in unread.items() if found.shape[:1] == x.shape[:1]]
    if beside:
        warnings.warn(
            f"{path} has arrays that are not read: {', '.join(beside)}; pass labels=KEY for class labels, given=[KEY] "
            "for conditions of the network, or labels=False",
            stacklevel=4,
        )


def _arrays(path: Path) -> dict[str, Array]:
    """Arrays of a file by name, "" for a .npy; memory-mapped except for a .npz."""
    if path.suffix.lower() == ".safetensors":
        return _tensors(path)
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                _check_header(file, path.stat().st_size)
            return {"": np.load(path, mmap_mode="r", allow_pickle=False)}
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            names = [info.filename for info in members]
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"it holds several arrays of one name: {', '.join(sorted(twice))}")
            for info in members:
                _check_member(archive, info)
            return {info.filename.removesuffix(".npy"): _member(archive, info) for info in members}
    except Exception as error:  # readers raise nearly every kind of exception for unknown bytes
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} cannot be read as arrays of numbers: {reason}") from error


def _check_header(file: Any, size: int) -> None:
    """Refuse an array whose header claims more bytes than follow it, before memory is taken for them.

    Args:
        file: The array, open at its start.
        size: Number of its bytes.

    Raises:
        ValueError: The header claims more bytes than there are, or the array holds no numbers.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"its format {version} is not one of arrays of numbers")
    start = file.read(2 if version == (1, 0) else 4)
    if int.from_bytes(start, "little") > size:
        raise ValueError("its header is longer than the file")
    header = io.BytesIO(start + file.read(int.from_bytes(start, "little")))
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(header)
    if dtype.hasobject or dtype.itemsize == 0 or min(shape, default=0) < 0:
        raise ValueError(f"it holds {dtype} of shape {shape}, not numbers")
    there = size - np.lib.format.MAGIC_LEN - len(header.getbuffer())
    if math.prod(shape) * dtype.itemsize > there:
        raise ValueError(f"its header claims {math.prod(shape) * dtype.itemsize} bytes, and it has {there}")


def _check_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Check the header of an array in a .npz, and that it is not far larger than the file that holds it."""
    if info.file_size > max(SMALL, MOST_COMPRESSION * info.compress_size):
        raise ValueError(
            f"{info.filename} claims {info.file_size} bytes, compressed to {info.compress_size}: save it as .npy"
        )
    with archive.open(info) as file:
        _check_header(file, info.file_size)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """Read an array of a .npz."""
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _tensors(path: Path) -> dict[str, Array]:
    """Tensors of a .safetensors file as arrays, memory-mapped. numpy has no bfloat16."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError(f"safetensors files need safetensors: {install('train')}") from error
    try:
        return {name: tensor.numpy() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as arrays of numbers: {error}") from error
