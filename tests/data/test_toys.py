"""Toys against their closed forms: supports, densities, moments with standard errors; digits against scikit-learn."""

import math

import pytest
import torch
from sklearn.datasets import load_digits

from flowmaps.data import as_data, load
from flowmaps.exact import Gaussian, GaussianMixture

N = 40_000


def test_checkerboard_is_even_on_the_eight_squares_of_its_colour():
    data = load("checkerboard")
    u = (data.draw(N).x0.double() + 1) / 2
    assert bool(((u >= 0) & (u < 1)).all())
    square = (4 * u).floor()
    assert bool((square.sum(1) % 2 == 0).all())
    counts = torch.bincount((4 * square[:, 0] + square[:, 1]).long(), minlength=16).double()
    white = counts[counts > 0]
    # each square holds a binomial count with p = 1/8: six standard errors
    assert len(white) == 8 and float((white - N / 8).abs().max()) < 6 * math.sqrt(N * (1 / 8) * (7 / 8))
    # within a square: uniform, mean 1/2 and variance 1/12, the standard errors are sqrt(1/12/N) and sqrt(1/180/N)
    inside = 4 * u - square
    assert float((inside.mean(0) - 0.5).abs().max()) < 6 * math.sqrt(1 / 12 / N)
    assert float((inside.var(0) - 1 / 12).abs().max()) < 6 * math.sqrt(1 / 180 / N)


def test_checkerboard_density_and_scale():
    data = load("checkerboard")
    x = torch.tensor([[-0.9, -0.9], [-0.9, -0.4], [0.1, 0.1], [0.6, 0.1], [0.9, 0.9], [1.1, 0.9], [-1.1, -0.9]])
    on = torch.tensor([True, False, True, False, True, False, False])
    expected = torch.where(on, torch.tensor(math.log(0.5)), -math.inf)
    assert torch.equal(data.log_prob(x), expected)
    cells = (torch.arange(80, dtype=torch.float64) + 0.5) / 40 - 1
    grid = torch.cartesian_prod(cells, cells)
    assert float(data.log_prob(grid).exp().mean() * 4) == pytest.approx(1, abs=1e-12)
    assert bool((data.log_prob(data.draw(1000).x0) == math.log(0.5)).all())
    # sigma_d of the protocol: the marginals are uniform on [-1, 1]
    assert data.std == pytest.approx(1 / math.sqrt(3))
    assert float(data.draw(N).x0.double().std()) == pytest.approx(data.std, abs=6 * math.sqrt(4 / 45 / (2 * N)))


@pytest.mark.parametrize("name", ["gaussian", "mixture", "eight_gaussians"])
def test_exact_data_have_the_moments_and_the_density_of_their_distribution(name):
    data = load(name)
    x = data.draw(N, seed=5).x0.double()
    if isinstance(data.exact, Gaussian):
        mean, covariance = torch.tensor([0.5, -0.5]).double(), torch.tensor([[1.0, 0.6], [0.6, 0.5]]).double()
    else:
        weights, means, stds = data.exact.weights, data.exact.means, data.exact.stds
        mean = weights @ means
        covariance = (weights * stds**2).sum() * torch.eye(2) + (means - mean).T @ torch.diag(weights) @ (means - mean)
    error = covariance.diagonal().sqrt() / math.sqrt(N)
    assert bool(((x.mean(0) - mean).abs() < 6 * error).all())
    # the standard error of a second moment is below sqrt(3 c_ii c_jj / n) for these light tails
    bound = (3 * covariance.diagonal()[:, None] * covariance.diagonal() / N).sqrt()
    assert bool(((torch.cov(x.T) - covariance).abs() < 6 * bound).all())
    assert torch.equal(data.log_prob(x), data.exact.log_prob(x))
    assert data.kind == "points" and data.shape == (2,) and data.classes is None


