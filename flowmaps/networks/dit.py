"""Diffusion transformer (Peebles & Xie 2023, arXiv 2212.09748) of two times, with RMS normalisation throughout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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

Norm = Callable[[int], nn.Module]


class Block(nn.Module):
    """Attention, then an MLP, each behind a modulated RMSNorm and a gate that starts at zero (adaLN-zero)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, attention_norm: Norm) -> None:
        super().__init__()
        inner = int(mlp_ratio * width)
        self.attention = SelfAttention(width, heads, attention_norm)
        self.inner = nn.Linear(width, inner)
        self.outer = nn.Linear(inner, width)

    def forward(self, x: Tensor, *modulation: Tensor) -> Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = modulation
        x = x + gate1 * self.attention(scale_shift(rms_norm(x), scale1, shift1))
        h = self.inner(scale_shift(rms_norm(x), scale2, shift2))
        return x + gate2 * self.outer(F.gelu(h, approximate="tanh"))


@describable
class DiT(nn.Module):
    """A transformer over patches of images: network(x, s, t, label=None).

    x has shape (B, *shape), s and t have shape (B,), in [0, 1]. `shape` is (C, H, W), cut into patches of `patch` x
    `patch` pixels, with sinusoidal positions. `times` says which layer sees which time (decoupled: the output layer
    sees what the last block sees), `features` how a time is embedded; `classes` is the number of labels (None:
    unconditional). Blocks start as the identity and the output at zero. Result in x's shape and dtype.

    Every scale, shift and gate passes through `modulate`: `unchanged`, or `rms_norm`, which bounds it whatever the
    times and the label. `attention_norm` makes the normalisation of queries and keys from their size: `learned_norm`,
    or `plain_norm` without weights. `DiT.lipschitz` has both bounds and what belongs to them. With `checkpoint` a block
    keeps its input alone for the backward pass, which computes the rest again.

    `DiT.tiny`, `DiT.small`, `DiT.base`, `DiT.large` and `DiT.extra_large` take (shape, patch=2, **the keywords) and
    fill in the usual sizes. Errors: ValueError for sides that are no multiple of `patch`, or a width that is no
    multiple of `heads` and of 4.
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
    ) -> None:
        super().__init__()
        channels, height, across = self.shape = (shape[0], shape[1], shape[2])
        if height % patch or across % patch:
            raise ValueError(
                f"the sides of an image must be multiples of the patch size {patch}, got {height} x {across}"
            )
        self.patch, self.modulate = patch, modulate
        self.call = checkpointed if checkpoint else called
        self.conditioning = Conditioning(width, depth, times, features, classes)
        # the output layer shares the last block's view of the times: one row of the modulation serves both
        self.modulation = zero(Modulation(width, [6 * width] * (depth - 1) + [8 * width]))
        self.input = nn.Linear(channels * patch**2, width)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, attention_norm) for _ in range(depth))
        self.output = zero(nn.Linear(width, channels * patch**2))
        self.register_buffer(
            "positions", sinusoidal_positions(height // patch, across // patch, width), persistent=False
        )

    def forward(self, x: Tensor, s: Tensor, t: Tensor, label: Tensor | int | None = None) -> Tensor:
        expect_shape(x, self.shape)
        modulations = self.modulation(self.conditioning(s, t, label))
        h = self.input(patches(x, self.patch)) + self.positions
        for block, modulation in zip(self.blocks, modulations, strict=True):
            pieces = chunks(modulation[:, None], modulation.shape[-1] // h.shape[-1], self.modulate)
            h = self.call(block, h, *pieces[:6])
        h = self.output(scale_shift(rms_norm(h), *pieces[6:]))
        return image(h, self.shape, self.patch).to(x.dtype)

    @classmethod
    def lipschitz(cls, shape: tuple[int, int, int], patch: int = 2, **options: Any) -> DiT:
        """A DiT whose Lipschitz constant cannot grow through its modulation, as terminal velocity matching (TVM, Zhou
        et al. 2025, arXiv 2511.19797) needs it: the other arguments of the class, with all of

            times=gap, modulate=rms_norm, attention_norm=plain_norm,  and `spectral_` initialisation.

        The modulation does not start at zero, where RMSNorm has a slope of 1/sqrt(1e-6); the output does.
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
    """Images (B, C, H, W) -> patches (B, HW / size^2, C size^2), row by row."""
    batch, channels, height, width = x.shape
    cells = x.reshape(batch, channels, height // size, size, width // size, size)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def image(tokens: Tensor, shape: tuple[int, int, int], size: int) -> Tensor:
    """The inverse of `patches`: (B, HW / size^2, C size^2) -> (B, C, H, W)."""
    channels, height, width = shape
    cells = tokens.reshape(tokens.shape[0], height // size, width // size, channels, size, size)
    return cells.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def sinusoidal_positions(height: int, across: int, width: int) -> Tensor:
    """Sines and cosines of the row and of the column at width / 4 frequencies from 1 to 1/10000: (1, height * across,
    width)."""
    if width % 4:
        raise ValueError(f"the width must be a multiple of 4, got {width}")
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(width // 4) / (width // 4))
    rows = torch.arange(height)[:, None, None] * frequencies
    columns = torch.arange(across)[None, :, None] * frequencies
    angles = torch.cat([rows.expand(height, across, -1), columns.expand(height, across, -1)], dim=-1).flatten(0, 1)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[None]
