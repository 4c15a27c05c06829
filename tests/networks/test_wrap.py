"""Rotated coordinates, and x at the scale of the data."""

import pytest
import torch
from torch import nn

from flowmaps import exact, path
from flowmaps.networks import GaussianInput, InBasis, pca_basis


def data(n=500, shape=(6,)):
    g = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 6, generator=g, dtype=torch.float64)
    return (torch.randn(n, 6, generator=g, dtype=torch.float64) @ mixing + 3.0).reshape(n, *shape)


def test_pca_basis_is_orthogonal_and_diagonalises_the_covariance():
    x0 = data()
    basis = pca_basis(x0)
    torch.testing.assert_close(basis.T @ basis, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-12)
    covariance = torch.cov((x0 @ basis).T)
    variances = covariance.diagonal()
    assert (covariance - variances.diag()).abs().max() < 1e-10 * variances[0]
    assert (variances.diff() <= 0).all()
    assert torch.equal(basis.abs().amax(dim=0), basis.amax(dim=0))


def test_pca_basis_of_few_rows_is_still_complete():
    basis = pca_basis(data(3, (1, 2, 3)))
    torch.testing.assert_close(basis.T @ basis, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="at least 2 rows of data, got 1"):
        pca_basis(data(1))


class Diagonal(nn.Module):
    """The average velocity of a centred Gaussian with diagonal covariance."""

    def __init__(self, variances):
        super().__init__()
        self.gaussian = exact.Gaussian(torch.zeros_like(variances), covariance=variances.diag())

    def forward(self, x, s, t):
        return self.gaussian.average_velocity(x.flatten(1), s, t).reshape(x.shape)


def test_rotation_turns_the_flow_map_of_the_rotated_data_into_that_of_the_data():
    covariance = torch.cov(data().T)
    variances, basis = torch.linalg.eigh(covariance)
    network = InBasis(Diagonal(variances), basis)
    x = torch.randn(5, 1, 2, 3, dtype=torch.float64)
    s, t = torch.rand(2, 5, dtype=torch.float64)
    true = exact.Gaussian(torch.zeros(6, dtype=torch.float64), covariance=covariance)
    expected = true.average_velocity(x.flatten(1), s, t).reshape(x.shape)
    torch.testing.assert_close(network(x, s, t), expected, rtol=1e-9, atol=1e-10)


def test_rotation_keeps_float32_under_autocast():
    basis = pca_basis(data()).float()
    network = InBasis(nn.Identity(), basis)
    network.network.forward = lambda x, s, t: x
    x, (s, t) = torch.randn(5, 6), torch.rand(2, 5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network(x, s, t), x, rtol=0, atol=1e-5)


def test_a_basis_must_be_square():
    with pytest.raises(ValueError, match=r"square matrix.*got shape \(6, 4\)"):
        InBasis(nn.Identity(), torch.zeros(6, 4))
    with pytest.raises(ValueError, match=r"takes x of 6 values a row, got 4 in \(5, 2, 2\)"):
        InBasis(nn.Identity(), torch.eye(6))(torch.zeros(5, 2, 2), torch.zeros(5), torch.zeros(5))


class Seen(nn.Module):
    """A network that returns its input."""

    def forward(self, x, s, t):
        return x


@pytest.mark.parametrize("way", [path.linear, path.trigonometric, path.VarianceExploding(5.0)])
def test_the_network_sees_the_end_of_the_trajectory_of_a_gaussian(way):
    """x moved to t = 0 by the exact flow map, without its mean; in principal axes by `InBasis`."""
    rows = data().reshape(500, 6)
    gaussian = exact.Gaussian(rows.mean(0), covariance=torch.cov(rows.T), path=way)
    variances, basis = torch.linalg.eigh(torch.cov(rows.T))
    x, (s, t) = torch.randn(7, 6, dtype=torch.float64), torch.rand(2, 7, dtype=torch.float64)
    scaled = GaussianInput(Seen(), gaussian.mean @ basis, variances, way)
    expected = gaussian.flow_map(x, s, torch.zeros(7, dtype=torch.float64)) - gaussian.mean
    torch.testing.assert_close(InBasis(scaled, basis)(x, s, t), expected, rtol=1e-9, atol=1e-9)


def test_a_gaussian_has_a_variance_for_each_coordinate():
    with pytest.raises(ValueError, match=r"one shape, got \(6,\) and \(5,\)"):
        GaussianInput(Seen(), torch.zeros(6), torch.ones(5), path.linear)
    with pytest.raises(ValueError, match="variances must not be negative"):
        GaussianInput(Seen(), torch.zeros(6), -torch.ones(6), path.linear)
    with pytest.raises(TypeError, match=r"path must be a path, such as fm\.path\.linear, got 'linear'"):
        GaussianInput(Seen(), torch.zeros(6), torch.ones(6), "linear")
    network = GaussianInput(Seen(), torch.zeros(6), torch.ones(6), path.linear)
    with pytest.raises(ValueError, match=r"\(B, 6\), got \(3, 1\)"):
        network(torch.ones(3, 1), torch.ones(3), torch.ones(3))
