"""The tangent of an attention by blocks of scores, with a gradient that computes them again.

    s = scale q k^T + mask,   p = softmax(s),   ds = scale (dq k^T + q dk^T),   dp = p (ds - <p, ds>)
    do = dp v + p dv

No more than one block of scores is held at a time, and none is stored (as in Dao et al. 2022, arXiv 2205.14135).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

SCORES_PER_BLOCK = {"cpu": 2**17}
"""The scores held at a time (of one query at least), by kind of device: on a processor those that its cache holds."""
MOST_SCORES_PER_BLOCK = 2**26
"""On other devices, which need more to be busy, and in compiled graphs, where each block is code of its own."""

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
    heads, queries, keys = *q.shape[:2], k.shape[1]
    most = MOST_SCORES_PER_BLOCK
    if not torch.compiler.is_compiling():
        most = SCORES_PER_BLOCK.get(q.device.type, most)
    if heads * queries * keys <= most:
        yield slice(0, heads), slice(0, queries)
        return
    rows = max(1, most // keys)
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
    everything = slice(0, inputs[0].shape[0]), slice(0, inputs[0].shape[1])
    do = _tangent_of_block(scores, everything, *inputs)
    moving = [x for x, need in zip(inputs, needed, strict=True) if need]
    gradients = iter(torch.autograd.grad(do, moving, g, create_graph=True, allow_unused=True))
    return [next(gradients) if need else None for need in needed]
