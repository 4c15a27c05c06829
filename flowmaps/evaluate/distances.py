"""Distances between two sets of samples, and between samples and a known density.

Rows are samples: x (N, *shape), y (M, *shape). Everything is computed in float64 and returned as a number. The unbiased
ones (energy, kernel) have mean zero for two sets from one distribution and can come out slightly negative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..arguments import at_least, check_seed, expect_finite, expect_tensor, install, positive, shown

CHUNK = 1024
"""Largest number of rows whose distances to all other rows are computed at a time."""
PAIRS = 2**24
"""Number of pairs of rows up to which their distances are kept together, which bounds the memory."""


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    stderr: float


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Squared Wasserstein-2 distance of the Gaussians fitted to two sets of features.

    |m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2)) (Heusel et al. 2017, arXiv 1706.08500, eq. 6), by torchmetrics'
    `FrechetInceptionDistance` on rows that are features already. Biased upwards by about K (1/N + 1/M): compare at
    equal sample counts.

    Args:
        x: Features (N, K).
        y: Features (M, K).

    Returns:
        The distance.

    Raises:
        ImportError: If torchmetrics is not installed.
        ValueError: If a set has fewer than two rows, the shapes differ, or a value is not finite.
    """
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError as error:
        raise ImportError(f"the Fréchet distance needs torchmetrics: {install('evaluate')}") from error
    _check(x, y)
    metric = FrechetInceptionDistance(feature=_AsTheyAre(x.flatten(1).shape[1]))
    metric.update(x.flatten(1).double(), real=False)
    metric.update(y.flatten(1).double(), real=True)
    return float(metric.compute())


