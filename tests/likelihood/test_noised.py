"""Data of whole levels: the time whose noise fills their gaps, against the entropy of a law of levels."""

import math

import pytest
import torch

import flowmaps as fm
from flowmaps import likelihood
from flowmaps.experiments.likelihood_start import Start, begun
from flowmaps.likelihood.levels import REACH, time_of

LEVELS = torch.linspace(-1, 1, 5, dtype=torch.float64)
SHARES = torch.tensor([0.05, 0.4, 0.1, 0.25, 0.2], dtype=torch.float64)
LOOSE = -math.log2(math.erf(REACH / math.sqrt(2)))
"""Bits by which the bound is above the entropy."""
PATHS = {"linear": fm.path.linear, "trigonometric": fm.path.trigonometric}


@pytest.fixture(scope="module")
def levels():
    """A law of five levels, as exact as float64 allows, and rows of it."""
    flow = fm.exact.GaussianMixture(SHARES.tolist(), LEVELS[:, None].tolist(), [1e-5] * 5)
    torch.manual_seed(0)
    return flow, LEVELS[torch.multinomial(SHARES, 1000, replacement=True)][:, None]


def entropy(x0):
    """The bits of rows under the law."""
    number = ((x0[:, 0] + 1) * 2).round().long()
    return -SHARES[number].log2()


@pytest.mark.slow
def test_bits_are_the_entropy_of_the_levels(levels):
    flow, x0 = levels
    torch.manual_seed(1)
    x, t, change = likelihood.noised(x0, 5)
    found = {}
    for steps in (50, 100):
        value = likelihood.log_prob(flow, x, by=likelihood.ode(steps=steps, start=t)).value + change
        bits = likelihood.bits_per_dim(value, (1,), 5) - entropy(x0)
        found[steps] = float(bits.mean())
        assert float(bits.std()) < 0.05  # each row has the bits of its level
    assert abs(found[100] - LOOSE) < 0.01 and abs(found[50] - found[100]) < 0.02


def test_uniform_noise_gives_no_bits_of_such_a_law(levels):
    """Its gaps have no density, so finer steps give ever more bits: the reason for `noised`."""
    flow, x0 = levels
    torch.manual_seed(1)
    x = likelihood.dequantised(x0[:200], 5)
    coarse, middle, fine = (
        float(likelihood.bits_per_dim(likelihood.log_prob(flow, x, by=likelihood.ode(steps=k)).value, (1,), 5).mean())
        for k in (10, 20, 50)
    )
    assert coarse > 3 and middle > 2 * coarse and fine > 2 * middle


def test_the_bound_begins_there_too(levels):
    flow, x0 = levels
    x0 = x0[:200]
    torch.manual_seed(1)
    state, t, change = likelihood.noised(x0, 5)
    estimate, of_states, more = begun(likelihood.bound(128), t, flow.path, 1)
    assert not of_states and estimate.start == t
    value = likelihood.log_prob(flow, x0, by=estimate).value + change + more
    bits = likelihood.bits_per_dim(value, (1,), 5) - entropy(x0)
    assert abs(float(bits.mean()) - LOOSE) < 4 * float(bits.std()) / 200**0.5 + 0.02


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_noise_reaches_half_way_to_the_next_level(path, levels):
    torch.manual_seed(0)
    x0 = torch.randint(levels, (2000, 3)).double() / (levels - 1) * 2 - 1
    x, t, _ = likelihood.noised(x0, levels, path=path)
    alpha, sigma = (float(one(torch.tensor(t, dtype=torch.float64))) for one in (path.alpha, path.sigma))
    assert abs(sigma / alpha - 2 / (levels - 1) / 6) < 1e-9
    eps = (x - alpha * x0) / sigma
    assert 2.5 < float(eps.abs().max()) <= REACH * (1 + 1e-9)
    variance = 1 - 2 * REACH * math.exp(-(REACH**2) / 2) / math.sqrt(2 * math.pi) / math.erf(REACH / math.sqrt(2))
    assert abs(float(eps.square().mean()) - variance) < 4 * 1.4 / 6000**0.5


def test_the_change_is_the_one_of_units_and_noise():
    """For a Gaussian law the log-density of rows with noise is known in closed form."""
    flow = fm.exact.Gaussian([0.5, -0.5], [0.3, 0.3])
    x0 = torch.randn(50, 2, dtype=torch.float64) * 0.3
    x, t, change = Start(None, 0.2, flow.path)(x0, seed=0)
    y = x / 0.8
    variance = 0.3**2 + 0.25**2
    mean = torch.tensor([0.5, -0.5], dtype=torch.float64)
    exact = -0.5 * ((y - mean) ** 2).sum(1) / variance - math.log(2 * math.pi * variance)
    value = likelihood.log_prob(flow, x, by=likelihood.ode(start=t)).value + change
    torch.testing.assert_close(value, exact, atol=1e-4, rtol=0)


def test_a_path_that_begins_with_noise():
    assert time_of(fm.path.linear, 0.0) < 1e-15


@pytest.mark.parametrize(("levels", "low", "high"), [(1, -1.0, 1.0), (17, 1.0, -1.0), (17, 1.0, 1.0)])
def test_no_levels_are_refused(levels, low, high):
    with pytest.raises(ValueError, match="level"):
        likelihood.noised(torch.zeros(3, 2), levels, low, high)


def test_estimators_that_cannot_begin_later_are_refused():
    with pytest.raises(ValueError, match="cannot begin there"):
        begun(likelihood.jumps(100), 0.02, fm.path.linear, 3)
    with pytest.raises(ValueError, match="cannot begin there"):
        begun(lambda flow, x: x, 0.02, fm.path.linear, 3)
    for estimate in (likelihood.jumps(100), likelihood.bound(8), likelihood.ode()):
        assert begun(estimate, 0.0, fm.path.linear, 3) == (estimate, True, 0.0)  # of rows with noise in their gaps
    assert begun(likelihood.jumps(4), 0.02, fm.path.linear, 3)[0].times == (0.02, 0.25, 0.5, 0.75, 1.0)