def test_eight_gaussians_lie_on_their_circle():
    data = load("eight_gaussians", radius=3.0, std=0.01)
    x = data.draw(4000).x0
    assert float((x.norm(dim=1) - 3).abs().max()) < 0.06
    octant = torch.atan2(x[:, 1], x[:, 0]) / (math.pi / 4)
    assert float((octant - octant.round()).abs().max()) < 0.06
    assert len(octant.round().long().remainder(8).unique()) == 8


def test_options_of_the_exact_toys():
    data = load("gaussian", mean=[0.0, 1.0, 2.0], covariance=torch.eye(3).tolist())
    assert data.shape == (3,) and data.kind == "vectors" and data.exact.shape == (3,)
    data = load("mixture", weights=[0.5, 0.5], means=[[-1.0], [1.0]], stds=0.1)
    assert data.shape == (1,) and data.kind == "vectors"
    assert bool(((data.draw(500).x0.abs() - 1).abs() < 0.6).all())


def test_two_moons_without_noise_are_half_circles():
    data = load("two_moons", noise=0.0, labels=True)
    x, moon, *_ = data.draw(2000)
    assert data.classes == 2 and set(moon.tolist()) == {0, 1}
    upper = torch.where((moon == 0)[:, None], x, -x) + torch.tensor([0.5, 0.25])
    assert float((upper.norm(dim=1) - 1).abs().max()) < 1e-6 and float(upper[:, 1].min()) >= -1e-6


def test_spirals_without_noise_lie_on_their_arms():
    data = load("spirals", arms=3, turns=1.0, noise=0.0, labels=True)
    x, arm, *_ = data.draw(2000)
    radius = x.norm(dim=1)
    angle = 2 * math.pi * (radius / 2 + arm / 3)
    assert data.classes == 3 and float(radius.max()) <= 2 + 1e-6
    assert torch.allclose(x, radius[:, None] * torch.stack((angle.cos(), angle.sin()), 1), atol=1e-5)
    with pytest.raises(ValueError, match="arms must be at least 1, got 0"):
        load("spirals", arms=0)


def test_labels_are_off_unless_asked_for_and_do_not_change_the_points():
    with_labels, without = load("two_moons", labels=True), load("two_moons")
    assert without.classes is None and without.draw(10).label is None
    assert torch.equal(with_labels.draw(10).x0, without.draw(10).x0)


def test_a_distribution_is_data():
    mixture = GaussianMixture([0.5, 0.5], torch.randn(2, 1, 4, 4, dtype=torch.float64), 0.1)
    data = as_data(mixture)
    assert data.exact is mixture and data.shape == (1, 4, 4) and data.kind == "images" and data.size is None
    assert data.draw(5).x0.dtype == torch.float32


def test_digits_are_all_there_once_with_their_labels():
    data = load("digits")
    train, held = data.draw(1437), data.held_out(5000)
    assert data.size == 1437 and len(held.x0) == 360
    raw = load_digits()
    rows = torch.cat((train.x0, held.x0)).double().reshape(-1, 64) * 8 + 8
    expected = torch.cat((torch.tensor(raw.data), torch.tensor(raw.target)[:, None]), 1)
    found = torch.cat((rows, torch.cat((train.label, held.label))[:, None]), 1)
    assert sorted(found.tolist()) == sorted(expected.tolist())


def test_digits_describe_themselves():
    data = load("digits")
    assert (data.shape, data.kind, data.classes, data.levels) == ((1, 8, 8), "images", 10, 17)
    assert data.class_names == tuple("0123456789") and data.exact is None and data.log_prob is None
    x = data.draw(1437).x0
    assert float(x.min()) == -1 and float(x.max()) == 1 and len(x.unique()) == 17


def test_the_split_is_stratified():
    data = load("digits")
    counts = torch.bincount(torch.tensor(load_digits().target)).double()
    held = torch.bincount(data.held_out(360).label, minlength=10)
    assert bool(((held - counts * 360 / 1797).abs() <= 1).all())
