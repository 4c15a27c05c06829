"""A small U-Net of two times, with scale and shift from the times and attention where the image is small.

The layout of Ho et al. 2020 (arXiv 2006.11239) with the scale-shift conditioning of Dhariwal & Nichol 2021 (arXiv
2105.05233).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..serialise import describable
from .embeddings import Conditioning, Fourier, TimeConditioning, TimeFeatures, pair
from .layers import Modulation, SelfAttention, called, checkpointed, expect_shape, scale_shift, zero


def group_norm(channels: int, affine: bool = True) -> nn.GroupNorm:
    """Group normalisation in groups of at least 4 channels, at most 32 groups."""
    groups = max(g for g in range(1, 33) if channels % g == 0 and (channels // g >= 4 or g == 1))
    return nn.GroupNorm(groups, channels, eps=1e-5, affine=affine)


class Residual(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))) (1 + scale) + shift)), the last convolution zero at first; attention
    after it on request."""

    def __init__(self, inputs: int, outputs: int, heads: int | None) -> None:
        super().__init__()
        self.first_norm = group_norm(inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second_norm = group_norm(outputs, affine=False)
        self.second = zero(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.attention = None if heads is None else ImageAttention(outputs, heads)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        h = self.first(F.silu(self.first_norm(x)))
        h = scale_shift(self.second_norm(h), *modulation[:, :, None, None].chunk(2, dim=1))
        h = self.skip(x) + self.second(F.silu(h))
        return h if self.attention is None else self.attention(h)


class ImageAttention(nn.Module):
    """x + self-attention between the pixels of norm(x), zero at first."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.attention = SelfAttention(channels, heads)
        zero(self.attention.out)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        return x + self.attention(tokens).transpose(1, 2).reshape(x.shape)


class Up(nn.Module):
    """Twice the size: nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


@describable
class UNet(nn.Module):
    """A U-Net for images from 8 x 8 upwards: network(x, s, t, label=None).

    x has shape (B, *shape), s and t have shape (B,), in [0, 1]. `shape` is (C, H, W). Level i has width *
    multipliers[i] channels and `blocks` residual blocks on the way down (one more on the way up), at half the side of
    the level before. `attention` names the heights (in pixels, at any level) that have attention, in heads of at most
    `head_width` channels; between the two ways there is always one. `times` says which residual block sees which time,
    counted from input to output; `features`, `classes` and `checkpoint` (of residual blocks) as for `DiT`. The output
    starts at zero. Result in x's shape and dtype.

    Errors: ValueError for sides that cannot be halved as often as there are levels, or an attention height that no
    level has.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 2,
        *,
        attention: Sequence[int] = (),
        head_width: int = 64,
        times: TimeConditioning = pair,
        features: TimeFeatures = Fourier(),
        classes: int | None = None,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.shape = (shape[0], shape[1], shape[2])
        self.call = checkpointed if checkpoint else called
        heights = level_heights(self.shape, len(multipliers), attention)
        channels = [width * multiplier for multiplier in multipliers]
        heads = [
            heads_for(c, head_width) if height in attention else None
            for c, height in zip(channels, heights, strict=True)
        ]
        deepest = channels[-1]
        self.input = nn.Conv2d(shape[0], channels[0], 3, padding=1)
        down, skips = way_down(channels, heads, blocks)
        middle = [Residual(deepest, deepest, heads_for(deepest, head_width)), Residual(deepest, deepest, None)]
        up = way_up(channels, heads, blocks, skips)
        self.down, self.middle, self.up = nn.ModuleList(down), nn.ModuleList(middle), nn.ModuleList(up)
        self.output_norm = group_norm(channels[0])
        self.output = zero(nn.Conv2d(channels[0], shape[0], 3, padding=1))

        residuals = [layer for layer in [*down, *middle, *up] if isinstance(layer, Residual)]
        self.conditioning = Conditioning(4 * width, len(residuals), times, features, classes)
        self.modulation = Modulation(4 * width, [2 * layer.first.out_channels for layer in residuals])

    def forward(self, x: Tensor, s: Tensor, t: Tensor, label: Tensor | int | None = None) -> Tensor:
        expect_shape(x, self.shape)
        modulations = iter(self.modulation(self.conditioning(s, t, label)))
        h = self.input(x)
        skips = [h]
        for layer in self.down:
            h = self.call(layer, h, next(modulations)) if isinstance(layer, Residual) else layer(h)
            skips.append(h)
        for layer in self.middle:
            h = self.call(layer, h, next(modulations))
        for layer in self.up:
            if isinstance(layer, Residual):
                h = self.call(layer, torch.cat([h, skips.pop()], dim=1), next(modulations))
            else:
                h = layer(h)
        return self.output(F.silu(self.output_norm(h))).to(x.dtype)


def way_down(channels: list[int], heads: list[int | None], blocks: int) -> tuple[list[nn.Module], list[int]]:
    """The layers from the first level to the last, and the channels of the skips that the input and they leave."""
    layers: list[nn.Module] = []
    skips = [channels[0]]
    for level, outputs in enumerate(channels):
        if level > 0:
            layers.append(nn.Conv2d(skips[-1], skips[-1], 3, stride=2, padding=1))
            skips.append(skips[-1])
        for _ in range(blocks):
            layers.append(Residual(skips[-1], outputs, heads[level]))
            skips.append(outputs)
    return layers, skips


def way_up(channels: list[int], heads: list[int | None], blocks: int, skips: list[int]) -> list[nn.Module]:
    """The layers from the last level to the first; each residual block also takes a skip, the latest one first."""
    layers: list[nn.Module] = []
    current, waiting = channels[-1], list(skips)
    for level in reversed(range(len(channels))):
        for _ in range(blocks + 1):
            layers.append(Residual(current + waiting.pop(), channels[level], heads[level]))
            current = channels[level]
        if level > 0:
            layers.append(Up(current))
    return layers


def level_heights(shape: tuple[int, int, int], levels: int, attention: Sequence[int]) -> list[int]:
    """The height of the image at each level, with the checks that `UNet` promises."""
    _, height, across = shape
    halvings = 2 ** (levels - 1)
    if height % halvings or across % halvings:
        raise ValueError(f"{levels} levels need sides that are multiples of {halvings}, got {height} x {across}")
    heights = [height // 2**level for level in range(levels)]
    if unknown := sorted(set(attention) - set(heights)):
        raise ValueError(f"attention is possible at the heights {heights} of the levels, got {unknown}")
    return heights


def heads_for(channels: int, head_width: int) -> int:
    """The smallest number of heads that divides the channels into heads of at most `head_width`."""
    return next(heads for heads in range(1, channels + 1) if channels % heads == 0 and channels // heads <= head_width)
