"""Toy data in the plane, drawn fresh for every batch and without end. Each function makes one data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..exact import Exact, Gaussian, GaussianMixture
from .core import Batch, Data, kind_of
from .sources import Fresh


def checkerboard() -> Data:
    """The 4 x 4 board on [-1, 1]^2 of Boffi et al. 2025 (arXiv 2505.18825, appendix G.1), uniform on one colour:

        u ~ U[0, 1]^2,  kept where floor(4 u_1) + floor(4 u_2) is even,  x = 2 u - 1;    density 1/2 there, 0 elsewhere.

    The protocol's base distribution is sigma_d N(0, I) with sigma_d the standard deviation over all entries:
    `data.std`, here 1/sqrt(3) = 0.577 exactly. The published runs draw from ten million fixed points; here every point
    is fresh.
    """
    return Data("checkerboard", (2,), Fresh(_board), "points", log_prob=_board_log_prob, known_std=3**-0.5)


def _board(n: int, rng: torch.Generator) -> Batch:
    """Draw the square, then the place in it: what rejection gives, without rejecting."""
    column, half = torch.randint(4, (n,), generator=rng), torch.randint(2, (n,), generator=rng)
    corner = torch.stack((column, 2 * half + column % 2), 1)
    return Batch((corner + torch.rand(n, 2, generator=rng)) / 2 - 1)


def _board_log_prob(x: Tensor) -> Tensor:
    """log 1/2 on the board, -inf off it."""
    square = (2 * (x + 1)).floor()
    on = ((square >= 0) & (square < 4)).all(1) & (square.sum(1) % 2 == 0)
    return torch.where(on, x.new_tensor(math.log(0.5)), -math.inf)


def exact(distribution: Exact, name: str) -> Data:
    """A distribution of `flowmaps.exact` as data: fresh draws in the default dtype, its density known."""

    def sample(n: int, rng: torch.Generator) -> Batch:
        return Batch(distribution.sample(n, generator=rng).to(torch.get_default_dtype()))

    shape = tuple(distribution.shape)
    return Data(name, shape, Fresh(sample), kind_of(shape), exact=distribution, log_prob=distribution.log_prob)


def gaussian(
    mean: Sequence[float] = (0.5, -0.5), covariance: Sequence[Sequence[float]] = ((1.0, 0.6), (0.6, 0.5))
) -> Data:
    """N(mean, covariance) with a full covariance matrix, in as many dimensions as `mean` has numbers. Exact."""
    return exact(Gaussian(torch.tensor(mean), covariance=torch.tensor(covariance)), "gaussian")


def mixture(
    weights: Sequence[float] = (0.5, 0.3, 0.2),
    means: Sequence[Sequence[float]] = ((-1.0, -0.5), (1.0, -0.5), (0.25, 1.25)),
    stds: float | Sequence[float] = (0.3, 0.2, 0.4),
) -> Data:
    """sum_k weights_k N(means_k, stds_k^2 I). Exact; by default three unequal components in the plane."""
    return exact(GaussianMixture(weights, means, stds), "mixture")


def eight_gaussians(radius: float = 2.0, std: float = 0.2) -> Data:
    """Eight equal Gaussians of scale `std` evenly on a circle of `radius`. Exact."""
    angles = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    means = radius * torch.stack((angles.cos(), angles.sin()), 1)
    return exact(GaussianMixture([1 / 8] * 8, means, std), "eight_gaussians")


def two_moons(noise: float = 0.05, labels: bool = False) -> Data:
    """Two interleaving half circles of radius 1, centred on the origin, with Gaussian noise; `labels=True` makes each
    moon a class.
    """

    def curve(u: Tensor, moon: Tensor) -> Tensor:
        sign = 1 - 2 * moon
        return torch.stack((sign * ((math.pi * u).cos() - 0.5), sign * ((math.pi * u).sin() - 0.25)), 1)

    return _curves("two_moons", curve, 2, noise, labels)


def spirals(arms: int = 2, turns: float = 1.5, noise: float = 0.03, labels: bool = False) -> Data:
    """`arms` spirals from the centre to radius 2, each turned by 360/arms degrees against the last, with noise.

    The radius is 2 sqrt(u) with u ~ U[0, 1], nearly even along the curve. `labels=True` makes each arm a class.
    Raises ValueError for fewer than one arm.
    """
    if arms < 1:
        raise ValueError(f"spirals need at least one arm, got {arms}")

    def curve(u: Tensor, arm: Tensor) -> Tensor:
        along = u.sqrt()
        angle = 2 * math.pi * (turns * along + arm / arms)
        return 2 * along[:, None] * torch.stack((angle.cos(), angle.sin()), 1)

    return _curves("spirals", curve, arms, noise, labels)


def _curves(name: str, curve: Callable[[Tensor, Tensor], Tensor], pieces: int, noise: float, labels: bool) -> Data:
    """Points curve(u, piece) + noise N(0, I) with u ~ U[0, 1] and an even choice of piece, which is the class if
    `labels`.
    """

    def sample(n: int, rng: torch.Generator) -> Batch:
        piece = torch.randint(pieces, (n,), generator=rng)
        x0 = curve(torch.rand(n, generator=rng), piece) + noise * torch.randn(n, 2, generator=rng)
        return Batch(x0, piece if labels else None)

    return Data(name, (2,), Fresh(sample), "points", classes=pieces if labels else None)
