"""Attention under a derivative: the rule of `scaled_dot_product_attention`, by blocks of scores.

    s = scale q k^T + mask,   p = softmax(s),   o = p v
    ds = scale (dq k^T + q dk^T),   dp = p (ds - <p, ds>),   do = dp v + p dv

The value is that of torch's fused kernel, which gives o alone, so that do computes p again: seven products where o
takes two. No more than one block of scores is held at a time, and none is stored: the gradient through do computes them
once more (as in Dao et al. 2022, arXiv 2205.14135).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import dual_flash
from .dual import Dual, primal, tangent
from .dual_rules import Result, rule

SCORES_PER_BLOCK = {"cpu": 2**16, "cuda": 2**26}
"""The scores (of one query at least) that are held at a time, by kind of device: on a processor what its cache holds,
on others what keeps them busy."""

Maybe = Tensor | None
Block = tuple[slice, slice]


@dataclasses.dataclass(frozen=True)
class Scores:
    """How the scores of q (N, L, E) and k (N, S, E) are made.

    causal: no key after its query. mask (M, 1 or L, S): which keys are seen, or what is added. heads (N,): which of the
    M masks each head has.
    """

    scale: float
    causal: bool = False
    mask: Maybe = None
    heads: Maybe = None

    def probabilities(self, q: Tensor, k: Tensor, block: Block) -> Tensor:
        """p of a block of heads and queries, in float32 at least; 0 for a query that sees no key."""
        s = _wide(_products(self.scale, (q, k.mT)))
        if self.causal:
            queries = torch.arange(block[1].start, block[1].stop, device=q.device)
            s.masked_fill_(queries[:, None] < torch.arange(k.shape[1], device=q.device), -math.inf)
        if self.mask is None:
            return s.softmax(-1)
        mask = self.mask if self.mask.shape[1] == 1 else self.mask[:, block[1]]
        mask = mask if self.heads is None else mask[self.heads[block[0]]]
        s = s.masked_fill_(~mask, -math.inf) if mask.dtype == torch.bool else s.add_(mask)
        return s.softmax(-1).masked_fill(s.amax(-1, keepdim=True) == -math.inf, 0.0)


def _blocks(q: Tensor, k: Tensor) -> Iterator[Block]:
    """Heads and queries, as many together as fit in a block."""
    heads, queries = q.shape[:2]
    rows = max(1, SCORES_PER_BLOCK.get(q.device.type, 2**26) // k.shape[1])
    together = max(1, rows // queries)
    for head in range(0, heads, together):
        for query in range(0, queries, rows):
            yield slice(head, min(head + together, heads)), slice(query, min(query + rows, queries))


def _products(scale: float, *pairs: tuple[Maybe, Maybe]) -> Any:
    """scale sum_i a_i b_i over the pairs that are there; None if none is."""
    y: Any = None
    for a, b in pairs:
        if a is not None and b is not None:
            first = y is None
            y = torch.baddbmm(a.new_empty(()) if first else y, a, b, beta=0 if first else 1, alpha=scale)
    return y


def _turned(x: Maybe) -> Maybe:
    return None if x is None else x.mT


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _centred(ds: Tensor, p: Tensor) -> Tensor:
    """p (ds - <p, ds>): the derivative of a softmax, forward and reverse alike."""
    return torch._softmax_backward_data(ds, p, -1, p.dtype)


class AttentionTangent(torch.autograd.Function):
    """do (N, L, V) from q, dq (N, L, E), k, dk (N, S, E) and v, dv (N, S, V); None for a tangent that is zero."""

    @staticmethod
    def forward(ctx: Any, scores: Scores, *inputs: Any) -> Tensor:
        ctx.scores = scores
        ctx.save_for_backward(*inputs)
        q, k, v = inputs[:3]
        do = torch.empty(*q.shape[:2], v.shape[2], dtype=q.dtype, device=q.device)
        for block in _blocks(q, k):
            do[block] = _tangent_of_block(scores, block, *inputs)
        return do

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        inputs, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        with torch.autocast(g.device.type, enabled=False):
            if torch.is_grad_enabled():  # the gradient is differentiated again
                return None, *_gradients_with_graph(ctx.scores, inputs, needed, g)
            sums: list[Maybe] = [torch.zeros_like(x) if need else None for x, need in zip(inputs, needed, strict=True)]
            for block in _blocks(*inputs[:2]):
                _add_gradients(sums, ctx.scores, block, g[block], *inputs)
            return None, *sums


def _parts(block: Block, q: Tensor, k: Tensor, v: Tensor, dq: Maybe, dk: Maybe, dv: Maybe) -> tuple[Any, ...]:
    """What a block needs of each input: its queries, and all keys of its heads."""
    heads = block[0]
    return (
        q[block],
        k[heads],
        v[heads],
        *(None if x is None else x[p] for x, p in ((dq, block), (dk, heads), (dv, heads))),
    )


def _tangent_of_block(scores: Scores, block: Block, *inputs: Any) -> Tensor:
    q, k, v, dq, dk, dv = _parts(block, *inputs)
    p = scores.probabilities(q, k, block)
    ds = _products(scores.scale, (dq, k.mT), (q, _turned(dk)))
    dp = None if ds is None else _centred(_wide(ds), p).to(q.dtype)
    return _products(1.0, (dp, v), (p.to(q.dtype), dv))


def _add_gradients(sums: list[Maybe], scores: Scores, block: Block, g: Tensor, *inputs: Any) -> None:
    """With g the gradient of do, that of dp is a = g v^T, that of p is

    b = g dv^T + (a - <p, a>) ds - <p, ds> a,

    and those of ds and s follow by the derivative of a softmax, which is symmetric.
    """
    q, k, v, dq, dk, dv = _parts(block, *inputs)
    p = scores.probabilities(q, k, block)
    ds = _products(scores.scale, (dq, k.mT), (q, _turned(dk)))
    of_p, of_ds, dp = _products(1.0, (g, _turned(dv))), None, None
    if ds is not None:
        a, ds = _wide(torch.bmm(g, v.mT)), _wide(ds)
        mean_a, mean_ds = (p * a).sum(-1, keepdim=True), (p * ds).sum(-1, keepdim=True)
        through_dp = (a - mean_a).mul_(ds).addcmul_(a, mean_ds, value=-1)
        of_p = through_dp if of_p is None else through_dp.add_(of_p)
        of_ds, dp = ((p * d).to(q.dtype) for d in (a.sub_(mean_a), ds.sub_(mean_ds)))
    of_s = _centred(_wide(of_p), p).to(q.dtype)
    gradients = (
        lambda: _products(scores.scale, (of_s, k), (of_ds, dk)),
        lambda: _products(scores.scale, (of_s.mT, q), (_turned(of_ds), dq)),
        lambda: _products(1.0, (_turned(dp), g)),
        lambda: _products(scores.scale, (of_ds, k)),
        lambda: _products(scores.scale, (_turned(of_ds), q)),
        lambda: _products(1.0, (p.to(q.dtype).mT, g)),
    )
    for i, gradient in enumerate(gradients):
        part = gradient() if sums[i] is not None else None
        if part is not None:
            sums[i][block if i % 3 == 0 else block[0]] += part  # type: ignore[index]


def _gradients_with_graph(scores: Scores, inputs: Any, needed: Any, g: Tensor) -> list[Maybe]:
    """The same from autograd, which holds all scores."""
    do = _tangent_of_block(scores, _everything(inputs[0]), *inputs)
    moving = [x for x, need in zip(inputs, needed, strict=True) if need]
    gradients = iter(torch.autograd.grad(do, moving, g, create_graph=True, allow_unused=True))
    return [next(gradients) if need else None for need in needed]


def _everything(q: Tensor) -> Block:
    return slice(0, q.shape[0]), slice(0, q.shape[1])


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
    """With a key and a value for each head of the queries, where heads share them in groups."""
    if not grouped:
        return query, key, value
    key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    return query, key, value


def _as_written(query: Any, key: Any, value: Any, mask: Any, dropout: float, scale: float) -> Any:
    """o of dual numbers with all its scores, for what the blocks have no gradient of: dropout and masks that move or
    learn."""
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
        if torch.compiler.is_compiling():  # which fuses what is written whole
            return _tangent_of_block(scores, _everything(values[0]), *values, *tangents)
        graph = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (*values, *tangents))
        if mask is None and not graph and dual_flash.fits(*values):
            kernel = dual_flash.kernel(query.device)
            if kernel is not None:
                return dual_flash.tangent(kernel, scale, causal, values, tangents)
        return AttentionTangent.apply(scores, *values, *tangents)


def _rows(x: Maybe, lead: Any, dtype: torch.dtype) -> Any:
    """(..., L, E) as (N, L, E)."""
    return None if x is None else x.expand(*lead, *x.shape[-2:]).reshape(-1, *x.shape[-2:]).to(dtype)


def _dtype(x: Any) -> torch.dtype:
    """What autocast makes of the inputs of an attention."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) and x.dtype != torch.float64 else x.dtype


def _masks(mask: Maybe, lead: Any) -> tuple[Maybe, Maybe]:
    """The different masks (M, 1 or L, S), and which of them each head has where they are several."""
    if mask is None:
        return None, None
    mask = torch.atleast_2d(mask)
    several = mask.shape[:-2]
    masks = mask.reshape(-1, *mask.shape[-2:])
    if len(masks) == 1:
        return masks, None
    return masks, torch.arange(len(masks), device=mask.device).view(several).expand(lead).reshape(-1)
