"""Distances against closed forms, and unbiasedness within stated standard errors."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from flowmaps import exact
from flowmaps.data import load
from flowmaps.evaluate import (
    distances,
    energy_distance,
    frechet_distance,
    histogram_kl,
    kernel_distance,
    nearest,
    sliced_energy_distance,
)


def normal(n, d, seed, scale=1.0, shift=0.0):
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def standardised(x):
    """Rows with mean exactly 0 and covariance exactly 1."""
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T


def test_frechet_distance_of_known_gaussians():
    """For commuting covariances |m - n|^2 + sum (sqrt(a_i) - sqrt(b_i))^2, on samples with exactly these moments."""
    x, y = standardised(normal(500, 3, 0)), standardised(normal(400, 3, 1))
    a, b = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    shift = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    expected = float((shift**2).sum() + ((a - b) ** 2).sum())
    assert frechet_distance(x * a, y * b + shift) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_to_itself_is_zero():
    x = normal(300, 4, 0)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_full_covariances():
    """Against tr(A + B - 2 (A^(1/2) B A^(1/2))^(1/2)), by eigenvalues of the symmetric form."""
    x, y = normal(60, 3, 2) @ normal(3, 3, 3), normal(70, 3, 4) @ normal(3, 3, 5)

    def root(matrix):
        values, vectors = torch.linalg.eigh(matrix)
        return vectors * values.clamp(min=0).sqrt() @ vectors.T

    a, b = torch.cov(x.T), torch.cov(y.T)
    inner = root(root(a) @ b @ root(a))
    expected = (x.mean(0) - y.mean(0)).square().sum() + torch.trace(a + b - 2 * inner)
    assert frechet_distance(x, y) == pytest.approx(float(expected), rel=1e-8)


def test_energy_distance_by_hand():
    """x = {0, 2}, y = {1, 1}: 2 * 1 - 2 - 0 = 0;  x = {0, 1}, y = {3, 5}: 2 * 3.5 - 1 - 2 = 4."""
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [1.0]])
    assert energy_distance(x, y) == pytest.approx(0)
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [5.0]])
    assert energy_distance(x, y) == pytest.approx(4)
    assert sliced_energy_distance(x, y) == pytest.approx(4)


def test_energy_distance_of_gaussians():
    """In one dimension 2 E|X - Y| - 2 E|X - X'| of N(0, 1) and N(m, 1) is a closed form of the folded normal.

    E|N(m, 2)| = 2 exp(-m^2 / 4) / sqrt(pi) + m erf(m / 2); tolerance: four standard errors of the mean of 20 draws.
    """
    m = 0.8

    def folded(m):
        return 2 * math.exp(-(m**2) / 4) / math.sqrt(math.pi) + m * math.erf(m / 2)

    expected = 2 * folded(m) - 2 * folded(0)
    draws = torch.tensor([energy_distance(normal(400, 1, 2 * k), normal(400, 1, 2 * k + 1, 1, m)) for k in range(20)])
    assert abs(float(draws.mean()) - expected) < 4 * float(draws.std()) / math.sqrt(20)


@pytest.mark.parametrize("distance", [energy_distance, sliced_energy_distance, kernel_distance])
def test_unbiased_for_equal_distributions(distance):
    """The mean over 60 draws of 50 rows lies within four standard errors of zero; single ones fall on both sides."""
    draws = torch.tensor([distance(normal(50, 3, 2 * k), normal(50, 3, 2 * k + 1)) for k in range(60)])
    assert abs(float(draws.mean())) < 4 * float(draws.std()) / math.sqrt(60)
    assert float(draws.min()) < 0 < float(draws.max())


def test_sliced_energy_distance_is_the_mean_over_its_directions():
    x, y = normal(40, 3, 0), normal(30, 3, 1, 1, 0.5)
    u = torch.randn(3, 5, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    u = u / u.norm(dim=0)
    expected = sum(energy_distance(x @ u[:, [k]], y @ u[:, [k]]) for k in range(5)) / 5
    assert sliced_energy_distance(x, y, directions=5, seed=7) == pytest.approx(expected, rel=1e-10)


def test_kernel_distance_agrees_with_torchmetrics():
    from torchmetrics.image.kid import poly_mmd

    x, y = normal(40, 5, 0), normal(40, 5, 1, 1, 0.3)
    assert kernel_distance(x, y) == pytest.approx(float(poly_mmd(x, y)), rel=1e-9)


@pytest.mark.parametrize(("bins", "low", "high"), [(48, 0.0078, 0.0102), (50, 0.063, 0.069)])
def test_floor_of_the_checkerboard_divergence(bins, low, high):
    """A perfect sampler at 64000 samples: 1152 / (2 * 64000) = 0.009 where bins fit the squares, far more where not."""
    board = load("checkerboard")
    x = board.draw(64_000, seed=3).x0
    value, stderr = histogram_kl(x, board.log_prob, bins=bins, half_width=1.0)
    assert low < value < high
    # of second order at the truth: sqrt(2 * 1152) / (2 * 64000) = 0.0004, and the bootstrap adds its own noise
    assert 0 < stderr < 0.002


def test_divergence_of_a_flat_sample_is_log_two():
    """All of the square instead of half of it: rho = 1/2 on half of the bins, hist = 1/4, so KL = log 2."""
    board = load("checkerboard")
    middle = (torch.arange(480, dtype=torch.float64) + 0.5) / 240 - 1
    value, _ = histogram_kl(torch.cartesian_prod(middle, middle), board.log_prob, bins=48, half_width=1.0)
    assert value == pytest.approx(math.log(2), rel=1e-6)


def test_divergence_counts_what_lies_outside():
    """A sampler that puts a share p outside of the square pays -log(1 - p)."""
    board = load("checkerboard")
    x = board.draw(20_000, seed=1).x0
    inside = histogram_kl(x, board.log_prob, bins=16, half_width=1.0)
    beside = histogram_kl(torch.cat((x, x + 10)), board.log_prob, bins=16, half_width=1.0)
    assert beside.value - inside.value == pytest.approx(math.log(2), rel=1e-9)


def test_nearest():
    x, y = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [3.0, 4.0], [9.0, 9.0]])
    assert torch.allclose(nearest(x, y), torch.tensor([1.0, 0.0]))


def test_distances_refuse_other_shapes():
    with pytest.raises(ValueError, match="two sets of at least 2 rows of one shape"):
        energy_distance(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="at least 2 rows"):
        frechet_distance(torch.zeros(1, 2), torch.zeros(3, 2))


def test_energy_distance_sees_a_mixture_from_its_gaussian():
    """Equal mean and covariance do not make equal distributions: more than ten standard errors apart."""
    mixture = exact.GaussianMixture([0.5, 0.5], [-1.0, 1.0], 0.2)
    scale = math.sqrt(1 + 0.04)
    draws = [energy_distance(mixture.sample(500), normal(500, 1, k, scale)) for k in range(8)]
    values = torch.tensor(draws)
    assert float(values.mean()) > 10 * float(values.std()) / math.sqrt(8)


@pytest.mark.parametrize("distance", [energy_distance, kernel_distance, sliced_energy_distance])
def test_some_pairs_at_a_time_give_the_distance_of_all(distance, monkeypatch):
    x, y = normal(150, 3, 0), normal(130, 3, 1, shift=0.5)
    whole = distance(x, y)
    monkeypatch.setattr(distances, "PAIRS", 1000)
    assert distance(x, y) == pytest.approx(whole, rel=1e-12)
    monkeypatch.setattr(distances, "PAIRS", 1)
    assert distance(x, y) == pytest.approx(whole, rel=1e-12)
    torch.testing.assert_close(nearest(x, y), torch.cdist(x, y).amin(1))


@pytest.mark.parametrize("distance", [energy_distance, kernel_distance, sliced_energy_distance])
def test_no_tensor_of_a_distance_is_larger_than_its_bound(distance, monkeypatch):
    """All 90000 pairs of 300 rows together would exceed it."""
    sizes = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
            found = function(*args, **(kwargs or {}))
            parts = found if isinstance(found, tuple | list) else [found]
            sizes.extend(part.untyped_storage().nbytes() // 8 for part in parts if isinstance(part, torch.Tensor))
            return found

    monkeypatch.setattr(distances, "PAIRS", 10_000)
    x, y = normal(300, 3, 0), normal(300, 3, 1)
    with Sizes():
        distance(x, y)
    assert max(sizes) <= 10_000


NOT_FINITE = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    "distance",
    [energy_distance, kernel_distance, sliced_energy_distance, frechet_distance, nearest],
)
def test_rows_that_are_not_finite_have_no_distance(distance, whole, value):
    x, y = normal(20, 2, 0), normal(20, 2, 1)
    x[slice(None) if whole else 3] = value
    for pair in ((x, y), (y, x)):
        with pytest.raises(
            ValueError, match=f"must be finite, and {20 if whole else 1} of its 20 rows hold NaN or inf"
        ):
            distance(*pair)


@pytest.mark.parametrize("value", NOT_FINITE)
def test_points_that_are_not_finite_have_no_histogram(value):
    x = normal(20, 2, 0)
    x[3] = value
    with pytest.raises(ValueError, match="1 of its 20 rows"):
        histogram_kl(x, load("checkerboard").log_prob, bins=4, half_width=1.0)
