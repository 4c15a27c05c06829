"""Transformer of two times over positions of a text: noisy one-hot rows in, logits out."""

from __future__ import annotations

from torch import Tensor, nn

from ..arguments import MOST_CLASSES, MOST_LAYERS, MOST_VALUES, MOST_WIDTH, between, positive, truth
from ..serialise import describable
from .dit import Block
from .embeddings import Conditioning, Fourier, TimeConditioning, TimeFeatures, pair
from .layers import (
    Modulation,
    Rotary,
    called,
    checkpointed,
    chunks,
    expect_shape,
    learned_norm,
    rms_norm,
    scale_shift,
    unchanged,
    zero,
)


@describable
class TokenTransformer(nn.Module):
    """A transformer over the positions of a text: network(x, s, t, label=None, estimate=None).

    x has shape (B, L, K): at each of L positions a noisy one-hot vector over K tokens, or a point of the simplex. The
    result has x's shape and dtype; it is read as logits by an output with a softmax (`fm.Endpoint`). Each position is
    embedded by a linear layer, x W, so a one-hot vector gets the row of its token. The blocks are `DiT`'s, with
    rotary positions. They start as the identity, and the logits at zero.

    Args:
        vocabulary: number K of tokens.
        length: number L of positions.
        width: width of a position.
        depth: number of blocks.
        heads: number of attention heads; width / heads is even.
        mlp_ratio: hidden width of each MLP over `width`.
        times: which layer sees which time; the output layer sees the time of the last block.
        features: how a time is embedded.
        classes: number of classes. None: unconditional.
        self_conditioning: whether the network reads an earlier estimate of the data, (B, L, K), as the condition
            `estimate` (Chen et al. 2022, arXiv 2208.04202). Without one it reads zeros.
        causal: whether a position sees only the positions up to its own, for autoregressive models.
        checkpoint: whether each block stores only its input for the backward pass and recomputes the rest.

    Raises:
        TypeError: for a size that is no whole number.
        ValueError: for a width that is not an even multiple of `heads`, and sizes that are not positive, or too large;
            when called with an estimate that the network does not take.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        *,
        mlp_ratio: float = 4.0,
        times: TimeConditioning = pair,
        features: TimeFeatures = Fourier(),
        classes: int | None = None,
        self_conditioning: bool = False,
        causal: bool = False,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        between(1, MOST_CLASSES, vocabulary=vocabulary)
        between(1, MOST_VALUES, length=length)
        between(1, MOST_WIDTH, width=width, heads=heads)
        between(1, MOST_LAYERS, depth=depth)
        positive(mlp_ratio=mlp_ratio)
        if width % (2 * heads):
            raise ValueError(
                f"the width must be an even multiple of the number of heads, got {width} and {heads} heads"
            )
        truth(self_conditioning=self_conditioning, causal=causal, checkpoint=checkpoint)
        self.shape = (length, vocabulary)
        self.call = checkpointed if checkpoint else called
        self.conditioning = Conditioning(width, depth, times, features, classes)
        self.modulation = zero(Modulation(width, [6 * width] * (depth - 1) + [8 * width]))
        self.input = nn.Linear(vocabulary, width)
        self.estimate = zero(nn.Linear(vocabulary, width, bias=False)) if self_conditioning else None
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio, learned_norm, Rotary(length, width // heads), causal) for _ in range(depth)
        )
        self.output = zero(nn.Linear(width, vocabulary))

    def forward(
        self, x: Tensor, s: Tensor, t: Tensor, label: Tensor | int | None = None, estimate: Tensor | None = None
    ) -> Tensor:
        """Evaluate the logits at x (B, L, K), with times s and t (B,), labels (B,) and an estimate (B, L, K)."""
        expect_shape(x, self.shape, self.input.weight)
        modulations = self.modulation(self.conditioning(s, t, label))
        h = self._read(x, estimate)
        for block, modulation in zip(self.blocks, modulations, strict=True):
            pieces = chunks(modulation[:, None], modulation.shape[-1] // h.shape[-1], unchanged)
            h = self.call(block, h, *pieces[:6])
        return self.output(scale_shift(rms_norm(h), *pieces[6:])).to(x.dtype)

    def _read(self, x: Tensor, estimate: Tensor | None) -> Tensor:
        """Embed the positions, and an earlier estimate of the data."""
        if estimate is None:
            return self.input(x)
        if self.estimate is None:
            raise ValueError("this network was built without self_conditioning and takes no estimate of the data")
        expect_shape(estimate, self.shape, self.input.weight)
        return self.input(x) + self.estimate(estimate)
