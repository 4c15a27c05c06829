"""Data of whole levels, such as images: noise that fills the gaps between levels, and bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..arguments import at_least, expect_floating


def width(levels: int, low: float, high: float) -> float:
    """Distance between two neighbouring levels."""
    at_least(2, levels=levels)
    if not low < high:
        raise ValueError(f"the lowest level must be below the highest, got {low:g} and {high:g}")
    return (high - low) / (levels - 1)


def dequantised(x0: Tensor, levels: int = 256, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Add uniform noise of the width of a level, so that data of whole levels have a density.

        E log p(x_0 + u) + D log(width) <= log P(x_0)

    Args:
        x0: Data of whole levels, (B, ...).
        levels: Number of levels.
        low: Value of the lowest level.
        high: Value of the highest level.

    Returns:
        The data with noise in [-width/2, width/2), from torch's generator of the CPU. Theis et al. 2016,
        arXiv 1511.01844.

    Raises:
        ValueError: There are fewer than two levels.
    """
    expect_floating("x0", x0)
    return x0 + width(levels, low, high) * (torch.rand(x0.shape, dtype=x0.dtype).to(x0.device) - 0.5)


def bits_per_dim(
    log_prob: Tensor, shape: Sequence[int], levels: int = 256, low: float = -1.0, high: float = 1.0
) -> Tensor:
    """Bits per dimension of data of whole levels, from the log-density of dequantised rows.

        -log p / (D log 2) - log2(width),     width = (high - low) / (levels - 1)

    Args:
        log_prob: Log-densities in nats, (B,).
        shape: Shape of a row.
        levels: Number of levels.
        low: Value of the lowest level.
        high: Value of the highest level.

    Returns:
        Bits, (B,). Uniform data have log2(levels).

    Raises:
        ValueError: There are fewer than two levels, or the shape is empty.
    """
    at_least(1, dimensions=math.prod(shape))
    return -log_prob / (math.prod(shape) * math.log(2)) - math.log2(width(levels, low, high))
