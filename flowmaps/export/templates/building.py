"""Build the parts of a network from a config.json."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn


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
        kind, arguments = defined(part["type"]), made(part["arguments"])
        # values compute with numbers, which tensors on the meta device do not have
        is_value = not issubclass(kind, nn.Module) and torch.get_default_device().type == "meta"
        with torch.device("cpu") if is_value else nullcontext():
            return kind(**arguments)
    return {key: made(value) for key, value in part.items()}


def defined(name: Any) -> Any:
    """Find a class or function that this file defines, rather than imports."""
    found = globals().get(name)
    if getattr(found, "__module__", None) != __name__:
        raise ValueError(f"this file defines no {name!r}")
    return found
