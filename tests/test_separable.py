"""The Gaussian of images with separable axes, against the Gaussian with the product of the axes as a matrix."""

import pytest
import torch

import flowmaps as fm
from flowmaps.outputs import SeparableSkip

SHAPE = (3, 4, 5)


def images(n=200, seed=0):
    """Images whose covariance is a product: white noise turned and scaled along each axis."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, *SHAPE, generator=g, dtype=torch.float64)
    for axis, side in enumerate(SHAPE, start=1):
        mix = torch.randn(side, side, generator=g, dtype=torch.float64)
        x = torch.tensordot(x, mix, dims=([axis], [0])).movedim(-1, axis)
    return 0.1 * x + torch.linspace(-1, 1, 60, dtype=torch.float64).reshape(SHAPE)


def kron(skip):
    """The axes as one matrix."""
    return torch.kron(torch.kron(skip.channels, skip.rows), skip.columns)


@pytest.mark.parametrize("path", [fm.path.linear, fm.path.trigonometric, fm.path.VarianceExploding(5.0)])
def test_it_is_the_gaussian_skip_with_the_product_of_its_axes(path):
    skip = SeparableSkip.fit(images())
    full = fm.GaussianSkip(skip.mean, skip.variances.flatten(), kron(skip))
    x, value = torch.randn(2, 7, *SHAPE, dtype=torch.float64)
    s, t = torch.rand(2, 7, 1, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(skip(value, x, s, t, path), full(value, x, s, t, path), rtol=1e-10, atol=1e-10)


def test_its_coordinates_have_its_variances_and_mean():
    x0 = images()
    skip = SeparableSkip.fit(x0, floor=0.0)
    turned = skip.turned(x0)
    torch.testing.assert_close(turned.var(0, correction=0), skip.variances)
    torch.testing.assert_close(skip.turned_back(turned), x0)
    assert skip.variances.sum() == pytest.approx(float(x0.var(0, correction=0).sum()))  # a rotation keeps the sum


def test_its_axes_are_those_of_a_separable_covariance():
    """Where the covariance is a product, its correlations vanish; in pixels they do not."""
    x0 = images(100_000)
    skip = SeparableSkip.fit(x0, floor=0.0)

    def largest(rows):
        return float((torch.corrcoef(rows.flatten(1).T) - torch.eye(60)).abs().max())

    assert largest(skip.turned(x0)) < 5 / 100_000**0.5 < 0.5 < largest(x0)


def test_a_network_sees_the_end_of_the_trajectory():
    skip = SeparableSkip.fit(images())

    class Seen(torch.nn.Module):
        def forward(self, x, s, t):
            return x

    gaussian = fm.exact.Gaussian(skip.mean.flatten(), covariance=kron(skip) * skip.variances.flatten() @ kron(skip).T)
    x, (s, t) = torch.randn(7, *SHAPE, dtype=torch.float64), torch.rand(2, 7, dtype=torch.float64)
    found = fm.networks.GaussianEndpoint(Seen(), skip, fm.path.linear)(x, s, t)
    expected = gaussian.flow_map(x.flatten(1), s, torch.zeros(7, dtype=torch.float64))
    torch.testing.assert_close(found.flatten(1), expected, rtol=1e-9, atol=1e-9)
    with pytest.raises(TypeError, match=r"path must be a path, such as fm\.path\.linear, got 'linear'"):
        fm.networks.GaussianEndpoint(Seen(), skip, "linear")


def test_wrong_images_and_axes_are_refused():
    with pytest.raises(ValueError, match=r"at least 2 images \(N, C, H, W\), got \(1, 3, 4, 5\)"):
        SeparableSkip.fit(images(1))
    with pytest.raises(ValueError, match="finite"):
        SeparableSkip.fit(images(3) * float("inf"))
    with pytest.raises(ValueError, match=r"got mean \(3, 4, 5\), .* rows \(5, 5\)"):
        one = torch.ones(SHAPE)
        SeparableSkip(one, one, torch.eye(3), torch.eye(5), torch.eye(5))
    with pytest.raises(TypeError, match="mean"):
        SeparableSkip([1.0], torch.ones(SHAPE), torch.eye(3), torch.eye(4), torch.eye(5))
