"""The rules of a tensor that is made empty and filled:  out = torch.empty_like(x); out[..., 0::2] = y; ...

Dual numbers are immutable, since a number may share its storage with others. What `empty_like` has made shares it with
none, so it alone may be filled; what is not filled has the tangent zero.
"""

from __future__ import annotations

from typing import Any

import torch

from ..dual import Dual, Tangent, in_place, primal, tangent
from .common import rule


@rule("empty_like")
def _empty(func: Any, x: Dual, **kwargs: Any) -> tuple[Any, Tangent | None]:
    value = func(x.primal, **kwargs)
    blank = type(x)._pair(value, lambda: torch.zeros_like(value))
    if isinstance(blank, Dual):
        object.__setattr__(blank, "_blank", True)
    return blank, None


@rule("__setitem__")
def _fill(func: Any, out: Any, index: Any, value: Any) -> tuple[Any, Tangent | None]:
    if "_blank" not in getattr(out, "__dict__", ()):
        raise in_place(func)
    out.primal[index] = primal(value)
    d = tangent(value)
    out.tangent[index] = 0.0 if d is None else d
    return None, None
