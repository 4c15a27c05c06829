"""Fingerprints: any object as JSON in config.json, readable, and to detect changed settings of a resumed run.

Unlike a description of `flowmaps.serialise`, a fingerprint exists for any object and cannot be converted back. Things
have their public names.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..serialise import public_name


def fingerprint(value: Any) -> Any:
    """Describe any object by nested dicts, lists, numbers and strings.

    Args:
        value: Any object. Closures and partial functions are described with their values, tensors by shape and dtype.

    Returns:
        JSON, equal for equal settings of one version.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [fingerprint(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): fingerprint(item) for key, item in value.items()}
    if isinstance(value, Tensor):
        return {"tensor": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, (torch.dtype, torch.device)):
        return str(value)
    if isinstance(value, functools.partial):
        return _named(value.func, [*value.args, value.keywords] if value.args else value.keywords)
    if isinstance(value, type) or callable(getattr(value, "__wrapped__", None)) or inspect.ismethod(value):
        return _named(value, {})
    if inspect.isfunction(value):
        kept = inspect.getclosurevars(value).nonlocals
        return _named(value, {name: item for name, item in kept.items() if item is not value})
    return _object(value)


def _named(function: Any, values: Any) -> Any:
    """Describe a function or class by its name and its bound values."""
    name = public_name(function)
    return {"function": name, "with": fingerprint(values)} if values else name


def _object(value: Any) -> dict[str, Any]:
    """Describe an object by the name of its class and its known arguments."""
    known: dict[str, Any] = {"type": public_name(type(value))}
    if hasattr(value, "_arguments"):
        known["arguments"] = fingerprint(value._arguments)
    elif dataclasses.is_dataclass(value):
        known["arguments"] = {f.name: fingerprint(getattr(value, f.name)) for f in dataclasses.fields(value)}
    elif isinstance(value, nn.Module):
        known["arguments"] = {name: item for name, item in vars(value).items() if _is_setting(name, item)}
    return known


def _is_setting(name: str, item: Any) -> bool:
    """Whether an attribute of a module is one of its settings."""
    return not name.startswith("_") and name != "training" and isinstance(item, (bool, int, float, str))
