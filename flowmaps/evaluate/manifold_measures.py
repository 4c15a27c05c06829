"""Distances between two sets of points on a manifold, by their geodesic distances, and the measures of such data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle

import torch
from torch import Tensor

from ..arguments import at_least, expect_finite, expect_tensor
from ..data import Data
from ..manifolds import Manifold
from .distances import Estimate
from .measures import Draws, Measure, mean_and_stderr, split
from .neighbours import neighbour_measures

Kernel = Callable[[Tensor], Tensor]
PAIRS = 2**20
"""Number of pairs of points whose distances are computed at a time."""
OFF = 1e-3
"""Largest distance of a point to the manifold."""


def gaussian_kernel(distance: Tensor) -> Tensor:
    """exp(-d^2) of distances d.

    With it `biased_geodesic_mmd` of two random tenths of a data set has the floors at which published values lie: 0.05
    for the earthquakes and 0.03 for the RNA torsions. On closed manifolds it is not positive definite, so that the
    squared discrepancy of two different laws may be 0; `laplace_kernel` is, on spheres.
    """
    return torch.exp(-(distance**2))


def laplace_kernel(distance: Tensor) -> Tensor:
    """exp(-d) of distances d, positive definite on spheres."""
    return torch.exp(-distance)


def geodesic_mmd(x: Tensor, y: Tensor, manifold: Manifold, kernel: Kernel = gaussian_kernel) -> Estimate:
    """Unbiased squared maximum mean discrepancy of two sets of points, by a kernel of their geodesic distances.

        U = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

    Gretton et al. 2012, A Kernel Two-Sample Test, section 2.

    Args:
        x: Points (N, size).
        y: Points (M, size).
        manifold: The manifold.
        kernel: Function of distances, in the units of the metric. The default is exp(-d^2).

    Returns:
        The squared discrepancy, which can be slightly negative, and its standard error, by leaving out one point after
        another; up to a factor of sqrt(2) too large if both sets come from one distribution.

    Raises:
        ValueError: A set has fewer than three points, a point is not finite or off the manifold, or the shapes differ.
    """
    x, y = _checked(x, y, manifold, least=3)
    return _unbiased(_row_sums(x, manifold, kernel), _row_sums(y, manifold, kernel), _sums(x, y, manifold, kernel))


def biased_geodesic_mmd(x: Tensor, y: Tensor, manifold: Manifold, kernel: Kernel = gaussian_kernel) -> float:
    """Maximum mean discrepancy as papers report it: biased, and not squared.

    Pairs of a point with itself are included, so that it is far from 0 for two sets of one distribution: compare it
    with its floor, the value for two sets of data of the same size.

    Args:
        x: Points (N, size).
        y: Points (M, size).
        manifold: The manifold.
        kernel: Function of distances. The default is exp(-d^2).

    Returns:
        sqrt(mean_{i, j} k(x_i, x_j) + mean_{i, j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)), 0 below 0.

    Raises:
        ValueError: A set has no points, a point is not finite or off the manifold, or the shapes differ.
    """
    x, y = _checked(x, y, manifold, least=1)
    cross = _sums(x, y, manifold, kernel)[0].mean() / len(y)
    own = [_sums(rows, rows, manifold, kernel)[0].mean() / len(rows) for rows in (x, y)]
    return float((own[0] + own[1] - 2 * cross).clamp(min=0).sqrt())


def coverage(x: Tensor, y: Tensor, manifold: Manifold, neighbours: int = 5) -> Estimate:
    """Share of data points with a sample nearer than their k-th nearest neighbour among the data.

    Args:
        x: Samples (N, size).
        y: Data (M, size). Copies of a point count once.
        manifold: The manifold.
        neighbours: The number k.

    Returns:
        The share and its standard error. For as many samples of the distribution of the data it is about 1 - 2^-k;
        missed modes lower it.

    Raises:
        ValueError: There are fewer distinct data than k + 1, a point is not finite or off the manifold, or the shapes
            differ.

    Naeem et al. 2020, arXiv 2002.09797, with geodesic distances.
    """
    at_least(1, neighbours=neighbours)
    x, y = _checked(x, y, manifold, least=1)
    y = y.unique(dim=0)
    if len(y) <= neighbours:
        raise ValueError(f"coverage by {neighbours} neighbours needs {neighbours + 1} distinct data, got {len(y)}")
    radius = _each(y, y, manifold, lambda d: d.kthvalue(neighbours + 1, dim=1).values)
    covered = (_each(y, x, manifold, lambda d: d.amin(1)) < radius).double()
    share = float(covered.mean())
    return Estimate(share, math.sqrt(share * (1 - share) / len(covered)))


def geodesic_nearest(x: Tensor, y: Tensor, manifold: Manifold) -> Tensor:
    """Geodesic distance from each point to the nearest point of another set.

    Args:
        x: Points (N, size).
        y: Points (M, size).
        manifold: The manifold.

    Returns:
        The distances (N,).

    Raises:
        ValueError: A set has no points, a point is not finite or off the manifold, or the shapes differ.
    """
    x, y = _checked(x, y, manifold, least=1)
    return _each(x, y, manifold, lambda d: d.amin(1))


def manifold_measures(data: Data, manifold: Manifold, draws: Draws, seed: int) -> Iterator[Measure]:
    """The measures of points on a manifold, the main one ("distance") first.

    Args:
        data: The data set.
        manifold: Its manifold.
        draws: Its draws.
        seed: Fixes rows of the data.

    Yields:
        One measure after another.
    """
    yield _discrepancy_measure(draws, manifold)
    if len(draws.held_out[0].unique(dim=0)) > NEIGHBOURS_OF_COVERAGE:
        yield _coverage_measure(draws, manifold)
    if data.size:
        nearest = partial(geodesic_nearest, manifold=manifold)
        yield from neighbour_measures(data, draws, seed, nearest, "training point", draws.n)


NEIGHBOURS_OF_COVERAGE = 5
"""Number of neighbours of the measure "coverage"."""


def _discrepancy_measure(draws: Draws, manifold: Manifold) -> Measure:
    """The squared discrepancy of draws of samples to held-out draws, whose own sums are computed once."""
    known = [(rows, _row_sums(manifold.point(rows.double()), manifold, gaussian_kernel)) for rows in draws.held_out]

    def value(x: Tensor, y: Tensor, of_y: Tensor) -> float:
        x, y = _checked(x, y.to(x.device), manifold, least=3)
        of_x, cross = _row_sums(x, manifold, gaussian_kernel), _sums(x, y, manifold, gaussian_kernel)
        return _unbiased(of_x, of_y.to(x.device), cross).value

    def estimate(x: Tensor) -> Estimate:
        pairs = zip(split(x[: draws.wanted], draws.n), cycle(known), strict=False)
        return mean_and_stderr([value(rows, *other) for rows, other in pairs])

    title = "squared MMD by the kernel exp(-d^2) of geodesic distances d (unbiased, so it can fall below 0)"
    return Measure("distance", title, draws.wanted, draws.wanted, estimate, estimate(torch.cat(draws.training)))


def _coverage_measure(draws: Draws, manifold: Manifold) -> Measure:
    """The coverage of the first held-out draw, by draws of samples of its size."""

    def estimate(x: Tensor) -> Estimate:
        rows = split(x[: draws.wanted], draws.n)
        return mean_and_stderr(
            [coverage(one, draws.held_out[0], manifold, NEIGHBOURS_OF_COVERAGE).value for one in rows]
        )

    title = (
        f"share of held-out points with a sample nearer than their {NEIGHBOURS_OF_COVERAGE}th neighbour: the floor is "
        "the value for data, and missed regions lower it"
    )
    return Measure("coverage", title, draws.wanted, draws.wanted, estimate, estimate(torch.cat(draws.training)))


def _unbiased(of_x: Tensor, of_y: Tensor, cross: tuple[Tensor, Tensor]) -> Estimate:
    """The squared discrepancy of sums of kernels over the other points of each set, and over the other set."""
    n, m = len(of_x), len(of_y)
    within_x, within_y, between_both = of_x.sum(), of_y.sum(), cross[0].sum()
    x_part, y_part = within_x / (n * (n - 1)), within_y / (m * (m - 1))
    value = x_part + y_part - 2 * between_both / (n * m)
    without_x = (within_x - 2 * of_x) / ((n - 1) * (n - 2)) - 2 * (between_both - cross[0]) / ((n - 1) * m)
    without_y = (within_y - 2 * of_y) / ((m - 1) * (m - 2)) - 2 * (between_both - cross[1]) / (n * (m - 1))
    variance = (n - 1) * without_x.var(correction=0) + (m - 1) * without_y.var(correction=0)
    return Estimate(float(value), float(variance.sqrt()))


def _row_sums(x: Tensor, manifold: Manifold, kernel: Kernel) -> Tensor:
    """Sum of the kernel of each point with the others, (N,)."""
    return _sums(x, x, manifold, kernel)[0] - kernel(torch.zeros((), dtype=x.dtype, device=x.device))


def _sums(x: Tensor, y: Tensor, manifold: Manifold, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """Sums of the kernel over the points of y, for each point of x, and over the points of x, for each point of y."""
    over_y, over_x = [], torch.zeros(len(y), dtype=x.dtype, device=x.device)
    for rows in x.split(max(1, PAIRS // len(y))):
        values = kernel(manifold.distance(rows[:, None], y[None]))
        over_y.append(values.sum(1))
        over_x += values.sum(0)
    return torch.cat(over_y), over_x


def _each(x: Tensor, y: Tensor, manifold: Manifold, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A function (rows, M) -> (rows,) of the distances of each point of x to all points of y."""
    parts = x.split(max(1, PAIRS // len(y)))
    return torch.cat([function(manifold.distance(rows[:, None], y[None])) for rows in parts])


def _checked(x: Tensor, y: Tensor, manifold: Manifold, least: int) -> tuple[Tensor, Tensor]:
    """Both sets in float64, on the manifold. Raises ValueError for other rows."""
    for name, rows in (("x", x), ("y", y)):
        expect_tensor(name, rows)
        if rows.ndim != 2 or rows.shape[1] != manifold.size or len(rows) < least:
            raise ValueError(
                f"{name} must be at least {least} points (N, {manifold.size}) of {manifold}, got {tuple(rows.shape)}"
            )
        expect_finite(name, rows)
        off = int((manifold.off(rows.double()) > OFF).sum())
        if off:
            raise ValueError(f"{name} must be points of {manifold}, and {off} of {len(rows)} are off it")
    return manifold.point(x.double()), manifold.point(y.double())
