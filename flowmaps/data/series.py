"""Short time series of ten classes, by a formula: templates of bumps and plateaus, moved, stretched and tilted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import MOST_VALUES, between, check_seed, checked, within
from .core import HELD_OUT, TRAIN, Batch, Data, generator
from .sources import Finite, Fresh, TensorRows

BUMPS: tuple[tuple[tuple[float, float, float], ...], ...] = (
    ((1.0, 0.0, 0.22),),
    ((1.0, -0.45, 0.16), (1.0, 0.45, 0.16)),
    ((1.0, -0.4, 0.18), (-1.0, 0.4, 0.18)),
    (),
    ((-0.9, 0.0, 0.14),),
    ((0.9, 0.6, 0.13),),
    ((0.5, -0.6, 0.14), (0.9, 0.0, 0.14), (0.5, 0.6, 0.14)),
    ((1.0, -0.6, 0.12), (-0.8, -0.1, 0.14), (0.6, 0.45, 0.18)),
    ((-0.7, -0.5, 0.2),),
    ((-0.8, -0.55, 0.14), (-0.8, 0.55, 0.14)),
)
"""(height, centre, width) of the bumps of each class."""
PLATEAUS: tuple[tuple[tuple[float, float, float], ...], ...] = (
    (),
    (),
    (),
    ((0.9, -0.6, 0.6),),
    ((0.9, -0.7, 0.7),),
    ((0.6, -0.8, 0.1),),
    (),
    (),
    ((0.8, 0.0, 0.75),),
    ((0.5, -0.25, 0.25),),
)
"""(height, start, end) of the plateaus of each class."""
EDGE = 0.06
"""Width of the edges of a plateau."""
SMOOTH = 1.5
"""Correlation of the noise: standard deviation of its kernel, in points of 40."""


@checked
def series(length: int = 40, noise: float = 0.08, rows: int | None = None, seed: int = 0) -> Data:
    """Time series (length,) of ten classes, in the manner of MNIST-1D (Greydanus and Kobak, arXiv 2011.14439).

    At times tau_i, evenly from -1 to 1, a row of class k is

        x_i = a f_k((tau_i - m) / w) + b tau_i + noise n_i,
        f_k(u) = sum h exp(-((u - c) / r)^2 / 2)  over the bumps (h, c, r) of the class
               + sum h (tanh((u - p) / 0.06) - tanh((u - q) / 0.06)) / 2  over its plateaus (h, p, q),

    with fresh a ~ U[0.7, 1.3] (scale), w ~ U[0.35, 0.65] (width), m ~ U[-(1 - w), 1 - w] (shift, the template stays
    inside and the rest is padding), b ~ U[-0.5, 0.5] (shear), and n standard normal, smoothed along the series by a
    Gaussian of 1.5 points of 40 and brought back to variance 1. `BUMPS` and `PLATEAUS` hold the ten templates, which
    were made for this library.

    Args:
        length: Number of points, 16 to 1024.
        noise: Standard deviation of the noise.
        rows: Number of training rows of a finite set, with a fifth as many held out. None: every row is fresh.
        seed: Fixes the rows of a finite set.

    Returns:
        The data set.

    Raises:
        ValueError: A number is out of range.
    """
    between(16, 1024, length=length)
    within(0, math.inf, noise=noise)
    check_seed(seed)

    def sample(n: int, rng: torch.Generator) -> Batch:
        label = torch.randint(len(BUMPS), (n,), generator=rng)
        return Batch(_drawn(label, length, noise, rng), label)

    source: Fresh | Finite = Fresh(sample)
    if rows is not None:
        between(2, MOST_VALUES // length, rows=rows)
        train, test = sample(rows, generator(seed, 0, TRAIN)), sample(-(-rows // 5), generator(seed, 0, HELD_OUT))
        source = Finite(TensorRows(train.x0, train.label), TensorRows(test.x0, test.label))
    return Data("series", (length,), source, "vectors", len(BUMPS), tuple("0123456789"))


def template(u: Tensor, number: int) -> Tensor:
    """The template f_k of a class at u (of any shape)."""
    total = torch.zeros_like(u)
    for height, centre, width in BUMPS[number]:
        total = total + height * (-((u - centre) / width).square() / 2).exp()
    for height, start, end in PLATEAUS[number]:
        total = total + height * (((u - start) / EDGE).tanh() - ((u - end) / EDGE).tanh()) / 2
    return total


def _drawn(label: Tensor, length: int, noise: float, rng: torch.Generator) -> Tensor:
    """Rows (N, length) of classes (N,)."""
    n, tau = len(label), torch.linspace(-1, 1, length)
    scale, width, shift, shear, white = (
        *(torch.rand(n, 1, generator=rng) for _ in range(4)),
        torch.randn(n, length + 2 * _reach(length), generator=rng),
    )
    w = 0.35 + 0.3 * width
    u = (tau - (2 * shift - 1) * (1 - w)) / w
    of_class = torch.empty_like(u)
    for k in range(len(BUMPS)):
        of_class[label == k] = template(u[label == k], k)
    smooth = white.unfold(1, 2 * _reach(length) + 1, 1) @ _kernel(length)
    return (0.7 + 0.6 * scale) * of_class + (shear - 0.5) * tau + noise * smooth


def _reach(length: int) -> int:
    """Points on either side that the kernel of the noise takes, four standard deviations."""
    return math.ceil(4 * SMOOTH * length / 40)


def _kernel(length: int) -> Tensor:
    """The kernel of the noise, whose squares have sum 1."""
    at = torch.arange(-_reach(length), _reach(length) + 1).to(torch.get_default_dtype())
    kernel = (-(at / (SMOOTH * length / 40)).square() / 2).exp()
    return kernel / kernel.norm()
