"""The rules of forward mode for the layers of networks: gates, dropout, softmax and attention.

Some of them use that an operation whose Jacobian is symmetric has equal forward and reverse derivatives, so that
torch's fused backward kernel, which can be differentiated again, is its tangent.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .dual import Dual, primal, tangent
from .dual_elementwise import SELU_ALPHA, SELU_SCALE
from .dual_rules import Result, composed, product_rule, rule

SCORES_PER_BLOCK = 2**26
"""Attention works on blocks of queries of at most this many scores, which bounds its working memory."""


@rule("gelu")
def _gelu(func: Any, x: Dual, *args: Any, **kwargs: Any) -> Result:
    return func(x.primal, *args, **kwargs), lambda: torch.ops.aten.gelu_backward(x.tangent, x.primal, *args, **kwargs)


@rule("silu")
def _silu(func: Any, x: Dual, inplace: bool = False) -> Result:
    y = func(x.primal)

    def dy() -> Tensor:
        if not torch.is_grad_enabled():  # the fused kernel has no derivative of its own
            return torch.ops.aten.silu_backward(x.tangent, x.primal)
        gate = torch.sigmoid(x.primal)
        return x.tangent * (gate + y * (1 - gate))

    return y, dy


@rule("pad")
def _pad(func: Any, x: Dual, pad: Any, mode: str = "constant", value: float | None = None) -> Result:
    return func(x.primal, pad, mode, value), lambda: func(x.tangent, pad, mode, None)


@rule("dropout dropout1d dropout2d dropout3d")
def _dropout(func: Any, x: Dual, p: float = 0.5, training: bool = True, inplace: bool = False) -> Result:
    if not training or p == 0:
        return x.primal, lambda: x.tangent
    mask = func(torch.ones_like(x.primal), p, training)
    return x.primal * mask, lambda: x.tangent * mask


@rule("alpha_dropout feature_alpha_dropout")
def _alpha_dropout(func: Any, x: Dual, p: float = 0.5, training: bool = False, inplace: bool = False) -> Result:
    """y = a x + b where a unit is kept, and there alone is y(0) = b positive."""
    if not training or p == 0:
        return x.primal, lambda: x.tangent
    of_zero = func(torch.zeros_like(x.primal), p, training)
    slope = (of_zero > 0).to(x.dtype) / math.sqrt((1 - p) * (1 + p * (SELU_SCALE * SELU_ALPHA) ** 2))
    return of_zero + x.primal * slope, lambda: x.tangent * slope


@rule("softmax")
def _softmax(func: Any, x: Dual, dim: int, *args: Any, **kwargs: Any) -> Result:
    y = func(x.primal, dim, *args, **kwargs)
    return y, lambda: torch._softmax_backward_data(x.tangent.to(y.dtype), y, dim, y.dtype)


@rule("log_softmax")
def _log_softmax(func: Any, x: Dual, dim: int, *args: Any, **kwargs: Any) -> Result:
    y = func(x.primal, dim, *args, **kwargs)
    return y, lambda: x.tangent - (y.exp() * x.tangent).sum(dim, keepdim=True)


@composed("softmin")
def _softmin(x: Any, dim: int, *args: Any, **kwargs: Any) -> Any:
    return F.softmax(-x, dim, *args, **kwargs)


@rule("scaled_dot_product_attention")
def _attention(
    func: Any,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Result:
    """o = p v,  p = softmax(q k^T / sqrt(d) + mask);  do = dp v + p dv.

    The fused kernels give o alone, so that p is computed again for do, by blocks of queries.
    """
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    weights = functools.partial(_attention_weights, query, key, attn_mask, scale)
    if dropout_p > 0:  # value and tangent need the same mask
        o = torch.cat([torch.matmul(F.dropout(p, dropout_p), value) for p in weights()], -2)
        return primal(o), lambda: tangent(o)
    o = func(*map(primal, (query, key, value, attn_mask)), scale=scale)
    return o, lambda: torch.cat([product_rule(torch.matmul, (p, value), {}) for p in weights()], -2)


def _attention_weights(query: Any, key: Any, mask: Any, scale: float | None) -> Iterator[Any]:
    """softmax(q k^T / sqrt(d) + mask) for one block of queries after the other."""
    keys, source = key.transpose(-2, -1), key.shape[-2]
    scaled = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    block = max(1, SCORES_PER_BLOCK // (math.prod(key.shape[:-2]) * source))
    for first in range(0, query.shape[-2], block):
        scores = torch.matmul(scaled[..., first : first + block, :], keys)
        if mask is not None:
            part = mask if mask.shape[-2] == 1 else mask[..., first : first + block, :]
            scores = scores.masked_fill(~part, -math.inf) if part.dtype == torch.bool else scores + part
        yield scores.softmax(-1)
