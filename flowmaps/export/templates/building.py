"""Build the parts of a network from a config.json."""

from __future__ import annotations

from typing import Any

import torch


def made(part: Any) -> Any:
    """Build an object from its description.

    A description is {"type": a class of this file, "arguments": ...}, {"function": a name in this file}, {"tensor": a
    shape, "dtype": ...} for a tensor among the weights, or plain JSON.
    """
    if isinstance(part, list):
        return [made(item) for item in part]
    if not isinstance(part, dict):
        return part
    if "tensor" in part:
        return torch.zeros(part["tensor"], dtype=getattr(torch, part["dtype"]))
    if "function" in part:
        return globals()[part["function"]]
    if "type" in part:
        return globals()[part["type"]](**made(part["arguments"]))
    return {key: made(value) for key, value in part.items()}
