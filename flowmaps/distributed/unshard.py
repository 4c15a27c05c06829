"""Weights that are spread over processes, made whole again."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, TypeVar

from torch import nn

from .shards import is_sharded

M = TypeVar("M", bound=nn.Module)


def whole(module: M) -> M:
    """A copy of a module with all its weights, for sampling; all processes have to ask for it. The module itself where
    nothing is spread.
    """
    spread = {id(weight): weight for weight in module.parameters() if is_sharded(weight)}
    return copy.deepcopy(module, {key: gathered(weight) for key, weight in spread.items()}) if spread else module


def release(modules: Iterable[nn.Module]) -> None:
    """Give modules their weights whole, as they were before they were spread; all processes have to do it."""
    places = [
        (part, name, weight)
        for module in modules
        for part in module.modules()
        for name, weight in part.named_parameters(recurse=False, remove_duplicate=False)
        if is_sharded(weight)
    ]
    spread = {id(weight): weight for _, _, weight in places}
    known = {key: gathered(weight) for key, weight in spread.items()}
    for part, name, weight in places:
        setattr(part, name, known[id(weight)])


def gathered(weight: Any) -> nn.Parameter:
    """A weight that is spread over processes, whole."""
    return nn.Parameter(weight.detach().full_tensor(), weight.requires_grad)
