"""Tensors in safetensors, their checksums, and nested values split into JSON and tensors."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

PICKLES = (b"\x80", b"PK\x03\x04")
"""First bytes of a pickle, and of the archive in which `torch.save` stores one."""
SAMPLES_OF_A_WEIGHT = 64
"""Number of evenly spaced entries of each weight in `weights_checksum`."""


def checksum(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def add_tensor(digest: Any, tensor: Tensor) -> None:
    """Add dtype, shape and all bytes of a tensor to a digest of hashlib."""
    digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def tensors_checksum(about: str, tensors: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 of a text and of all bytes of tensors with their names, in hexadecimal."""
    digest = hashlib.sha256(about.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        add_tensor(digest, tensor)
    return digest.hexdigest()


def weights_checksum(weights: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 over names, shapes and SAMPLES_OF_A_WEIGHT numbers of each weight.

    Training changes almost all numbers, so these identify the weights. The dtype is not included, so weights in half
    precision have the checksum of the same weights in float32.

    Args:
        weights: Tensors by name.

    Returns:
        The checksum in hexadecimal; "" for tensors without memory.
    """
    if any(isinstance(weight, FakeTensor) or weight.is_meta for weight in weights.values()):
        return ""
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        flat = weight.detach().reshape(-1)
        some = flat[:: max(1, flat.numel() // SAMPLES_OF_A_WEIGHT)].to("cpu", torch.float64)
        digest.update(f"{name} {tuple(weight.shape)} {some.tolist()}".encode())
    return digest.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write contiguous CPU tensors that share no memory as safetensors.

    Args:
        path: The file.
        tensors: Tensors by name.
        metadata: Texts by name, stored in the header.

    Raises:
        OSError: If the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        about = (int(number[1]), os.strerror(int(number[1])), str(path)) if number else (f"{path}: {error}",)
        raise OSError(*about) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, the inverse of `save_tensors`. Pickles are never loaded.

    Raises:
        ValueError: If the file is of another kind.
    """
    with opened_tensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shapes of the tensors in a safetensors file by name, from its header alone.

    Raises:
        ValueError: If the file is of another kind.
    """
    with opened_tensors(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not a dict)


@contextmanager
def opened_tensors(
    path: Path, advice: str = "restore the file that training wrote, or remove this checkpoint"
) -> Iterator[Any]:
    """Open a safetensors file (context manager). A header that claims other bytes than the file has is refused.

    Args:
        path: The file.
        advice: End of the error message for a file of another kind.

    Yields:
        The open file of safetensors, whose tensors are memory-mapped.

    Raises:
        ValueError: If the file is of another kind.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        with path.open("rb") as start:
            pickled = start.read(4).startswith(PICKLES)
        kind = "a pickle, which may hold code; it was not opened" if pickled else f"not a safetensors file ({error})"
        raise ValueError(f"{path} is {kind}: {advice}") from None


def split(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Split a nested value into a JSON-able skeleton and its tensors.

    Args:
        value: Nested dicts, lists, tuples, numbers, strings and tensors.
        tensors: Dict to which the tensors are added, with numbers as names.

    Returns:
        The skeleton.

    Raises:
        TypeError: If the value contains anything else.
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
    """Rebuild a nested value, the inverse of `split`.

    Args:
        skeleton: The skeleton.
        tensors: The tensors by name, or objects that replace them.

    Returns:
        The nested value.
    """
    if not isinstance(skeleton, dict):
        return skeleton
    [(kind, content)] = skeleton.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {join(key, tensors): join(item, tensors) for key, item in content}
    items = [join(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
