"""Samples with their log-densities, importance weights, and bits of data of whole levels."""

import math

import pytest
import torch

import flowmaps as fm
from tests.likelihood.beds import LAW, Jumping, draws, network, randn, standard_error

L = fm.likelihood


def test_samples_are_those_of_the_sampler():
    z = randn(30, 2)
    for flow, steps, step in ((LAW, 5, "heun"), (network(), 2, "jump"), (network(), 3, "euler")):
        x, value = L.sample(flow, z, steps, step=step)
        torch.testing.assert_close(x, fm.sample(flow, z, steps, step=step), rtol=0, atol=1e-12)
        assert value.shape == (30,) and not x.requires_grad and not value.requires_grad
    x, value = L.sample(LAW, z, times=[1.0, 0.3, 0.0], step="heun")
    torch.testing.assert_close(x, fm.sample(LAW, z, times=[1.0, 0.3, 0.0], step="heun"), rtol=0, atol=1e-12)


def test_batches_change_nothing():
    z = randn(30, 2)
    whole, parts = L.sample(LAW, z, 3, step="heun"), L.sample(LAW, z, 3, step="heun", batch_size=7)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_the_entropy_of_samples_is_that_of_the_law():
    """-E log p over its own samples, beside a Monte Carlo estimate of the exact law."""
    x, value = L.sample(Jumping(), randn(4000, 2), chunk=1)
    torch.testing.assert_close(value, LAW.log_prob(x), rtol=0, atol=1e-2)
    exact = LAW.log_prob(draws(4000, seed=1))
    error = (standard_error(value) ** 2 + standard_error(exact) ** 2) ** 0.5
    assert abs(float(value.mean() - exact.mean())) < 4 * error


def test_importance_weights_have_known_moments():
    """N(0, 1) samples under the energy of 3 N(m, 1): log Z = log 3, and an effective share of e^(-m^2)."""
    x, m = randn(200_000), 0.5
    log_p = -0.5 * x**2 - 0.5 * math.log(2 * math.pi)
    energy = 0.5 * (x - m) ** 2 + 0.5 * math.log(2 * math.pi) - math.log(3)
    out = L.importance(log_p, energy)
    weights = 3 * (m * x - m**2 / 2).exp()
    assert out.log_z == pytest.approx(math.log(3), abs=4 * standard_error(weights) / 3)
    assert out.ess == pytest.approx(math.exp(-(m**2)), rel=0.02)
    assert float(out.weights.sum()) == pytest.approx(1, abs=1e-9)
    assert float((out.weights * x).sum()) == pytest.approx(m, abs=0.02)
    assert "ess" in repr(out)


def test_rows_without_a_density_count_but_have_no_weight():
    log_p = torch.tensor([0.0, math.nan, 0.0, 0.0])
    out = L.importance(log_p, torch.zeros(4))
    assert out.weights.tolist() == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])
    assert out.log_z == pytest.approx(math.log(3 / 4)) and out.ess == pytest.approx(3 / 4)


def test_extreme_weights_do_not_overflow():
    out = L.importance(torch.tensor([-5000.0, -5000.0]), torch.tensor([0.0, 0.0]))
    assert out.log_z == pytest.approx(5000.0) and out.ess == pytest.approx(1.0)
    out = L.importance(torch.zeros(2), torch.tensor([0.0, math.inf]))  # an energy of infinity: no weight
    assert out.weights.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("log_p", "energy", "match"),
    [
        (torch.zeros(3), torch.zeros(2), "one energy"),
        (torch.zeros(3, 1), torch.zeros(3, 1), "one energy"),
        (torch.zeros(3), torch.tensor([0.0, math.nan, 0.0]), "NaN"),
        (torch.zeros(2), torch.full((2,), math.inf), "finite weight"),
        (torch.zeros(2), torch.full((2,), -math.inf), "finite weight"),
        (torch.zeros(0), torch.zeros(0), "samples"),
        (torch.zeros(2, dtype=torch.long), torch.zeros(2), "floating"),
        (torch.full((2,), math.nan), torch.zeros(2), "finite weight"),
    ],
)
def test_wrong_weights_are_refused(log_p, energy, match):
    with pytest.raises(ValueError, match=match):
        L.importance(log_p, energy)


# --- whole levels -----------------------------------------------------------------------------------------------------


def test_uniform_data_have_eight_bits():
    """A uniform density over 256 levels of width 2/255 has log2 256 bits per dimension."""
    wide = 256 * 2 / 255
    log_p = torch.full((3,), -12 * math.log(wide))
    assert L.bits_per_dim(log_p, (3, 2, 2)).tolist() == pytest.approx([8.0] * 3, abs=1e-5)
    log_p = torch.full((1,), -4 * math.log(17.0))
    assert L.bits_per_dim(log_p, (1, 2, 2), levels=17, low=0, high=16).tolist() == pytest.approx([math.log2(17)])


def test_dequantised_data_bound_the_probability_of_levels():
    """For a Gaussian that is rounded to levels: the bound is below the log-probability, and near it."""
    levels, low, high = 17, -2.0, 2.0
    width = (high - low) / (levels - 1)
    normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 0.5)
    x0 = torch.arange(low, high + width / 2, width, dtype=torch.float64)
    exact = (normal.cdf(x0 + width / 2) - normal.cdf(x0 - width / 2)).log()
    torch.manual_seed(0)
    many = x0.expand(20_000, -1)
    filled = L.dequantised(many, levels, low, high)
    assert bool(((filled - many).abs() <= width / 2).all()) and filled.dtype == x0.dtype
    bound = normal.log_prob(filled).mean(0) + math.log(width)
    assert bool((bound < exact + 4 * 0.3 / 20_000**0.5).all())
    kept = exact.exp() > 1e-3
    assert float((exact - bound)[kept].max()) < 0.2
    first = L.bits_per_dim(normal.log_prob(filled[0]), (1,), levels, low, high)
    torch.testing.assert_close(first, -(normal.log_prob(filled[0]) + math.log(width)) / math.log(2))


def test_levels_are_checked():
    with pytest.raises(ValueError, match="levels"):
        L.dequantised(torch.zeros(2, 2), 1)
    with pytest.raises(ValueError, match="lowest level"):
        L.bits_per_dim(torch.zeros(2), (2,), low=1.0, high=-1.0)
    with pytest.raises(ValueError, match="dimensions"):
        L.bits_per_dim(torch.zeros(2), (0,))
    with pytest.raises(ValueError, match="floating"):
        L.dequantised(torch.zeros(2, 2, dtype=torch.uint8))


def test_noise_is_checked():
    flow = network()
    flow.trained = fm.TrainedSpec(shape=(2,))
    for noise, match in ((randn(0, 2), "no values"), (randn(3), r"\(B, ...\)"), (randn(3, 4), "rows of shape")):
        with pytest.raises(ValueError, match=match):
            L.sample(flow, noise)
    with pytest.raises(TypeError, match="noise must be a tensor"):
        L.sample(flow, 16)
    with pytest.raises(ValueError, match="batch_size"):
        L.sample(flow, randn(3, 2), batch_size=0)