class _AsTheyAre(nn.Module):
    """A feature network that returns its input, with the attribute that torchmetrics reads."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, rows: Tensor) -> Tensor:
        return rows


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (a . b / K + 1)^3.

    Binkowski et al. 2018, arXiv 1801.01401, section 4. Standardise the features first. Pairs of a row with itself are
    left out.

    Args:
        x: Features (N, K).
        y: Features (M, K).

    Returns:
        The distance; it can be slightly negative.

    Raises:
        ValueError: If a set has fewer than two rows, the shapes differ, or a value is not finite.
    """
    _check(x, y)
    x, y = x.flatten(1).double(), y.flatten(1).double()

    def total(a: Tensor, b: Tensor) -> Tensor:
        return _summed(lambda rows: (rows @ b.T / b.shape[1] + 1) ** 3, a, PAIRS // len(b))

    def within(a: Tensor) -> Tensor:
        itself = (a.square().sum(1) / a.shape[1] + 1) ** 3
        return (total(a, a) - itself.sum()) / (len(a) * (len(a) - 1))

    return float(within(x) + within(y) - 2 * total(x, y) / (len(x) * len(y)))


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Unbiased energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'|.

    Székely and Rizzo 2013, doi 10.1016/j.jspi.2013.03.018, as U-statistics.

    Args:
        x: Samples (N, *shape).
        y: Samples (M, *shape).

    Returns:
        The distance; it can be slightly negative.

    Raises:
        ValueError: If a set has fewer than two rows, the shapes differ, or a value is not finite.
    """
    _check(x, y)
    x, y = x.flatten(1).double(), y.flatten(1).double()
    return float(2 * _far(x, y) / (len(x) * len(y)) - _mean_within(x) - _mean_within(y))


def _far(x: Tensor, y: Tensor) -> Tensor:
    """The sum of the distances of all rows of x to all rows of y."""
    # the matrix-product form of cdist loses the small distances, which are the ones that count here
    exactly = "donot_use_mm_for_euclid_dist"
    return _summed(lambda rows: torch.cdist(rows, y, compute_mode=exactly), x, min(CHUNK, PAIRS // len(y)))


def _mean_within(x: Tensor) -> Tensor:
    """The mean distance of two different rows of x."""
    pairs = len(x) * (len(x) - 1) // 2
    return torch.pdist(x).mean() if pairs <= PAIRS else _far(x, x) / (2 * pairs)


def _summed(function: Callable[[Tensor], Tensor], x: Tensor, at_a_time: int) -> Tensor:
    """The sum of all entries of function(rows) over the rows of x, some rows at a time."""
    return torch.stack([function(rows).sum() for rows in x.split(max(1, at_a_time))]).sum()


def sliced_energy_distance(x: Tensor, y: Tensor, directions: int = 128, seed: int = 0) -> float:
    """Unbiased energy distance between x . u and y . u, averaged over random directions u, by sorting.

    |a - b| is proportional to the mean of |(a - b) . u|, so over all directions this is the energy distance times a
    constant of the dimension. With a fixed number of directions it costs N log N instead of N^2.

    Args:
        x: Samples (N, *shape).
        y: Samples (M, *shape).
        directions: The number of directions.
        seed: Fixes the directions.

    Returns:
        The distance; it can be slightly negative.

    Raises:
        ValueError: If a set has fewer than two rows, the shapes differ, or a value is not finite.
    """
    at_least(1, directions=directions)
    check_seed(seed)
    _check(x, y)
    x, y = x.flatten(1).double(), y.flatten(1).double()
    u = torch.randn(x.shape[1], directions, generator=torch.Generator().manual_seed(seed), dtype=x.dtype).to(x.device)
    u = u / u.norm(dim=0)
    at_a_time = max(1, PAIRS // (len(x) + len(y)))
    return float(torch.cat([_along(x @ some, y @ some) for some in u.split(at_a_time, dim=1)]).mean())


def _along(x: Tensor, y: Tensor) -> Tensor:
    """The energy distance of each column of x (N, K) and y (M, K), as (K,)."""
    n, m, within_x, within_y = len(x), len(y), _pair_sum(x), _pair_sum(y)
    cross = (_pair_sum(torch.cat((x, y))) - within_x - within_y) / (n * m)
    return 2 * cross - 2 * within_x / (n * (n - 1)) - 2 * within_y / (m * (m - 1))


def _pair_sum(rows: Tensor) -> Tensor:
    """Sum over pairs i < j of |r_i - r_j| by column: sum_k (2k - N + 1) r_(k) over sorted rows r_(0) <= r_(1) <= ..."""
    n = len(rows)
    place = torch.arange(n, dtype=rows.dtype, device=rows.device) * 2 - (n - 1)
    return (place[:, None] * rows.sort(dim=0).values).sum(0)


def histogram_kl(
    x: Tensor, log_prob: Callable[[Tensor], Tensor], *, bins: int, half_width: float, resamples: int = 32, seed: int = 0
) -> Estimate:
    """KL divergence of a density in the plane from the histogram of samples.

    KL(rho || hist) = sum over bins with rho > 0 of rho log(rho / hist) dA on [-half_width, half_width]^2, with rho at
    the centre of a bin. The metric of Boffi et al. 2025 (arXiv 2505.18825, appendix G.1: 64000 samples, 50 bins). hist
    counts all N samples, also those outside the square, and an empty bin counts as half a sample, so the result is
    finite. A perfect sampler scores about (number of bins) / (2 N), and more if bins straddle an edge of the density.

    Args:
        x: Samples (N, 2).
        log_prob: log rho of points (M, 2).
        bins: Bins along each side.
        half_width: Half the width of the square.
        resamples: Resamples of the Poisson bootstrap that gives the standard error.
        seed: Fixes the resamples.

    Returns:
        The divergence and its standard error.

    Raises:
        ValueError: If x are no points of the plane or a value is not finite, or a number is out of range.
    """
    at_least(1, bins=bins)
    at_least(2, resamples=resamples)
    positive(half_width=half_width)
    check_seed(seed)
    if not callable(log_prob):
        raise TypeError(f"log_prob must be a function of points, got {shown(log_prob)}")
    expect_tensor("x", x)
    if x.ndim != 2 or x.shape[1] != 2 or not len(x) or x.is_complex():
        raise ValueError(f"a histogram needs points of the plane (N, 2), got {x.dtype} of shape {tuple(x.shape)}")
    expect_finite("x", x)
    edge = 2 * half_width / bins
    cell = ((x.double() + half_width) / edge).floor().long()
    cell = cell[((cell >= 0) & (cell < bins)).all(1)]
    counts = torch.bincount(cell[:, 0] * bins + cell[:, 1], minlength=bins * bins).double()
    middle = (torch.arange(bins, dtype=torch.float64, device=x.device) + 0.5) * edge - half_width
    log_rho = log_prob(torch.cartesian_prod(middle, middle))
    inside = log_rho > -torch.inf
    log_rho = log_rho[inside]
    counts = torch.cat((counts[inside], len(x) - counts[inside].sum()[None]))  # the last counts all samples elsewhere

    def divergence(counts: Tensor) -> Tensor:
        log_hist = (counts[..., :-1].clamp(min=0.5) / (counts.sum(-1, keepdim=True) * edge**2)).log()
        return (log_rho.exp() * (log_rho - log_hist)).sum(-1) * edge**2

    generator = torch.Generator(counts.device).manual_seed(seed)
    again = torch.poisson(counts.expand(resamples, -1), generator=generator)
    return Estimate(float(divergence(counts)), float(divergence(again).std()))


def nearest(x: Tensor, y: Tensor) -> Tensor:
    """The distance from each row of x (N, *shape) to the nearest row of y (M, *shape), as (N,).

    Args:
        x: The rows.
        y: The rows to compare with.

    Returns:
        The distances.

    Raises:
        ValueError: If a set has no rows, the shapes differ, or a value is not finite.
    """
    _check(x, y, least=1)
    x, y = x.flatten(1), y.flatten(1)
    at_a_time = max(1, min(CHUNK, PAIRS // len(y)))
    return torch.cat([torch.cdist(rows, y).amin(1) for rows in x.split(at_a_time)])


def _check(x: Tensor, y: Tensor, least: int = 2) -> None:
    """Refuse sets with too few rows, different shapes, other values than real numbers, NaN or infinite values."""
    for name, rows in (("x", x), ("y", y)):
        expect_tensor(name, rows)
        if rows.is_complex():
            raise ValueError(f"{name} must hold real numbers, got {rows.dtype}")
    if min(x.ndim, y.ndim) < 2 or min(len(x), len(y)) < least or x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"a distance needs two sets of at least {least} row{'s' * (least > 1)} of one shape, got {tuple(x.shape)} "
            f"and {tuple(y.shape)}"
        )
    if x.device != y.device:
        raise ValueError(f"a distance needs two sets on one device, got {x.device} and {y.device}")
    for name, rows in (("x", x), ("y", y)):
        expect_finite(name, rows)
