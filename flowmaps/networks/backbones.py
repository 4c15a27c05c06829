"""Backbones of autoregressive models: context vectors of a sequence, each of the frames before it.

A backbone is a module with three methods.

- backbone(past, **condition): the contexts (B, T, size) of sequences (B, T, C). Context k sees the frames before k.
- begin(rows, **condition): the state before the first frame of `rows` sequences.
- next(state, frame): the next context (B, size) and the next state; frame (B, C) is the last one, None at the start.

The last two make a sequence frame by frame, with the work of one frame a call.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import MOST_LAYERS, MOST_WIDTH, between, given, positive
from ..serialise import describable
from .embeddings import LabelEmbedding, refuse_label
from .layers import rms_norm


class FrameInput(nn.Module):
    """The input layer of a backbone: a learned vector before the first frame, and the label beside every frame.

    Args:
        channels: numbers of a frame.
        width: width of the backbone.
        classes: number of classes. None: unconditional.
    """

    def __init__(self, channels: int, width: int, classes: int | None) -> None:
        super().__init__()
        self.frame = nn.Linear(channels, width)
        self.first = nn.Parameter(torch.randn(width) / width**0.5)
        self.label = None if classes is None else LabelEmbedding(classes, width)

    def embedded(self, label: Tensor | int | None) -> Tensor | float:
        """The embedding of labels (B,), as (B or 1, width); 0 without classes."""
        if self.label is None:
            refuse_label(label)
            return 0.0
        return self.label(label)

    def forward(self, frame: Tensor | None, rows: int, told: Tensor | float) -> Tensor:
        """The input (B, width) after the frame (B, C); of the first one if it is None."""
        h = self.first.expand(rows, -1) if frame is None else self.frame(frame)
        return h + told

    def shifted(self, past: Tensor, told: Tensor | float) -> Tensor:
        """The inputs (B, T, width) of sequences (B, T, C): the frame before each, and the learned start."""
        if past.ndim != 3 or past.shape[-1] != self.frame.in_features:
            raise ValueError(
                f"this backbone takes sequences (B, T, {self.frame.in_features}) of frames, got {tuple(past.shape)}"
            )
        first = self.first.expand(len(past), 1, -1)
        h = torch.cat([first, self.frame(past[:, :-1])], 1)
        return h + (told[:, None] if isinstance(told, Tensor) else told)


class Cache(NamedTuple):
    """The state of a `CausalTransformer`.

    Attributes:
        position: number of frames so far.
        keys: keys and values of each block, (B, heads, n, d).
        told: embedding of the labels.
        rows: number of sequences.
    """

    position: int
    keys: tuple[tuple[Tensor, Tensor] | None, ...]
    told: Tensor | float
    rows: int


class CausalBlock(nn.Module):
    """Attention to the frames so far, then an MLP, each behind a norm; queries and keys have rotary positions.

    Args:
        width: width of a frame.
        heads: number of attention heads.
        mlp_ratio: hidden width of the MLP over `width`.
        window: number of frames that a frame sees, itself included. None: all.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, window: int | None) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query_norm, self.key_norm = nn.RMSNorm(width // heads, eps=1e-6), nn.RMSNorm(width // heads, eps=1e-6)
        self.first_norm, self.second_norm = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.inner, self.outer = nn.Linear(width, int(mlp_ratio * width)), nn.Linear(int(mlp_ratio * width), width)

    def parts(self, h: Tensor, position: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, heads, N, d) of frames (B, N, width) from a position on."""
        q, k, v = self.qkv(self.first_norm(h)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        turn = angles(position, h.shape[1], q)
        return turned(self.query_norm(q), *turn), turned(self.key_norm(k), *turn), v

    def mixed(self, h: Tensor, attended: Tensor) -> Tensor:
        """The output of the block for frames (B, N, width) and their attention (B, heads, N, d)."""
        h = h + self.out(attended.transpose(1, 2).flatten(2))
        return h + self.outer(F.gelu(self.inner(self.second_norm(h)), approximate="tanh"))

    def forward(self, h: Tensor) -> Tensor:
        """Apply the block to whole sequences (B, T, width)."""
        q, k, v = self.parts(h, 0)
        if self.window is None or h.shape[1] <= self.window:
            return self.mixed(h, F.scaled_dot_product_attention(q, k, v, is_causal=True))
        seen = torch.ones(h.shape[1], h.shape[1], dtype=torch.bool, device=h.device).tril().triu(1 - self.window)
        return self.mixed(h, F.scaled_dot_product_attention(q, k, v, attn_mask=seen))

    def step(
        self, h: Tensor, position: int, kept: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Apply the block to one frame (B, 1, width) after frames with keys and values `kept`."""
        q, k, v = self.parts(h, position)
        if kept is not None:
            k, v = torch.cat([kept[0], k], 2), torch.cat([kept[1], v], 2)
        if self.window is not None:
            k, v = k[:, :, -self.window :], v[:, :, -self.window :]
        return self.mixed(h, F.scaled_dot_product_attention(q, k, v)), (k, v)


@describable
class CausalTransformer(nn.Module):
    """A causal transformer over the frames of a sequence: contexts (B, T, width) of sequences (B, T, channels).

    Args:
        channels: numbers of a frame.
        width: width of a frame, and size of a context.
        depth: number of blocks.
        heads: number of attention heads; width / heads is even.
        mlp_ratio: hidden width of each MLP over `width`.
        window: number of frames that a block sees, itself included, so that the memory of generation is bounded. None:
            all.
        classes: number of classes. None: unconditional.

    Raises:
        TypeError: for a size that is no whole number.
        ValueError: for a width that is not an even multiple of `heads`, and sizes that are not positive, or too large;
            when called with sequences of another number of channels.
    """

    def __init__(
        self,
        channels: int,
        width: int = 256,
        depth: int = 4,
        heads: int = 4,
        *,
        mlp_ratio: float = 4.0,
        window: int | None = None,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        between(1, MOST_WIDTH, channels=channels, width=width, heads=heads)
        between(1, MOST_LAYERS, depth=depth)
        between(1, 2**20, **given(window=window))
        positive(mlp_ratio=mlp_ratio)
        if width % (2 * heads):
            raise ValueError(
                f"the width must be an even multiple of the number of heads, got {width} and {heads} heads"
            )
        self.size = width
        self.start = FrameInput(channels, width, classes)
        self.blocks: Any = nn.ModuleList(CausalBlock(width, heads, mlp_ratio, window) for _ in range(depth))

    def forward(self, past: Tensor, label: Tensor | int | None = None) -> Tensor:
        """The contexts (B, T, width) of sequences (B, T, channels), with labels (B,), one integer or None."""
        h = self.start.shifted(past, self.start.embedded(label))
        for block in self.blocks:
            h = block(h)
        return rms_norm(h)

    def begin(self, rows: int, label: Tensor | int | None = None) -> Cache:
        """The state before the first frame of `rows` sequences."""
        return Cache(0, (None,) * len(self.blocks), self.start.embedded(label), rows)

    def next(self, state: Cache, frame: Tensor | None = None) -> tuple[Tensor, Cache]:
        """The context (B, width) after a frame (B, channels), and the new state."""
        h = self.start(frame, state.rows, state.told)[:, None]
        kept = []
        for block, keys in zip(self.blocks, state.keys, strict=True):
            h, new = block.step(h, state.position, keys)
            kept.append(new)
        return rms_norm(h[:, 0]), Cache(state.position + 1, tuple(kept), state.told, state.rows)


@describable
class Recurrent(nn.Module):
    """A gated recurrent network (GRU) over the frames of a sequence: contexts (B, T, width).

    Args:
        channels: numbers of a frame.
        width: width of the state, and size of a context.
        depth: number of layers.
        classes: number of classes. None: unconditional.

    Raises:
        TypeError: for a size that is no whole number.
        ValueError: for a size that is not positive, or too large; when called with other sequences.
    """

    def __init__(self, channels: int, width: int = 256, depth: int = 1, *, classes: int | None = None) -> None:
        super().__init__()
        between(1, MOST_WIDTH, channels=channels, width=width)
        between(1, MOST_LAYERS, depth=depth)
        self.size = width
        self.start = FrameInput(channels, width, classes)
        self.layers = nn.GRU(width, width, depth, batch_first=True)

    def forward(self, past: Tensor, label: Tensor | int | None = None) -> Tensor:
        """The contexts (B, T, width) of sequences (B, T, channels), with labels (B,), one integer or None."""
        return rms_norm(self.layers(self.start.shifted(past, self.start.embedded(label)))[0])

    def begin(self, rows: int, label: Tensor | int | None = None) -> tuple[Any, ...]:
        """The state before the first frame of `rows` sequences."""
        return rows, self.start.embedded(label), None

    def next(self, state: tuple[Any, ...], frame: Tensor | None = None) -> tuple[Tensor, tuple[Any, ...]]:
        """The context (B, width) after a frame (B, channels), and the new state."""
        rows, told, hidden = state
        h, hidden = self.layers(self.start(frame, rows, told)[:, None], hidden)
        return rms_norm(h[:, 0]), (rows, told, hidden)


def angles(position: int, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (count, d / 2) of rotary positions from `position` on, for entries like (..., d)."""
    half = like.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half, device=like.device) / half)
    turn = torch.arange(position, position + count, device=like.device)[:, None] * rates
    return turn.cos().to(like.dtype), turn.sin().to(like.dtype)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs of entries of queries or keys (B, heads, N, d) by their positions."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
