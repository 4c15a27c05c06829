"""Networks for vectors and small images: a residual MLP, and a plain MLP on concatenated inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import MOST_LAYERS, MOST_VALUES, MOST_WIDTH, between, given, positive, whole
from ..serialise import describable
from .embeddings import (
    Conditioning,
    Fourier,
    LabelEmbedding,
    TimeConditioning,
    TimeFeatures,
    gap,
    pair,
    raw,
    refuse_label,
    time_features,
    times_per_layer,
)
from .layers import (
    Modulation,
    SideBySide,
    chunks,
    expect_shape,
    full_precision,
    rms_norm,
    scale_shift,
    spectral_,
    unchanged,
    zero,
)


class Block(nn.Module):
    """The residual block x + W_2 SiLU(W_1 (RMSNorm(x) (1 + scale) + shift))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)

    def forward(self, x: Tensor, modulation: Sequence[Tensor]) -> Tensor:
        """Apply the block to x (B, width), with scale and shift (B or 1, width)."""
        return x + self.outer(F.silu(self.inner(scale_shift(rms_norm(x), *modulation))))


@describable
class MLP(nn.Module):
    """A residual MLP, conditioned by scale and shift: network(x, s, t, label=None).

    x has shape (B, *shape); s and t have shape (B,), in [0, 1]. The result has x's shape and dtype. The output layer
    starts at zero.

    Args:
        shape: shape of one x, a number for vectors; images are flattened.
        width: width of the hidden layers.
        depth: number of residual blocks.
        times: which layer sees which time.
        features: how a time is embedded.
        embedding: width of the embedding of times and label.
        classes: number of classes. None: unconditional.
        data_std: standard deviation of the data, which divides the input and multiplies the output.
        modulate: applied to every scale and shift: `unchanged`, or `rms_norm`, which bounds them for all times and
            labels.
        waves: number of random directions in which the network also sees sines and cosines of x / data_std, which lets
            it learn steep functions of few coordinates (Tancik et al. 2020, arXiv 2006.10739).
        frequency: standard deviation of the coordinates of these directions, in radians.
        channels_out: first size of one value, in place of the first size of x, for outputs that take values of another
            shape (`outputs.MixturePolicy`). None: the value has the shape of x.

    Raises:
        TypeError: for a size that is no whole number.
        ValueError: for a size, `data_std` or `frequency` that is not positive, and a size that is too large.
    """

    waves: Tensor | None

    def __init__(
        self,
        shape: int | tuple[int, ...],
        width: int = 256,
        depth: int = 4,
        *,
        times: TimeConditioning = pair,
        features: TimeFeatures = Fourier(),
        embedding: int = 128,
        classes: int | None = None,
        data_std: float = 1.0,
        modulate: Callable[[Tensor], Tensor] = unchanged,
        waves: int = 0,
        frequency: float = 2.0,
        channels_out: int | None = None,
    ) -> None:
        super().__init__()
        between(1, MOST_WIDTH, width=width, embedding=embedding, **given(channels_out=channels_out))
        between(0, MOST_WIDTH, waves=waves)
        between(1, MOST_LAYERS, depth=depth)
        self.shape = as_shape(shape)
        positive(data_std=data_std, frequency=frequency)
        self.data_std, self.modulate = data_std, modulate
        size = math.prod(self.shape)
        self.register_buffer("waves", torch.randn(size, waves) * frequency if waves else None)
        self.conditioning = Conditioning(embedding, depth, times, features, classes)
        self.modulation = Modulation(embedding, [2 * width] * depth)
        self.input = nn.Linear(size + 2 * waves, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.value_shape = value_shape(self.shape, channels_out)
        self.output = zero(nn.Linear(width, math.prod(self.value_shape)))

    def forward(self, x: Tensor, s: Tensor, t: Tensor, label: Tensor | int | None = None) -> Tensor:
        """Evaluate the network at x (B, *shape), with times s and t (B,) and labels (B,), one integer or None."""
        value = self.output(self.features(x, s, t, label)) * self.data_std
        return value.reshape(x.shape[0], *self.value_shape).to(x.dtype)

    def features(self, x: Tensor, s: Tensor, t: Tensor, label: Tensor | int | None = None) -> Tensor:
        """The input of the output layer, (B, width)."""
        expect_shape(x, self.shape, self.input.weight)
        modulations = self.modulation(self.conditioning(s, t, label))
        h = self.input(self.seen(x.flatten(1) / self.data_std))
        for block, modulation in zip(self.blocks, modulations, strict=True):
            h = block(h, chunks(modulation, 2, self.modulate))
        return rms_norm(h)

    def seen(self, x: Tensor) -> Tensor:
        """The input of the first layer: x (B, D), with its sines and cosines."""
        if self.waves is None:
            return x
        with full_precision(x.device):
            phases = x @ self.waves.to(x.dtype)
        return torch.cat([x, phases.sin(), phases.cos()], dim=1)

    @classmethod
    def lipschitz(cls, shape: int | tuple[int, ...], **options: Any) -> MLP:
        """An MLP with the bounds of `DiT.lipschitz`: times=gap, modulate=rms_norm and `spectral_` initialisation.

        Args:
            shape: shape of one x, a number for vectors.
            **options: the other arguments of the class, which may replace those above.

        Returns:
            The network.
        """
        bounds: dict[str, Any] = {"times": gap, "modulate": rms_norm}
        return spectral_(cls(shape, **(bounds | options)))


@describable
class ConcatMLP(nn.Module):
    """A plain MLP on the concatenation of s, t and x / data_std, with GELU between layers and output times data_std.

    Linear(2 + D, width), `depth` times Linear(width, width), Linear(width, D), with torch's own initialisation: with
    width 512 and depth 4 the checkerboard network of Boffi et al. 2025, arXiv 2505.18825, appendix G.1. Only the first
    layer sees the times; it runs in float32 even under autocast. A label adds a learned vector to its output.

    Args:
        shape: shape of one x, a number for vectors; images are flattened.
        width: width of the hidden layers.
        depth: number of hidden layers after the first.
        times: which times the first layer sees.
        features: how a time is embedded.
        classes: number of classes. None: unconditional.
        data_std: standard deviation of the data, which divides the input and multiplies the output.

    Raises:
        TypeError: for a size that is no whole number.
        ValueError: for decoupled times, for a size or `data_std` that is not positive, and a size that is too large.
    """

    def __init__(
        self,
        shape: int | tuple[int, ...],
        width: int = 512,
        depth: int = 4,
        *,
        times: TimeConditioning = pair,
        features: TimeFeatures = raw,
        classes: int | None = None,
        data_std: float = 1.0,
    ) -> None:
        super().__init__()
        between(1, MOST_WIDTH, width=width)
        between(0, MOST_LAYERS, depth=depth)
        self.shape = as_shape(shape)
        positive(data_std=data_std)
        self.times, self.features, self.data_std = times, features, data_std
        size = math.prod(self.shape)
        time_sizes = [features(torch.zeros(1)).shape[-1]] * times_per_layer(times, 1)
        self.input = SideBySide([*time_sizes, size], width)
        self.label = None if classes is None else LabelEmbedding(classes, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.output = nn.Linear(width, size)

    def forward(self, x: Tensor, s: Tensor, t: Tensor, label: Tensor | int | None = None) -> Tensor:
        """Evaluate the network at x (B, *shape), with times s and t (B,) and labels (B,), one integer or None."""
        expect_shape(x, self.shape)
        h = self._first(x, s, t)
        if self.label is None:
            refuse_label(label)
        else:
            h = h + self.label(label)
        for layer in self.hidden:
            h = layer(F.gelu(h))
        return (self.output(F.gelu(h)) * self.data_std).reshape(x.shape).to(x.dtype)

    def _first(self, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        [(seen, _)] = self.times(s, t, 1)
        with full_precision(x.device):
            return self.input(*(time_features(self.features, time) for time in seen), x.flatten(1) / self.data_std)


def as_shape(shape: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of one x as a tuple.

    Raises:
        TypeError: for sizes that are no whole numbers.
        ValueError: unless it is a positive number or a tuple of them, with at most MOST_VALUES values.
    """
    sizes = tuple(shape) if isinstance(shape, Sequence) and not isinstance(shape, str) else (shape,)
    for size in sizes:
        whole("the shape of one x", size)
    if not sizes or min(sizes) < 1 or math.prod(sizes) > MOST_VALUES:
        raise ValueError(
            f"the shape of one x must be a positive number or a tuple of them, with at most {MOST_VALUES} values, got "
            f"{shape!r}"
        )
    return sizes


def value_shape(shape: tuple[int, ...], channels_out: int | None) -> tuple[int, ...]:
    """Return the shape of one value of a network: the shape of x, with another first size if one is given."""
    return shape if channels_out is None else (channels_out, *shape[1:])


def as_image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the shape of one image, (C, H, W), as a tuple.

    Raises:
        TypeError: for sizes that are no whole numbers.
        ValueError: unless there are three positive sizes.
    """
    sizes = as_shape(tuple(shape) if isinstance(shape, Sequence) else shape)
    if len(sizes) != 3:
        raise ValueError(f"the shape of one image is (C, H, W), got {shape!r}")
    return sizes
