"""A small U-Net of two times, with scale and shift from the times, and attention at low resolutions.

The layout of Ho et al. 2020 (arXiv 2006.11239) with the scale-shift conditioning of Dhariwal & Nichol 2021 (arXiv
2105.05233).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import MOST_LAYERS, MOST_WIDTH, at_least, between, given, numbered
from ..serialise import describable
from .embeddings import Conditioning, Fourier, TimeConditioning, TimeFeatures, pair
from .layers import Modulation, SelfAttention, called, checkpointed, expect_shape, scale_shift, zero
from .mlp import as_image_shape, value_shape


def group_norm(channels: int, affine: bool = True) -> nn.GroupNorm:
    """Make a group normalisation with at least 4 channels a group and at most 32 groups.

    Args:
        channels: number of channels.
        affine: whether it has learned weights.

    Returns:
        The layer.
    """
    groups = max(g for g in range(1, 33) if channels % g == 0 and (channels // g >= 4 or g == 1))
    return nn.GroupNorm(groups, channels, eps=1e-5, affine=affine)


class Residual(nn.Module):
    """The residual block x + conv(SiLU(norm(conv(SiLU(norm(x)))) (1 + scale) + shift)), then attention on request.

    The last convolution starts at zero.

    Args:
        inputs: channels of x.
        outputs: channels of the result.
        heads: number of attention heads. None: no attention.
    """

    def __init__(self, inputs: int, outputs: int, heads: int | None) -> None:
        super().__init__()
        self.first_norm = group_norm(inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second_norm = group_norm(outputs, affine=False)
        self.second = zero(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.attention = None if heads is None else ImageAttention(outputs, heads)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Apply the block to x (B, inputs, H, W), with scale and shift in one tensor (B or 1, 2 outputs)."""
        h = self.first(F.silu(self.first_norm(x)))
        h = scale_shift(self.second_norm(h), *modulation[:, :, None, None].chunk(2, dim=1))
        h = self.skip(x) + self.second(F.silu(h))
        return h if self.attention is None else self.attention(h)


class ImageAttention(nn.Module):
    """The residual block x + self-attention between the pixels of norm(x), which starts as the identity.

    Args:
        channels: channels of x.
        heads: number of attention heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.attention = SelfAttention(channels, heads)
        zero(self.attention.out)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to x (B, channels, H, W)."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        return x + self.attention(tokens).transpose(1, 2).reshape(x.shape)


class Up(nn.Module):
    """Upsampling by two: nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Upsample x (B, channels, H, W) to (B, channels, 2 H, 2 W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


@describable
class UNet(nn.Module):
    """A U-Net for images from 8 x 8 upwards: network(x, s, t, label=None).

    x has shape (B, *shape); s and t have shape (B,), in [0, 1]. The result has x's shape and dtype. The output starts
    at zero. Each level has half the side of the level before.

    Args:
        shape: (C, H, W) of one image.
        width: channels of a level with multiplier 1.
        multipliers: channels of each level over `width`.
        blocks: residual blocks of a level on the way down; one more on the way up.
        attention: heights in pixels of the levels with attention; between the two ways there is always one.
        head_width: largest number of channels of an attention head.
        times: which residual block sees which time, counted from input to output.
        features: how a time is embedded.
        classes: number of classes. None: unconditional.
        checkpoint: whether each residual block stores only its input for the backward pass and recomputes the rest.
        channels_out: channels of the value, for outputs that take values of another shape (`outputs.MixturePolicy`).
            None: as many as x has.

    Raises:
        TypeError: for a size that is no whole number.
        ValueError: for sides that cannot be halved for every level, an attention height that no level has, and sizes
            that are not positive, or too large.
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
        channels_out: int | None = None,
    ) -> None:
        super().__init__()
        between(1, MOST_WIDTH, width=width, head_width=head_width, **numbered(multipliers=multipliers))
        between(1, MOST_WIDTH, **given(channels_out=channels_out))
        between(0, MOST_LAYERS, blocks=blocks, levels=len(multipliers))
        at_least(0, **numbered(attention=attention))
        if not multipliers:
            raise ValueError("a U-Net needs at least one level, and multipliers is empty")
        self.shape = as_image_shape(shape)
        self.call = checkpointed if checkpoint else called
        heights = level_heights(self.shape, len(multipliers), attention)
        channels = [width * multiplier for multiplier in multipliers]
        between(1, MOST_WIDTH, **{f"the width of level {level}": count for level, count in enumerate(channels)})
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
        self.output = zero(nn.Conv2d(channels[0], value_shape(self.shape, channels_out)[0], 3, padding=1))

        residuals = [layer for layer in [*down, *middle, *up] if isinstance(layer, Residual)]
        self.conditioning = Conditioning(4 * width, len(residuals), times, features, classes)
        self.modulation = Modulation(4 * width, [2 * layer.first.out_channels for layer in residuals])

    def forward(self, x: Tensor, s: Tensor, t: Tensor, label: Tensor | int | None = None) -> Tensor:
        """Evaluate the network at x (B, *shape), with times s and t (B,) and labels (B,), one integer or None."""
        expect_shape(x, self.shape, self.input.weight)
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
    """Make the layers from the first level to the last.

    Args:
        channels: channels of each level.
        heads: attention heads of each level. None: no attention.
        blocks: residual blocks of a level.

    Returns:
        The layers, and the channels of the skip connections from the input and from each layer.
    """
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
    """Make the layers from the last level to the first.

    Args:
        channels: channels of each level.
        heads: attention heads of each level. None: no attention.
        blocks: residual blocks of a level on the way down; here one more.
        skips: channels of the skip connections, one for each residual block, taken from the end.

    Returns:
        The layers.
    """
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
    """Compute the height of the image at each level.

    Args:
        shape: (C, H, W) of one image.
        levels: number of levels.
        attention: heights that need attention.

    Returns:
        The heights, from the first level to the last.

    Raises:
        ValueError: for sides that cannot be halved for every level, or an attention height that no level has.
    """
    _, height, across = shape
    halvings = 2 ** (levels - 1)
    if height % halvings or across % halvings:
        raise ValueError(f"{levels} levels need sides that are multiples of {halvings}, got {height} x {across}")
    heights = [height // 2**level for level in range(levels)]
    if unknown := sorted(set(attention) - set(heights)):
        raise ValueError(f"attention is possible at the heights {heights} of the levels, got {unknown}")
    return heights


def heads_for(channels: int, head_width: int) -> int:
    """Find the smallest number of heads that divides the channels into heads of at most `head_width`.

    Args:
        channels: number of channels.
        head_width: largest number of channels of a head.

    Returns:
        The number of heads.
    """
    return next(heads for heads in range(1, channels + 1) if channels % heads == 0 and channels // heads <= head_width)
