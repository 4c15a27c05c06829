"""Diffusion transformer (Peebles & Xie 2023, arXiv 2212.09748) of two times, with RMS normalisation throughout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import MOST_LAYERS, MOST_WIDTH, between, given, positive
from ..serialise import describable
from .embeddings import Conditioning, Fourier, TimeConditioning, TimeFeatures, gap, pair
from .layers import (
    Modulation,
    SelfAttention,
    called,
    checkpointed,
    chunks,
    expect_shape,
    learned_norm,
    plain_norm,
    rms_norm,
    scale_shift,
    spectral_,
    unchanged,
    zero,
)
from .mlp import as_image_shape, value_shape

Norm = Callable[[int], nn.Module]


class Block(nn.Module):
    """Attention, then an MLP, each with a modulated RMSNorm before and a zero-initialised gate after it (adaLN-zero).

    Args:
        width: width of the tokens.
        heads: number of attention heads.
        mlp_ratio: hidden width of the MLP over `width`.
        attention_norm: makes the normalisation of queries and keys from their size.
        place: gives queries and keys their positions; `unchanged` gives none.
        causal: whether a token sees only the tokens up to its own position.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        attention_norm: Norm,
        place: Callable[[Tensor], Tensor] = unchanged,
        causal: bool = False,
    ) -> None:
        super().__init__()
        inner = int(mlp_ratio * width)
        self.attention = SelfAttention(width, heads, attention_norm, place, causal)
        self.inner = nn.Linear(width, inner)
        self.outer = nn.Linear(inner, width)

    def forward(self, x: Tensor, *modulation: Tensor) -> Tensor:
        """Apply the block to tokens (B, N, width), with six modulations (B or 1, 1, width)."""
        scale1, shift1, gate1, scale2, shift2, gate2 = modulation
        x = x + gate1 * self.attention(scale_shift(rms_norm(x), scale1, shift1))
        h = self.inner(scale_shift(rms_norm(x), scale2, shift2))
        return x + gate2 * self.outer(F.gelu(h, approximate="tanh"))


