"""Copies of a network that follow its weights. All copies share the frozen weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

M = TypeVar("M", bound=nn.Module)


def copied(module: M) -> M:
    """Deep copy of a module that shares the weights without gradient.

    Shared weights are the same parameters: if one of the modules is moved to another device or dtype, they move in all
    of them.

    Args:
        module: The module.

    Returns:
        The copy.

    Raises:
        TypeError: A part is compiled by TorchScript, whose weights torch cannot copy.
    """
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise TypeError(
                f"training keeps copies of the network, and torch cannot copy a TorchScript module"
                f"{f' ({name})' if name else ''}: give the module that torch.jit was called on, and compile by "
                "compile=True"
            )
    return copy.deepcopy(module, _results(module) | {id(w): w for w in module.parameters() if not w.requires_grad})


def trainable_copy(module: M) -> M:
    """Trainable copy: as `copied`, but if every weight is frozen, all are copied and made trainable."""
    frozen = not any(weight.requires_grad for weight in module.parameters())
    return copy.deepcopy(module, _results(module)).requires_grad_() if frozen else copied(module)


def _results(module: nn.Module) -> dict[int, Any]:
    """Map the tensors with a graph that modules keep to constants, for `copy.deepcopy`, which refuses them.

    The old `weight_norm` and `spectral_norm` keep the weight of the last call, other modules an activation.
    """
    kept = (leaf for part in module.modules() for leaf in pytree.tree_leaves(vars(part)))
    return {id(x): x.detach().clone() for x in kept if isinstance(x, Tensor) and x.grad_fn is not None}


@torch.no_grad()
def copy_weights(target: nn.Module, source: nn.Module, share: float = 1.0) -> None:
    """Move a copy towards its source, target <- (1 - share) target + share source, and copy the buffers.

    Args:
        target: The copy. Shared weights are unchanged.
        source: The network to follow.
        share: Weight of the source; 1 copies it.

    Raises:
        RuntimeError: A shared weight has been made trainable.
    """
    moved = list(pairs(target, source))
    mine, theirs = [a for a, _ in moved], [b for _, b in moved]
    if mine and share < 1:  # torch._foreach functions refuse empty lists
        torch._foreach_lerp_(mine, theirs, share)
    else:
        for a, b in moved:
            a.copy_(b)
    for a, b in zip(target.buffers(), source.buffers(), strict=True):
        a.copy_(b)


def pairs(target: nn.Module, source: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate over pairs of a weight of a copy and the same weight of its source, without shared weights.

    Args:
        target: The copy.
        source: The network it was copied from.

    Yields:
        A weight of the copy and the same weight of the source.

    Raises:
        RuntimeError: A shared weight has been made trainable.
    """
    for a, b in zip(target.parameters(), source.parameters(), strict=True):
        if a is not b:
            yield a, b
        elif b.requires_grad:
            raise RuntimeError(
                "a frozen weight requires a gradient now, but an earlier copy of the network shares it: set "
                "requires_grad before the first loss"
            )
