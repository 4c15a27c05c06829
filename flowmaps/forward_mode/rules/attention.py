"""The rule of `scaled_dot_product_attention`.

    p = softmax(scale q k^T + mask),   o = p v,   do = dp v + p dv

The value comes from torch's fused kernel, which returns o alone, so do recomputes p: seven products for the tangent,
two for the value. The tangent comes from `forward_mode.blocks`, or on CUDA, where supported, from `forward_mode.flash`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import flash
from ..blocks import AttentionTangent, Scores
from ..dual import Dual, primal, tangent
from .common import Result, rule

Maybe = Tensor | None


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
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if dropout_p > 0 or isinstance(attn_mask, Dual) or (attn_mask is not None and attn_mask.requires_grad):
        if is_causal:
            attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        query, key, value = _of_all_heads(query, key, value, enable_gqa)
        o = _as_written(query, key, value, attn_mask, dropout_p, scale)
        return primal(o), lambda: tangent(o)
    grouped = {"enable_gqa": True} if enable_gqa else {}
    values = [primal(x) for x in (query, key, value)]
    o = func(*values, attn_mask, is_causal=is_causal, scale=scale, **grouped)
    return o, lambda: _tangent(query, key, value, attn_mask, is_causal, scale, enable_gqa).view(o.shape)


def _of_all_heads(query: Any, key: Any, value: Any, grouped: bool) -> tuple[Any, Any, Any]:
    """Repeat keys and values for each query head, if heads share them in groups."""
    if not grouped:
        return query, key, value
    key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    return query, key, value


def _as_written(query: Any, key: Any, value: Any, mask: Any, dropout: float, scale: float) -> Any:
    """Compute attention of dual numbers with all scores stored, for dropout and masks with a tangent or gradient."""
    scores = torch.matmul(query * scale, key.transpose(-2, -1))
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return torch.matmul(F.dropout(scores.softmax(-1), dropout), value)


def _tangent(query: Any, key: Any, value: Any, mask: Maybe, causal: bool, scale: float, grouped: bool) -> Tensor:
    duals = _of_all_heads(query, key, value, grouped)
    lead = torch.broadcast_shapes(*(x.shape[:-2] for x in duals))
    dtype = _dtype(query)
    values, tangents = (tuple(_rows(part(x), lead, dtype) for x in duals) for part in (primal, tangent))
    scores = Scores(scale, causal, *_masks(mask, lead))
    with torch.autocast(query.device.type, enabled=False):
        graph = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (*values, *tangents))
        if mask is None and not (graph or torch.compiler.is_compiling()) and flash.fits(*values):
            kernel = flash.kernel(query.device, dtype)
            if kernel is not None:
                return flash.tangent(kernel, scale, causal, values, tangents)
        return AttentionTangent.apply(scores, *values, *tangents)


def _rows(x: Maybe, lead: Any, dtype: torch.dtype) -> Any:
    """Flatten (..., L, E) to (N, L, E)."""
    return None if x is None else x.expand(*lead, *x.shape[-2:]).reshape(-1, *x.shape[-2:]).to(dtype)


def _dtype(x: Any) -> torch.dtype:
    """Return the dtype to which autocast casts the inputs of attention."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) and x.dtype != torch.float64 else x.dtype


def _masks(mask: Maybe, lead: Any) -> tuple[Maybe, Maybe]:
    """Return the distinct masks (M, 1 or L, S), and the index of each head's mask if M > 1."""
    if mask is None:
        return None, None
    mask = torch.atleast_2d(mask)
    several = mask.shape[:-2]
    masks = mask.reshape(-1, *mask.shape[-2:])
    if len(masks) == 1:
        return masks, None
    return masks, torch.arange(len(masks), device=mask.device).view(several).expand(lead).reshape(-1)
