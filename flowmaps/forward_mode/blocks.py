"""The tangent of attention, one block of scores at a time; the gradient recomputes the scores.

    s = scale q k^T + mask,   p = softmax(s),   ds = scale (dq k^T + q dk^T),   dp = p (ds - <p, ds>)
    do = dp v + p dv

At most one block of scores is in memory at a time, and none is stored (as in Dao et al. 2022, arXiv 2205.14135).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

SCORES_PER_BLOCK = {"cpu": 2**17}
"""Scores in one block, by device type; at least one query's. On a CPU a block fits into the cache."""
MOST_SCORES_PER_BLOCK = 2**26
"""The same for other devices, which need larger blocks to be busy, and for compiled graphs, which unroll the blocks."""

Maybe = Tensor | None
Block = tuple[slice, slice]


@dataclasses.dataclass(frozen=True)
class Scores:
    """The scores of queries q (N, L, E) and keys k (N, S, E).

    Attributes:
        scale: factor of q k^T.
        causal: whether a query sees only keys up to its own position.
        mask: (M, 1 or L, S); boolean (True: the key is seen) or added to the scores. None: no mask.
        heads: (N,), the index of each head's mask among the M masks. None: one mask for all heads.
    """

    scale: float
    causal: bool = False
    mask: Maybe = None
    heads: Maybe = None

    def probabilities(self, q: Tensor, k: Tensor, block: Block) -> Tensor:
        """Compute p for one block of heads and queries.

        Args:
            q: queries (N, L, E).
            k: keys (N, S, E) of the heads in the block.
            block: slices of heads and queries.

        Returns:
            The attention probabilities, in float32 at least; zero for a query that sees no key.
        """
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
    """Yield slices of heads and queries whose scores fit into one block."""
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
    """Compute scale sum_i a_i b_i over the pairs without None; None if no pair is left."""
    y: Any = None
    for a, b in pairs:
        if a is not None and b is not None:
            first = y is None
            y = torch.baddbmm(a.new_empty(()) if first else y, a, b, beta=0 if first else 1, alpha=scale)
    return y


def _transposed(x: Maybe) -> Maybe:
    return None if x is None else x.mT


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _centred(ds: Tensor, p: Tensor) -> Tensor:
    """Compute p (ds - <p, ds>), the derivative of softmax; its Jacobian is symmetric, so this is also the gradient."""
    return torch._softmax_backward_data(ds, p, -1, p.dtype)


class AttentionTangent(torch.autograd.Function):
    """Tangent of attention: do (N, L, V) from q, k, v, dq, dk, dv; a tangent of None is zero.

    Shapes: q, dq (N, L, E), k, dk (N, S, E), v, dv (N, S, V).
    """

    @staticmethod
    def forward(ctx: Any, scores: Scores, *inputs: Any) -> Tensor:
        """Compute do block by block."""
        ctx.scores = scores
        ctx.save_for_backward(*inputs)
        q, k, v = inputs[:3]
        do = torch.empty(*q.shape[:2], v.shape[2], dtype=q.dtype, device=q.device)
        for block in _blocks(q, k):
            do[block] = _tangent_of_block(scores, block, *inputs)
        return do

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        """Compute the gradients of all six inputs block by block, or by autograd if they are differentiated again."""
        inputs, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        with torch.autocast(g.device.type, enabled=False):
            if torch.is_grad_enabled():  # the gradient is differentiated again
                return None, *_gradients_with_graph(ctx.scores, inputs, needed, g)
            sums: list[Maybe] = [torch.zeros_like(x) if need else None for x, need in zip(inputs, needed, strict=True)]
            for block in _blocks(*inputs[:2]):
                _add_gradients(sums, ctx.scores, block, g[block], *inputs)
            return None, *sums


def _parts(block: Block, q: Tensor, k: Tensor, v: Tensor, dq: Maybe, dk: Maybe, dv: Maybe) -> tuple[Any, ...]:
    """Cut each input to a block: its queries, and all keys of its heads."""
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
    ds = _products(scores.scale, (dq, k.mT), (q, _transposed(dk)))
    dp = None if ds is None else _centred(_wide(ds), p).to(q.dtype)
    return _products(1.0, (dp, v), (p.to(q.dtype), dv))


def _add_gradients(sums: list[Maybe], scores: Scores, block: Block, g: Tensor, *inputs: Any) -> None:
    """Add the gradients of one block to `sums`.

    With g the gradient of do, the gradient of dp is a = g v^T and the gradient of p is

        b = g dv^T + (a - <p, a>) ds - <p, ds> a.

    The gradients of ds and s follow from them by the derivative of softmax, whose Jacobian is symmetric.
    """
    q, k, v, dq, dk, dv = _parts(block, *inputs)
    p = scores.probabilities(q, k, block)
    ds = _products(scores.scale, (dq, k.mT), (q, _transposed(dk)))
    of_p, of_ds, dp = _products(1.0, (g, _transposed(dv))), None, None
    if ds is not None:
        a, ds = _wide(torch.bmm(g, v.mT)), _wide(ds)
        mean_a, mean_ds = (p * a).sum(-1, keepdim=True), (p * ds).sum(-1, keepdim=True)
        through_dp = (a - mean_a).mul_(ds).addcmul_(a, mean_ds, value=-1)
        of_p = through_dp if of_p is None else through_dp.add_(of_p)
        of_ds, dp = ((p * d).to(q.dtype) for d in (a.sub_(mean_a), ds.sub_(mean_ds)))
    of_s = _centred(_wide(of_p), p).to(q.dtype)
    gradients = (
        lambda: _products(scores.scale, (of_s, k), (of_ds, dk)),
        lambda: _products(scores.scale, (of_s.mT, q), (_transposed(of_ds), dq)),
        lambda: _products(1.0, (_transposed(dp), g)),
        lambda: _products(scores.scale, (of_ds, k)),
        lambda: _products(scores.scale, (_transposed(of_ds), q)),
        lambda: _products(1.0, (p.to(q.dtype).mT, g)),
    )
    for i, gradient in enumerate(gradients):
        part = gradient() if sums[i] is not None else None
        if part is not None:
            sums[i][block if i % 3 == 0 else block[0]] += part  # type: ignore[index]


def _gradients_with_graph(scores: Scores, inputs: Any, needed: Any, g: Tensor) -> list[Maybe]:
    """Compute the same gradients by autograd, which stores all scores."""
    everything = slice(0, inputs[0].shape[0]), slice(0, inputs[0].shape[1])
    do = _tangent_of_block(scores, everything, *inputs)
    moving = [x for x, need in zip(inputs, needed, strict=True) if need]
    gradients = iter(torch.autograd.grad(do, moving, g, create_graph=True, allow_unused=True))
    return [next(gradients) if need else None for need in needed]
