"""Objects as JSON: `describe` writes the name and arguments of an object, `build` creates it again."""

from __future__ import annotations

import dataclasses
import inspect
import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .checking import check_arguments, fits, shown
from .names import public_name
from .registry import find, is_named

ADDED = {"added": True}
"""Metadata of a field of a dataclass that earlier versions lack: a description leaves it out at its default."""
DEEPEST = 100
"""Largest number of descriptions inside one another."""
MOST_NUMBERS = 2**40
"""Largest number of entries of a tensor. Only a tensor that a checkpoint holds is ever made with memory."""
LONGEST = 2000
"""Largest length of the reason of a class that refuses its arguments, in characters."""
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
        torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool,
    )
}  # fmt: skip
"""The dtypes that a file may name."""


def describe(obj: Any) -> Any:
    """Describe an object as JSON.

    Args:
        obj: A number, string, list, dict, tensor (stored as shape and dtype), function of the registry, instance of a
            class of the registry; any nesting of these.

    Returns:
        Nested dicts, lists, numbers and strings. `build` converts them back into the object.

    Raises:
        TypeError: If the object, or a part of it, is of another type; the message names it.
    """
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return obj
    if isinstance(obj, (list, tuple, torch.Size)):
        return [describe(item) for item in obj]
    if isinstance(obj, dict):
        return {key: describe(value) for key, value in obj.items()}
    if isinstance(obj, Tensor):
        return {"tensor": list(obj.shape), "dtype": str(obj.dtype).removeprefix("torch.")}
    if is_named(obj) and inspect.isfunction(obj):
        return {"function": public_name(obj)}
    if is_named(type(obj)):
        if hasattr(obj, "_arguments"):
            return {"type": public_name(type(obj)), "arguments": describe(obj._arguments)}
        if dataclasses.is_dataclass(obj):
            arguments = {f.name: describe(getattr(obj, f.name)) for f in dataclasses.fields(obj) if _is_told(f, obj)}
            return {"type": public_name(type(obj)), "arguments": arguments}
    raise TypeError(
        f"cannot describe {type(obj).__module__}.{type(obj).__qualname__}: only numbers, strings, lists, dicts, "
        "tensors and the parts of flow maps of flowmaps can be rebuilt from a file; pass your own network to "
        "fm.load(run, network=...) instead"
    )


def _is_told(field: dataclasses.Field, obj: Any) -> bool:
    """Whether a field of a dataclass is part of its description."""
    return field.init and not (field.metadata == ADDED and getattr(obj, field.name) == field.default)


def build(description: Any, where: str = "this description", depth: int = 0) -> Any:
    """Build an object from its description, the inverse of `describe`.

    Only classes and functions of the registry are used. The arguments of a class are checked against its annotations
    before it is called. On the meta device, `torch.device("meta")`, tensors and modules take no memory.

    Args:
        description: JSON returned by `describe`, of this version or an earlier one.
        where: Place of the description in its file, such as "flow.network", for messages.
        depth: Number of descriptions around this one.

    Returns:
        The object. Tensors are zeros of their shape and dtype, to be filled from a state dict.

    Raises:
        ValueError: If a name is not in the registry, the arguments do not fit a class, or the class refuses them.
        ImportError: If a package that a class needs is not installed.
        OSError: If the folder of a pretrained model, which a class reads, is missing.
    """
    if depth > DEEPEST:
        raise ValueError(f"a description is more than {DEEPEST} levels deep")
    if isinstance(description, list):
        return [build(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(description)]
    if not isinstance(description, dict):
        return description
    if "tensor" in description:
        return _zeros(description, where)
    if "function" in description:
        return _found(description["function"], "function", where)
    if "type" in description:
        cls = _found(description["type"], "type", where)
        return _create(cls, build(description.get("arguments", {}), f"{where}.arguments", depth + 1), where)
    return {key: build(value, f"{where}.{key}", depth + 1) for key, value in description.items()}


def _found(name: Any, kind: str, where: str) -> Any:
    """Find a class or function, with the place of its name in the error message."""
    try:
        return find(name, kind)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _create(cls: type, arguments: Any, where: str) -> Any:
    """Create an instance of a class of the registry."""
    name = public_name(cls)
    check_arguments(cls, name, arguments, f"{where}.arguments")
    # values compute with numbers, which tensors on the meta device do not have
    is_value = not issubclass(cls, nn.Module) and torch.get_default_device().type == "meta"
    try:
        with torch.device("cpu") if is_value else nullcontext():
            return cls(**arguments)
    except (ImportError, OSError):
        raise
    except Exception as error:  # the arguments come from a file: whatever they do, it is the file that is wrong
        reason = " ".join(str(error).split()) or type(error).__name__
        reason = reason if len(reason) <= LONGEST else f"{reason[:LONGEST]} ..."
        raise ValueError(f"{where}: {name} cannot be made with these arguments: {reason}") from error


def _zeros(description: dict[str, Any], where: str) -> Tensor:
    """Make the tensor of a description."""
    shape = description["tensor"]
    if not fits(shape, list[int]) or min(shape, default=0) < 0 or math.prod(shape) > MOST_NUMBERS:
        raise ValueError(
            f"{where}: the shape of a tensor is a list of whole numbers with a product of at most {MOST_NUMBERS}, got "
            f"{shown(shape)}"
        )
    return torch.zeros(shape, dtype=dtype_named(description.get("dtype"), where))


def dtype_named(name: Any, where: str = "this description") -> torch.dtype:
    """Return the dtype with a name in a file, such as "bfloat16".

    Args:
        name: The name.
        where: Place of the name in its file, for messages.

    Returns:
        The dtype.

    Raises:
        ValueError: If it is not in `DTYPES`.
    """
    if not isinstance(name, str) or name not in DTYPES:
        raise ValueError(f"{where}: {shown(name)} is not a dtype of torch that a file may name")
    return DTYPES[name]