@describable
class DiT(nn.Module):
    """A transformer over patches of images: network(x, s, t, label=None).

    x has shape (B, *shape); s and t have shape (B,), in [0, 1]. The result has x's shape and dtype. Blocks start as the
    identity and the output at zero. Positions are sinusoidal. `DiT.tiny`, `DiT.small`, `DiT.base`, `DiT.large` and
    `DiT.extra_large` fill in the usual sizes.

    Args:
        shape: (C, H, W) of one image.
        patch: side of a patch in pixels.
        width: width of the tokens.
        depth: number of blocks.
        heads: number of attention heads.
        mlp_ratio: hidden width of each MLP over `width`.
        times: which layer sees which time; the output layer sees the time of the last block.
        features: how a time is embedded.
        classes: number of classes. None: unconditional.
        modulate: applied to every scale, shift and gate: `unchanged`, or `rms_norm`, which bounds them for all times
            and labels (see `DiT.lipschitz`).
        attention_norm: makes the normalisation of queries and keys from their size: `learned_norm`, or `plain_norm`
            without weights.
        checkpoint: whether each block stores only its input for the backward pass and recomputes the rest.
        channels_out: channels of the value, for outputs that take values of another shape (`outputs.MixturePolicy`).
            None: as many as x has.

    Raises:
        TypeError: for a size that is no whole number.
        ValueError: for sides that are not multiples of `patch`, a width that is not a multiple of `heads` and 4, and
            sizes that are not positive, or too large.
    """

    positions: Tensor

    def __init__(
        self,
        shape: tuple[int, int, int],
        patch: int = 2,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        *,
        mlp_ratio: float = 4.0,
        times: TimeConditioning = pair,
        features: TimeFeatures = Fourier(),
        classes: int | None = None,
        modulate: Callable[[Tensor], Tensor] = unchanged,
        attention_norm: Norm = learned_norm,
        checkpoint: bool = False,
        channels_out: int | None = None,
    ) -> None:
        super().__init__()
        between(1, MOST_WIDTH, patch=patch, width=width, heads=heads, **given(channels_out=channels_out))
        between(1, MOST_LAYERS, depth=depth)
        positive(mlp_ratio=mlp_ratio)
        channels, height, across = self.shape = as_image_shape(shape)
        if height % patch or across % patch:
            raise ValueError(
                f"the sides of an image must be multiples of the patch size {patch}, got {height} x {across}"
            )
        self.patch, self.modulate = patch, modulate
        self.call = checkpointed if checkpoint else called
        self.conditioning = Conditioning(width, depth, times, features, classes)
        # the output layer sees the same time as the last block: one row of the modulation serves both
        self.modulation = zero(Modulation(width, [6 * width] * (depth - 1) + [8 * width]))
        self.input = nn.Linear(channels * patch**2, width)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, attention_norm) for _ in range(depth))
        self.value_shape = value_shape(self.shape, channels_out)
        self.output = zero(nn.Linear(width, self.value_shape[0] * patch**2))
        self.register_buffer(
            "positions", sinusoidal_positions(height // patch, across // patch, width), persistent=False
        )

    def forward(self, x: Tensor, s: Tensor, t: Tensor, label: Tensor | int | None = None) -> Tensor:
        """Evaluate the network at x (B, *shape), with times s and t (B,) and labels (B,), one integer or None."""
        expect_shape(x, self.shape, self.input.weight)
        modulations = self.modulation(self.conditioning(s, t, label))
        h = self.input(patches(x, self.patch)) + self.positions
        for block, modulation in zip(self.blocks, modulations, strict=True):
            pieces = chunks(modulation[:, None], modulation.shape[-1] // h.shape[-1], self.modulate)
            h = self.call(block, h, *pieces[:6])
        h = self.output(scale_shift(rms_norm(h), *pieces[6:]))
        return image(h, self.value_shape, self.patch).to(x.dtype)

    @classmethod
    def lipschitz(cls, shape: tuple[int, int, int], patch: int = 2, **options: Any) -> DiT:
        """A DiT whose Lipschitz constant cannot grow through its modulation, as terminal velocity matching needs it.

        It sets times=gap, modulate=rms_norm, attention_norm=plain_norm and `spectral_` initialisation. The modulation
        does not start at zero, where RMSNorm has slope 1/sqrt(1e-6); the output does (TVM, Zhou et al. 2025, arXiv
        2511.19797).

        Args:
            shape: (C, H, W) of one image.
            patch: side of a patch in pixels.
            **options: the other arguments of the class, which may replace those above.

        Returns:
            The network.
        """
        bounds: dict[str, Any] = {"times": gap, "modulate": rms_norm, "attention_norm": plain_norm}
        network = cls(shape, patch, **(bounds | options))
        nn.init.xavier_uniform_(network.modulation.weight)
        return spectral_(network)

    @classmethod
    def tiny(cls, shape: tuple[int, int, int], patch: int = 2, **options: Any) -> DiT:
        """Width 192, 6 blocks, 3 heads, 4 million parameters, for small images and CPUs."""
        return cls(shape, patch, width=192, depth=6, heads=3, **options)

    @classmethod
    def small(cls, shape: tuple[int, int, int], patch: int = 2, **options: Any) -> DiT:
        """DiT-S: width 384, 12 blocks, 6 heads, 32 million parameters."""
        return cls(shape, patch, width=384, depth=12, heads=6, **options)

    @classmethod
    def base(cls, shape: tuple[int, int, int], patch: int = 2, **options: Any) -> DiT:
        """DiT-B: width 768, 12 blocks, 12 heads, 129 million parameters."""
        return cls(shape, patch, width=768, depth=12, heads=12, **options)

    @classmethod
    def large(cls, shape: tuple[int, int, int], patch: int = 2, **options: Any) -> DiT:
        """DiT-L: width 1024, 24 blocks, 16 heads, 456 million parameters."""
        return cls(shape, patch, width=1024, depth=24, heads=16, **options)

    @classmethod
    def extra_large(cls, shape: tuple[int, int, int], patch: int = 2, **options: Any) -> DiT:
        """DiT-XL: width 1152, 28 blocks, 16 heads, 673 million parameters."""
        return cls(shape, patch, width=1152, depth=28, heads=16, **options)


def patches(x: Tensor, size: int) -> Tensor:
    """Cut images into patches, row by row.

    Args:
        x: images (B, C, H, W).
        size: side of a patch in pixels.

    Returns:
        (B, HW / size^2, C size^2).
    """
    batch, channels, height, width = x.shape
    cells = x.reshape(batch, channels, height // size, size, width // size, size)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def image(tokens: Tensor, shape: tuple[int, ...], size: int) -> Tensor:
    """Put patches together again, the inverse of `patches`.

    Args:
        tokens: patches (B, HW / size^2, C size^2).
        shape: (C, H, W) of one image.
        size: side of a patch in pixels.

    Returns:
        Images (B, C, H, W).
    """
    channels, height, width = shape
    cells = tokens.reshape(tokens.shape[0], height // size, width // size, channels, size, size)
    return cells.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def sinusoidal_positions(height: int, across: int, width: int) -> Tensor:
    """Make sines and cosines of row and column at width / 4 frequencies from 1 to 1/10000.

    Args:
        height: rows of patches.
        across: columns of patches.
        width: width of a token.

    Returns:
        The positional encoding (1, height * across, width).

    Raises:
        ValueError: for a width that is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"the width must be a multiple of 4, got {width}")
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(width // 4) / (width // 4))
    rows = torch.arange(height)[:, None, None] * frequencies
    columns = torch.arange(across)[None, :, None] * frequencies
    angles = torch.cat([rows.expand(height, across, -1), columns.expand(height, across, -1)], dim=-1).flatten(0, 1)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[None]
