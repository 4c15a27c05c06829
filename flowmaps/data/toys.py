"""Built-in data sets, one function each: toy distributions in the plane, sampled anew for every batch, and digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..arguments import MOST_CLASSES, between, checked, install, positive, within
from ..exact import Categorical, Exact, Gaussian, GaussianMixture
from ..exact.base import floating
from ..path import Geodesic
from .core import Batch, Data, kind_of
from .sources import Finite, Fresh, TensorRows


def checkerboard() -> Data:
    """The 4 x 4 checkerboard on [-1, 1]^2 (Boffi et al. 2025, arXiv 2505.18825, appendix G.1), uniform on one colour.

        u ~ U[0, 1]^2,  kept where floor(4 u_1) + floor(4 u_2) is even,  x = 2 u - 1;    density 1/2 there, 0 elsewhere.

    The protocol's base distribution is sigma_d N(0, I) with sigma_d the standard deviation over all entries:
    `data.std`, here 1/sqrt(3) = 0.577 exactly. The published runs draw from ten million fixed points; here every point
    is fresh.
    """
    return Data("checkerboard", (2,), Fresh(_board), "points", log_prob=_board_log_prob, known_std=3**-0.5)


def _board(n: int, rng: torch.Generator) -> Batch:
    """Draw a square of the colour, then a point in it: the distribution of rejection sampling, without rejections."""
    column, half = torch.randint(4, (n,), generator=rng), torch.randint(2, (n,), generator=rng)
    corner = torch.stack((column, 2 * half + column % 2), 1)
    return Batch((corner + torch.rand(n, 2, generator=rng)) / 2 - 1)


def _board_log_prob(x: Tensor) -> Tensor:
    """Log density: log 1/2 on the squares of the colour, -inf elsewhere."""
    square = (2 * (x + 1)).floor()
    on = ((square >= 0) & (square < 4)).all(1) & (square.sum(1) % 2 == 0)
    return torch.where(on, x.new_tensor(math.log(0.5)), -math.inf)


def exact(distribution: Exact, name: str) -> Data:
    """Make a data set of a distribution of `flowmaps.exact`.

    Args:
        distribution: The distribution, sampled anew for every batch, in the default dtype.
        name: Name in messages and tables.

    Returns:
        A data set with a known density, or of tokens with known probabilities for a `Categorical`.
    """

    def sample(n: int, rng: torch.Generator) -> Batch:
        return Batch(distribution.sample(n, generator=rng).to(torch.get_default_dtype()))

    shape = tuple(distribution.shape)
    path = distribution.path
    manifold = path.manifold if isinstance(path, Geodesic) else None
    kind = "tokens" if isinstance(distribution, Categorical) else "vectors" if manifold is not None else kind_of(shape)
    known: dict[str, Any] = {"exact": distribution, "log_prob": distribution.log_prob, "manifold": manifold}
    return Data(name, shape, Fresh(sample), kind, **known)


def gaussian(
    mean: Sequence[float] = (0.5, -0.5), covariance: Sequence[Sequence[float]] = ((1.0, 0.6), (0.6, 0.5))
) -> Data:
    """A Gaussian N(mean, covariance), as an exact distribution.

    Args:
        mean: Mean, of any dimension D.
        covariance: Covariance matrix (D, D).

    Returns:
        The data set.
    """
    dtype = torch.get_default_dtype()
    centre, spread = floating(mean, "mean").to(dtype), floating(covariance, "covariance").to(dtype)
    return exact(Gaussian(centre, covariance=spread), "gaussian")


def mixture(
    weights: Sequence[float] = (0.5, 0.3, 0.2),
    means: Sequence[Sequence[float]] = ((-1.0, -0.5), (1.0, -0.5), (0.25, 1.25)),
    stds: float | Sequence[float] = (0.3, 0.2, 0.4),
) -> Data:
    """A mixture of Gaussians sum_k weights_k N(means_k, stds_k^2 I), as an exact distribution.

    Args:
        weights: Probabilities of the K components. The default has three unequal components in the plane.
        means: Means (K, D).
        stds: Standard deviation of each component, or one for all.

    Returns:
        The data set.
    """
    return exact(GaussianMixture(weights, means, stds), "mixture")


@checked
def eight_gaussians(radius: float = 2.0, std: float = 0.2) -> Data:
    """Eight equal Gaussians, evenly spaced on a circle, as an exact distribution.

    Args:
        radius: Radius of the circle.
        std: Standard deviation of each Gaussian.

    Returns:
        The data set.
    """
    positive(radius=radius, std=std)
    angles = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    means = radius * torch.stack((angles.cos(), angles.sin()), 1)
    return exact(GaussianMixture([1 / 8] * 8, means, std), "eight_gaussians")


@checked
def two_moons(noise: float = 0.05, labels: bool = False) -> Data:
    """Two interleaving half circles of radius 1, centred on the origin, with Gaussian noise.

    Args:
        noise: Standard deviation of the noise.
        labels: Whether each half circle is a class. By default there are no labels.

    Returns:
        The data set.
    """
    within(0, math.inf, noise=noise)

    def curve(u: Tensor, moon: Tensor) -> Tensor:
        sign = 1 - 2 * moon
        return torch.stack((sign * ((math.pi * u).cos() - 0.5), sign * ((math.pi * u).sin() - 0.25)), 1)

    return _curves("two_moons", curve, 2, noise, labels)


@checked
def spirals(arms: int = 2, turns: float = 1.5, noise: float = 0.03, labels: bool = False) -> Data:
    """Spirals from the centre to radius 2, evenly rotated against each other, with Gaussian noise.

    The radius is 2 sqrt(u) with u ~ U[0, 1], nearly even along the curve.

    Args:
        arms: Number of spirals.
        turns: Number of turns of each.
        noise: Standard deviation of the noise.
        labels: Whether each spiral is a class. By default there are no labels.

    Returns:
        The data set.

    Raises:
        ValueError: There is less than one arm.
    """
    between(1, MOST_CLASSES, arms=arms)
    within(0, math.inf, noise=noise)

    def curve(u: Tensor, arm: Tensor) -> Tensor:
        along = u.sqrt()
        angle = 2 * math.pi * (turns * along + arm / arms)
        return 2 * along[:, None] * torch.stack((angle.cos(), angle.sin()), 1)

    return _curves("spirals", curve, arms, noise, labels)


def _curves(name: str, curve: Callable[[Tensor, Tensor], Tensor], pieces: int, noise: float, labels: bool) -> Data:
    """Points curve(u, piece) + noise N(0, I) with u ~ U[0, 1] and a uniform piece, which is the class if `labels`."""

    def sample(n: int, rng: torch.Generator) -> Batch:
        piece = torch.randint(pieces, (n,), generator=rng)
        x0 = curve(torch.rand(n, generator=rng), piece) + noise * torch.randn(n, 2, generator=rng)
        return Batch(x0, piece if labels else None)

    return Data(name, (2,), Fresh(sample), "points", classes=pieces if labels else None)


def digits() -> Data:
    """The 1797 handwritten digits of scikit-learn (Alpaydin and Kaynak 1998): (1, 8, 8), 17 grey levels, ten classes.

    Pixels are x / 8 - 1. 1437 images are for training and 360 held out, stratified by class with a fixed seed.

    Returns:
        The data set.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError(f"the digits come with scikit-learn: {install('data')}") from error
    raw = load_digits()
    label = torch.as_tensor(raw.target).long()
    x = torch.as_tensor(raw.images).to(torch.get_default_dtype()).unsqueeze(1) / 8 - 1
    train, test = (
        torch.as_tensor(i) for i in train_test_split(range(len(x)), test_size=360, stratify=label, random_state=0)
    )
    source = Finite(TensorRows(x[train], label[train]), TensorRows(x[test], label[test]))
    return Data("digits", (1, 8, 8), source, "images", classes=10, class_names=tuple("0123456789"), levels=17)
