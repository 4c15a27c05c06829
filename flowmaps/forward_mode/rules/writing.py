"""Rules for tensors that are written into: scatter, index operations, and an empty tensor that is filled.

Dual numbers are immutable, because a tensor may share its storage with others. A tensor made by `empty_like` shares it
with none, so it alone may be filled:  out = torch.empty_like(x); out[..., 0::2] = y; ...  Elements that are not filled
have a zero tangent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..dual import Dual, in_place, primal, single_jvp, tangent
from .common import Result, jointly_linear, rule


@rule("scatter_add index_add index_copy masked_scatter slice_scatter select_scatter diagonal_scatter index_put")
def put(func: Any, *args: Any, **kwargs: Any) -> Result:
    """The rule of operations that are linear in the written tensor and in its new content together."""
    return jointly_linear(func, args, kwargs, lambda x: isinstance(x, Tensor) and x.is_floating_point())


@rule("scatter index_fill")
def _scatter(func: Any, x: Any, dim: int, index: Tensor, *value: Any, **kwargs: Any) -> Result:
    if "reduce" in kwargs:
        return single_jvp(func, x, dim, index, *value, **kwargs)
    (source,) = (*value, *kwargs.values())
    if not isinstance(source, (Tensor, Dual)):
        return func(primal(x), dim, index, source), lambda: func(x.tangent, dim, index, 0.0)
    return put(func, x, dim, index, source)


@rule("scatter_reduce")
def _scatter_reduce(func: Any, x: Any, dim: int, index: Tensor, src: Any, reduce: str, **kwargs: Any) -> Result:
    if reduce not in ("sum", "mean"):
        return single_jvp(func, x, dim, index, src, reduce, **kwargs)
    return put(func, x, dim, index, src, reduce, **kwargs)


@rule("empty_like")
def _empty(func: Any, x: Dual, **kwargs: Any) -> Result:
    value = func(x.primal, **kwargs)
    blank = type(x)._pair(value, lambda: torch.zeros_like(value))
    if isinstance(blank, Dual):
        object.__setattr__(blank, "_blank", True)
    return blank, None


@rule("__setitem__")
def _fill(func: Any, out: Any, index: Any, value: Any) -> Result:
    if "_blank" not in getattr(out, "__dict__", ()):
        raise in_place(func)
    out.primal[index] = primal(value)
    d = tangent(value)
    out.tangent[index] = 0.0 if d is None else d
    return None, None
