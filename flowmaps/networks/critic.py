"""Discriminators for adversarial stages: critic(x, label=None) -> (B,) logits of data against samples.

They are smooth, so that penalties on their gradient in x (R1, R2) can be differentiated again. They have no batch
normalisation, so that the logit of one row does not depend on the others. A label enters as a product with the last
features (the projection discriminator of Miyato & Koyama 2018, arXiv 1802.05637).
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import MOST_LAYERS, MOST_WIDTH, between, positive
from ..serialise import describable
from .embeddings import LabelEmbedding, refuse_label
from .layers import expect_shape
from .mlp import as_image_shape, as_shape


class Verdict(nn.Module):
    """The logit w . h + c of features h: (B, size) -> (B,).

    With classes, w . h + c + e_y . h / sqrt(size) with a learned vector e_y for each class y.

    Args:
        size: number of features.
        classes: number of classes. None: no label.
    """

    def __init__(self, size: int, classes: int | None) -> None:
        super().__init__()
        self.linear = nn.Linear(size, 1)
        self.label = None if classes is None else LabelEmbedding(classes, size)

    def forward(self, h: Tensor, label: Tensor | int | None) -> Tensor:
        """Compute the logits (B,) of features h (B, size)."""
        logit = self.linear(h).squeeze(1)
        if self.label is None:
            refuse_label(label)
            return logit
        return logit + (self.label(label) * h).sum(dim=1) / math.sqrt(h.shape[1])


@describable
class Critic(nn.Module):
    """An MLP with SiLU between its layers: critic(x, label=None) -> (B,) logits, for points and vectors.

    Args:
        shape: shape of one x, a number for vectors; images are flattened.
        width: width of the hidden layers.
        depth: number of hidden layers.
        classes: number of classes. None: unconditional.
        data_std: standard deviation of the data, which divides the input.

    Raises:
        TypeError: for a size that is no whole number.
        ValueError: for a size or `data_std` that is not positive.
    """

    def __init__(
        self,
        shape: int | tuple[int, ...],
        width: int = 256,
        depth: int = 3,
        *,
        classes: int | None = None,
        data_std: float = 1.0,
    ) -> None:
        super().__init__()
        between(1, MOST_WIDTH, width=width)
        between(1, MOST_LAYERS, depth=depth)
        self.shape = as_shape(shape)
        positive(data_std=data_std)
        self.data_std = data_std
        self.input = nn.Linear(math.prod(self.shape), width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.verdict = Verdict(width, classes)

    def forward(self, x: Tensor, label: Tensor | int | None = None) -> Tensor:
        """Compute the logits (B,) of x (B, *shape)."""
        expect_shape(x, self.shape, self.input.weight)
        h = F.silu(self.input(x.flatten(1) / self.data_std))
        for layer in self.hidden:
            h = F.silu(layer(h))
        return self.verdict(h, label).to(x.dtype)


@describable
class ImageCritic(nn.Module):
    """Strided convolutions with SiLU between them: critic(x, label=None) -> (B,) logits, for images.

    The first convolution has `width` channels. Each of `levels` further convolutions halves the sides (rounded up) and
    doubles the channels, up to 8 `width`. A linear layer reads the last feature map, with its positions.

    Args:
        shape: (C, H, W) of one image.
        width: channels of the first convolution.
        levels: number of convolutions that halve the sides.
        classes: number of classes. None: unconditional.

    Raises:
        TypeError: for a size that is no whole number.
        ValueError: for images that are a single pixel before the last level, or a size below 1.
    """

    def __init__(
        self, shape: tuple[int, int, int], width: int = 32, levels: int = 3, *, classes: int | None = None
    ) -> None:
        super().__init__()
        between(1, MOST_WIDTH, width=width)
        between(0, MOST_LAYERS, levels=levels)
        channels, height, across = self.shape = as_image_shape(shape)
        if max(height, across) <= 2 ** (levels - 1):
            raise ValueError(f"{levels} levels halve images of more than {2 ** (levels - 1)} pixels, got {shape}")
        widths = [width * min(2**level, 8) for level in range(levels + 1)]
        self.input = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
            for inputs, outputs in zip(widths[:-1], widths[1:], strict=True)
        )
        positions = math.ceil(height / 2**levels) * math.ceil(across / 2**levels)
        self.features = nn.Linear(positions * widths[-1], widths[-1])
        self.verdict = Verdict(widths[-1], classes)

    def forward(self, x: Tensor, label: Tensor | int | None = None) -> Tensor:
        """Compute the logits (B,) of images x (B, C, H, W)."""
        expect_shape(x, self.shape, self.input.weight)
        h = F.silu(self.input(x))
        for layer in self.down:
            h = F.silu(layer(h))
        return self.verdict(F.silu(self.features(h.flatten(1))), label).to(x.dtype)
