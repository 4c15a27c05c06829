"""Build the parts of a network from a config.json."""

from __future__ import annotations

from typing import Any

import torch


def made(part: Any) -> Any:
    """Build an object from its description.

    A description is {"type": a class of this file, "arguments": ...}, {"function": a function of this file},
    {"tensor": a shape, "dtype": ...} for a tensor among the weights, or plain JSON.
    """
    if isinstance(part, list):
        return [made(item) for item in part]
    if not isinstance(part, dict):
        return part
    if "tensor" in part:
        return torch.zeros(part["tensor"], dtype=getattr(torch, part["dtype"]))
    if "function" in part:
        return defined(part["function"])
    if "type" in part:
        return defined(part["type"])(**made(part["arguments"]))
    return {key: made(value) for key, value in part.items()}


def defined(name: Any) -> Any:
    """Find a class or function that this file defines, rather than imports."""
    found = globals().get(name)
    if getattr(found, "__module__", None) != __name__:
        raise ValueError(f"this file defines no {name!r}")
    return found
