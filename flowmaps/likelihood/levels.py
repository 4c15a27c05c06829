"""Data of whole levels, such as images: noise that fills the gaps between levels, and bits per dimension.

A flow that was trained on the levels themselves puts all its mass on them, so the gaps have no density there at t = 0:
`noised` begins where the noise of the path fills the gaps. A flow that was trained on `dequantised` rows has a density.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..arguments import at_least, expect_floating
from ..path import Path, linear

REACH = 3.0
"""Number of standard deviations of the noise in half of the distance between levels."""
MASS = math.erf(REACH / math.sqrt(2))
"""Share of a normal law within this reach."""
LOG_MASS = math.log(MASS) + 0.5 * math.log(2 * math.pi)
ENTROPY = LOG_MASS + 0.5 - REACH * math.exp(-(REACH**2) / 2) / math.sqrt(2 * math.pi) / MASS
"""Entropy in nats of the noise of one value."""
HALVINGS = 60
"""Number of halvings of an interval that finds a time."""


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
        The data with noise in [-width/2, width/2), from torch's generator of the CPU, for a flow that was trained on
        such rows; for other flows take `noised`. Theis et al. 2016, arXiv 1511.01844.

    Raises:
        ValueError: There are fewer than two levels.
    """
    expect_floating("x0", x0)
    return x0 + width(levels, low, high) * (torch.rand(x0.shape, dtype=x0.dtype).to(x0.device) - 0.5)


def noised(
    x0: Tensor, levels: int = 256, low: float = -1.0, high: float = 1.0, *, path: Path = linear
) -> tuple[Tensor, float, Tensor]:
    """States of data of whole levels at the time whose noise fills the gaps between levels.

        x_t = alpha(t) x_0 + sigma(t) eps,    sigma(t)/alpha(t) = width/6,    eps ~ q, normal within 3 std
        E [log p_t(x_t) + change] + D log(width) <= log P(x_0),    change = D log(sigma(t)/width) - log q(eps)

    It is for flows that were trained on the levels themselves. Their density between levels vanishes at t = 0, so that
    an ODE with finer steps gives ever smaller values there.

    Args:
        x0: Data of whole levels, (B, ...).
        levels: Number of levels.
        low: Value of the lowest level.
        high: Value of the highest level.
        path: The path of the flow.

    Returns:
        The states, with noise from torch's generator of the CPU; their time, for `ode(start=t)` or `jumps(times=...)`;
        and the change of each row, (B,), which makes of its log-density one for `bits_per_dim`. Zheng et al. 2023,
        arXiv 2305.03935.

    Raises:
        ValueError: There are fewer than two levels.
    """
    expect_floating("x0", x0)
    gap = width(levels, low, high)
    t = time_of(path, gap / (2 * REACH))
    alpha, sigma = (float(one(torch.tensor(t, dtype=torch.float64))) for one in (path.alpha, path.sigma))
    between = torch.rand(x0.shape, dtype=torch.float64) * 2 - 1
    eps = torch.special.ndtri(0.5 + 0.5 * MASS * between).to(x0)
    of_noise = eps.flatten(1).to(torch.promote_types(x0.dtype, torch.float32)).square() / 2 + LOG_MASS
    return alpha * x0 + sigma * eps, t, of_noise.sum(1) + x0[0].numel() * math.log(sigma / gap)


def time_of(path: Path, ratio: float) -> float:
    """The time at which sigma(t)/alpha(t) is a ratio, to the precision of float64."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        t = torch.tensor((low + high) / 2, dtype=torch.float64)
        low, high = (float(t), high) if float(path.sigma(t)) < ratio * float(path.alpha(t)) else (low, float(t))
    return high


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
    if isinstance(shape, int) or not len(shape):
        raise ValueError(f"the shape of a row is a tuple such as (1, 8, 8), got {shape}")
    at_least(1, dimensions=math.prod(shape))
    return -log_prob / (math.prod(shape) * math.log(2)) - math.log2(width(levels, low, high))
