"""Objects as JSON: `describe` writes the name and arguments of an object, `build` creates it again."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .names import find, is_frozen, is_named, public_name


def describe(obj: Any) -> Any:
    """Describe an object as JSON.

    Args:
        obj: A number, string, list, dict, tensor (stored as shape and dtype), public function of this package, instance
            of a describable class or of a public frozen dataclass; any nesting of these.

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
    if inspect.isfunction(obj) and is_named(obj):
        return {"function": public_name(obj)}
    if is_named(type(obj)):
        if hasattr(obj, "_arguments"):
            return {"type": public_name(type(obj)), "arguments": describe(obj._arguments)}
        if is_frozen(type(obj)):
            arguments = {f.name: describe(getattr(obj, f.name)) for f in dataclasses.fields(obj) if f.init}
            return {"type": public_name(type(obj)), "arguments": arguments}
    raise TypeError(
        f"cannot describe {type(obj).__module__}.{type(obj).__qualname__}: only numbers, strings, lists, dicts, "
        "tensors and describable objects of flowmaps can be rebuilt from a file; pass your own network to "
        "fm.load(run, network=...) instead"
    )


def build(description: Any) -> Any:
    """Build an object from its description, the inverse of `describe`.

    Args:
        description: JSON returned by `describe`, of this version or an earlier one.

    Returns:
        The object. Tensors are zeros of their shape and dtype, to be filled from a state dict.

    Raises:
        ValueError: If a name is not public, or the arguments do not fit a class.
        ImportError: If a package that a class needs is not installed.
    """
    if isinstance(description, list):
        return [build(item) for item in description]
    if not isinstance(description, dict):
        return description
    if "tensor" in description:
        return torch.zeros(description["tensor"], dtype=_dtype(description.get("dtype")))
    if "function" in description:
        return find(description["function"], "function")
    if "type" in description:
        return _create(description["type"], build(description.get("arguments", {})))
    return {key: build(value) for key, value in description.items()}


def _create(name: str, arguments: Mapping[str, Any]) -> Any:
    """Create an instance of the class with a public name."""
    cls = find(name, "type")
    try:
        inspect.signature(cls).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"the arguments in this description do not fit {name}: {error}") from None
    return cls(**arguments)


def _dtype(name: Any) -> torch.dtype:
    """Return the dtype of torch with a name."""
    found = getattr(torch, str(name), None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name!r} in this description is not a dtype of torch")
    return found
