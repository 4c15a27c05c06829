"""Copies of a network that follow its weights: what is not trained stays the same tensor in all of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def copied(module: M) -> M:
    """A deep copy with copies of the weights that are trained, sharing those that require no gradient.

    They are the same parameters, not only the same numbers: moved to another device or dtype in one of the modules,
    they are moved in all.
    """
    return copy.deepcopy(module, {id(weight): weight for weight in module.parameters() if not weight.requires_grad})


def trainable_copy(module: M) -> M:
    """As `copied`; of a module that is frozen as a whole a copy of its own, all of which is trained."""
    frozen = not any(weight.requires_grad for weight in module.parameters())
    return copy.deepcopy(module).requires_grad_() if frozen else copied(module)


@torch.no_grad()
def copy_weights(target: nn.Module, source: nn.Module, share: float = 1.0) -> None:
    """target <- (1 - share) target + share source for the weights that the two do not share; buffers are copied."""
    moved = list(pairs(target, source))
    mine, theirs = [a for a, _ in moved], [b for _, b in moved]
    if mine and share < 1:  # torch's lists of tensors must not be empty
        torch._foreach_lerp_(mine, theirs, share)
    else:
        for a, b in moved:
            a.copy_(b)
    for a, b in zip(target.buffers(), source.buffers(), strict=True):
        a.copy_(b)


def pairs(target: nn.Module, source: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """The weights of a copy with those that it was copied from, but for those that are shared. Raises RuntimeError for
    one that is trained by now.
    """
    for a, b in zip(target.parameters(), source.parameters(), strict=True):
        if a is not b:
            yield a, b
        elif b.requires_grad:
            raise RuntimeError(
                "a weight that was frozen requires a gradient now, and a copy of the network was made in between that "
                "shares it: decide what is trained before the first loss"
            )
