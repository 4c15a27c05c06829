"""Dual numbers that are instances of torch.Tensor, for networks that ask `isinstance(x, torch.Tensor)`.

They hold no storage of their own: shape, dtype and device are the primal's, every operation goes to its rule, and what
would pass the rules by (an operation below `__torch_function__`) raises TypeError instead of losing the derivative.
`requires_grad` is False and `grad_fn` None: the graph is that of the primal and of the tangent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .dual import Detached, Dual


class _Shell(Tensor):
    """What dual numbers show of a tensor, without its storage."""

    @staticmethod
    def __new__(cls: Any, primal: Tensor, tangent: Tensor) -> Any:
        return Tensor._make_wrapper_subclass(cls, primal.shape, dtype=primal.dtype, device=primal.device)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise TypeError(f"expected an operation that dual numbers can follow, got {func} below them")


class DualTensor(Dual, _Shell):  # type: ignore[override]
    """A `Dual` that is an instance of torch.Tensor."""


class DetachedTensor(Detached, _Shell):  # type: ignore[override]
    """A `Detached` that is an instance of torch.Tensor."""


def dual_number(kind: type[Dual], primal: Tensor, tangent: Tensor) -> Dual:
    """A dual number as an instance of torch.Tensor, except in a compiled graph, where none can be made."""
    if torch.compiler.is_compiling():
        return kind(primal, tangent)
    return (DetachedTensor if kind is Detached else DualTensor)(primal, tangent)
