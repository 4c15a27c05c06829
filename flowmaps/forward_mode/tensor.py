"""Dual numbers that are instances of torch.Tensor, for networks that ask `isinstance(x, torch.Tensor)`.

They have no storage of their own: shape, dtype and device are the primal's, and every operation goes to its rule. An
operation that would bypass the rules (below `__torch_function__`, or a `torch.autograd.Function`) raises TypeError
instead of losing the derivative or a gradient. `requires_grad` is False and `grad_fn` None: the primal and the tangent
have graphs, the pair has none.

For torch's pytrees a dual number is a pair of tensors, so wrappers that search a module's inputs and outputs for
tensors (DDP, FSDP2) find both.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .dual import Detached, Dual

_GRAD_FN: Any = torch._C.TensorBase.grad_fn


class _Shell(Tensor):
    """A tensor without storage, with the shape, dtype and device of a dual number.

    For autograd it requires a gradient if its primal or tangent does. It has a history only if an autograd function
    made it.
    """

    @staticmethod
    def __new__(cls: Any, primal: Tensor, tangent: Tensor) -> Any:
        needs = torch.is_grad_enabled() and (primal.requires_grad or tangent.requires_grad)
        return Tensor._make_wrapper_subclass(
            cls, primal.shape, dtype=primal.dtype, device=primal.device, requires_grad=needs
        )

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise TypeError(f"expected an operation that dual numbers can follow, got {func} below them")


def check(*results: Any) -> None:
    """Refuse dual numbers made by an autograd function, whose gradient would be lost.

    Raises:
        TypeError: naming the autograd function.
    """
    for x in results:
        if isinstance(x, _Shell):
            with torch._C.DisableTorchFunctionSubclass():
                made_by = _GRAD_FN.__get__(x)
            if made_by is not None:
                raise TypeError(
                    f"expected operations that dual numbers can follow, got the autograd function {made_by.name()}: "
                    "checkpoint with use_reentrant=False, or take the derivative by derivative.separate or "
                    "finite_difference"
                )


class _Guarded:
    """A mixin that checks the arguments of every operation."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        for x in args:
            check(*x) if isinstance(x, (list, tuple)) else check(x)
        return super().__torch_function__(func, types, args, kwargs)  # type: ignore[misc]


class DualTensor(_Guarded, Dual, _Shell):
    """A `Dual` that is an instance of torch.Tensor."""


class DetachedTensor(_Guarded, Detached, _Shell):
    """A `Detached` that is an instance of torch.Tensor."""


for _kind in (Dual, Detached, DualTensor, DetachedTensor):
    pytree.register_pytree_node(
        _kind,
        lambda x: ([x.primal, x.tangent], type(x)),
        lambda pair, kind: (kind if all(isinstance(x, Tensor) for x in pair) else Dual)(*pair),
        serialized_type_name=f"flowmaps.{_kind.__name__}",
    )


def dual_number(kind: type[Dual], primal: Tensor, tangent: Tensor) -> Dual:
    """Make a dual number that is an instance of torch.Tensor.

    Args:
        kind: `Dual` or `Detached`.
        primal: the value.
        tangent: its tangent, of the same shape and dtype.

    Returns:
        The dual number; in a compiled graph, which cannot make tensor subclasses, a plain `Dual`.
    """
    if torch.compiler.is_compiling():
        return kind(primal, tangent)
    return (DetachedTensor if kind is Detached else DualTensor)(primal, tangent)
