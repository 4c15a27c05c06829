"""The rules of forward mode for the layers of networks: affine maps, dropout, normalisation, softmax and attention.

Some of them use that an operation whose Jacobian is symmetric has equal forward and reverse derivatives, so that
torch's fused backward kernel, which can be differentiated again, is its tangent.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .dual import Dual, primal, tangent
from .dual_rules import Result, product_rule, rule, total

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


@rule("linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d")
def _affine(func: Any, x: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Result:
    db = tangent(bias.reshape(-1, *[1] * (weight.ndim - 2))) if isinstance(bias, Dual) else None
    value = func(primal(x), primal(weight), primal(bias), *args, **kwargs)
    return value, lambda: total(product_rule(func, (x, weight, None, *args), kwargs), db)


@rule("pad")
def _pad(func: Any, x: Dual, pad: Any, mode: str = "constant", value: float | None = None) -> Result:
    return func(x.primal, pad, mode, value), lambda: func(x.tangent, pad, mode, None)


@rule("dropout dropout1d dropout2d dropout3d")
def _dropout(func: Any, x: Dual, p: float = 0.5, training: bool = True, inplace: bool = False) -> Result:
    if not training or p == 0:
        return x.primal, lambda: x.tangent
    mask = func(torch.ones_like(x.primal), p, training)
    return x.primal * mask, lambda: x.tangent * mask


@rule("softmax")
def _softmax(func: Any, x: Dual, dim: int, *args: Any, **kwargs: Any) -> Result:
    y = func(x.primal, dim, *args, **kwargs)
    return y, lambda: torch._softmax_backward_data(x.tangent.to(y.dtype), y, dim, y.dtype)


@rule("log_softmax")
def _log_softmax(func: Any, x: Dual, dim: int, *args: Any, **kwargs: Any) -> Result:
    y = func(x.primal, dim, *args, **kwargs)
    return y, lambda: x.tangent - (y.exp() * x.tangent).sum(dim, keepdim=True)


@rule("layer_norm")
def _layer_norm(
    func: Any, x: Any, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5, *args: Any
) -> Result:
    y = func(primal(x), shape, primal(weight), primal(bias), eps, *args)

    def dy() -> Tensor | None:
        dn = _standardised_tangent(x, shape, eps, y.dtype) if isinstance(x, Dual) else None
        return _rescaled_tangent(dn, lambda: func(primal(x), shape, None, None, eps), weight, bias)

    return y, dy


@rule("group_norm")
def _group_norm(
    func: Any, x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *args: Any
) -> Result:
    y = func(primal(x), groups, primal(weight), primal(bias), eps, *args)
    channels = (-1, *[1] * (x.ndim - 2))

    def dy() -> Tensor | None:
        dn = None
        if isinstance(x, Dual):
            rows = x.reshape(x.shape[0], groups, -1)
            dn = _standardised_tangent(rows, rows.shape[2:], eps, y.dtype).reshape(x.shape)
        w, b = (None if p is None else p.reshape(channels) for p in (weight, bias))
        return _rescaled_tangent(dn, lambda: func(primal(x), groups, None, None, eps), w, b)

    return y, dy


@rule("rms_norm")
def _rms_norm(func: Any, x: Any, shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Result:
    def dy() -> Tensor | None:
        dn = _root_mean_square_tangent(x, shape, eps) if isinstance(x, Dual) else None
        return _rescaled_tangent(dn, lambda: func(primal(x), shape, None, eps), weight, None)

    return func(primal(x), shape, primal(weight), eps), dy


def _standardised_tangent(x: Dual, shape: Sequence[int], eps: float, dtype: torch.dtype) -> Tensor:
    """Tangent of n = (x - <x>) r,  r = 1/std:  r (dx - <dx> - n <n dx>), whose Jacobian is symmetric."""
    value, dx = x.primal.to(dtype), x.tangent.to(dtype)
    _, mean, r = torch.native_layer_norm(value, shape, None, None, eps)
    return torch.ops.aten.native_layer_norm_backward(dx, value, shape, mean, r, None, None, [True, False, False])[0]


def _root_mean_square_tangent(x: Dual, shape: Sequence[int], eps: float | None) -> Tensor:
    """Tangent of n = x r,  r = 1/sqrt(<x^2> + eps):  r (dx - n <n dx>), in float32 at least."""
    wide = torch.promote_types(x.dtype, torch.float32)
    value, dx = x.primal.to(wide), x.tangent.to(wide)
    dims = tuple(range(-len(shape), 0))
    r = torch.rsqrt(value.square().mean(dims, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps))
    n = value * r
    return r * (dx - n * (n * dx).mean(dims, keepdim=True))


def _rescaled_tangent(dn: Tensor | None, n: Callable[[], Tensor], weight: Any, bias: Any) -> Tensor | None:
    """Tangent of n w + b:  dn w + n dw + db."""
    if dn is not None and weight is not None:
        dn = dn * primal(weight)
    if isinstance(weight, Dual):
        dn = total(dn, n() * weight.tangent)
    return total(dn, tangent(bias))


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
