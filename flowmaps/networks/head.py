"""The head of an autoregressive model: a small network of one frame, told of the past by a context vector."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import MOST_LAYERS, MOST_WIDTH, between
from ..serialise import describable
from .embeddings import Fourier, TimeConditioning, TimeEmbedding, TimeFeatures, pair, times_per_layer
from .layers import Modulation, chunks, expect_shape, rms_norm, scale_shift, unchanged, zero
from .mlp import Block


@describable
class Head(nn.Module):
    """A residual MLP over one frame, conditioned by scale and shift (adaLN): network(x, s, t, context).

    x has shape (B, channels), s and t have shape (B,), and the context (B, context), one vector a row. The embedding of
    the times and of the context are added, as in CALM (Rouard et al. 2025, arXiv 2509.06926). The output starts at
    zero.

    Args:
        channels: numbers of a frame.
        context: numbers of a context vector.
        width: width of the hidden layers.
        depth: number of residual blocks.
        times: which times the network sees; all layers see the same.
        features: how a time is embedded.

    Raises:
        TypeError: for a size that is no whole number.
        ValueError: for a size that is not positive, or too large; when called with a context of another size.
    """

    def __init__(
        self,
        channels: int,
        context: int,
        width: int = 256,
        depth: int = 3,
        *,
        times: TimeConditioning = pair,
        features: TimeFeatures = Fourier(),
    ) -> None:
        super().__init__()
        between(1, MOST_WIDTH, channels=channels, context=context, width=width)
        between(1, MOST_LAYERS, depth=depth)
        self.shape, self.times, self.depth = (channels,), times, depth
        self.time = TimeEmbedding(width, times_per_layer(times, depth), features)
        self.context = nn.Linear(context, width)
        self.modulation = Modulation(width, [2 * width] * (depth + 1))
        self.input = nn.Linear(channels, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.output = zero(nn.Linear(width, channels))

    def forward(self, x: Tensor, s: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """Evaluate the network at frames x (B, channels), times (B,), and contexts (B, context) or (1, context)."""
        expect_shape(x, self.shape, self.input.weight)
        if context.shape[-1] != self.context.in_features:
            raise ValueError(
                f"this head takes contexts of {self.context.in_features} numbers, got {tuple(context.shape)}"
            )
        told = self.context(context)
        seen = [(F.silu(self.time(times) + told), layers) for times, layers in self.times(s, t, self.depth)]
        seen[-1] = (seen[-1][0], seen[-1][1] + 1)  # the output layer sees the times of the last block
        *modulations, last = self.modulation(seen)
        h = self.input(x)
        for block, modulation in zip(self.blocks, modulations, strict=True):
            h = block(h, chunks(modulation, 2, unchanged))
        return self.output(scale_shift(rms_norm(h), *chunks(last, 2, unchanged))).to(x.dtype)
