"""The variational bound: an equality for the exact denoiser, and a lower bound in the mean for every other."""

import math

import pytest
import torch

import flowmaps as fm
from flowmaps.likelihood.by_bound import integrand
from tests.likelihood.beds import LAW, draws, on, standard_error

L, P = fm.likelihood, fm.path


class Perturbed:
    """A denoiser with an error, f + scale sin x t."""

    def __init__(self, law, scale):
        self.law, self.scale, self.path = law, scale, law.path

    def velocity(self, x, t):
        f = self.law.denoise(x, t) + self.scale * x.sin() * fm.path.base.expand(t, x)
        return self.path.convert(f, x, t, P.data, P.velocity)


PATHS = {
    "linear": P.linear,
    "trigonometric": P.trigonometric,
    "preserving": P.VariancePreserving(),
    "exploding": P.VarianceExploding(80.0),
    "exploding to 3": P.VarianceExploding(3.0),
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_the_bound_is_an_equality_for_the_exact_denoiser(path):
    """For one row with 40000 draws, and in the mean over rows; also on paths that end with a share of the data."""
    law = on(path)
    torch.manual_seed(0)
    x = draws(8)
    found = L.log_prob(law, x.repeat_interleave(500, 0), by=L.bound(80))
    value, exact = found.value.reshape(8, 500), law.log_prob(x)
    assert found.passes == 80 and found.noise is None
    errors = value.std(1) / 500**0.5
    assert bool(((value.mean(1) - exact).abs() < 4 * errors + 2e-3).all()), (value.mean(1) - exact, errors)
    error = float(errors.square().sum().sqrt() / 8)
    assert abs(float((value.mean(1) - exact).mean())) < 4 * error + 2e-3


def test_a_perturbed_denoiser_lowers_the_mean():
    """With the same draws for both: the difference of the means has a small error."""
    x, means = draws(3000), {}
    for scale in (0.0, 0.1):
        torch.manual_seed(0)
        means[scale] = L.log_prob(Perturbed(LAW, scale), x, by=L.bound(16)).value
    entropy = LAW.log_prob(x)
    gap = means[0.1] - means[0.0]
    assert float(gap.mean()) < -4 * standard_error(gap)
    assert abs(float((means[0.0] - entropy).mean())) < 4 * standard_error(means[0.0] - entropy)
    assert float(means[0.1].mean()) < float(entropy.mean())


def test_the_standard_error_is_honest():
    """It counts the spread of the stratified times too, so it is no smaller than the spread of values."""
    torch.manual_seed(0)
    found = L.log_prob(LAW, draws(1).expand(2000, 2), by=L.bound(32))
    spread, told = float(found.value.std()), float(found.standard_error.square().mean().sqrt())
    assert spread <= told * 1.05 and told < 4 * spread
    assert L.log_prob(LAW, draws(3), by=L.bound(2)).standard_error is None


def test_opposite_noise_and_stratified_times_lower_the_variance():
    """sd .28 with 128 draws in the plane, where a single pair has 2.8."""
    torch.manual_seed(0)
    x = draws(1).expand(3000, 2)
    one = float(L.log_prob(LAW, x, by=L.bound(2)).value.std())
    many = float(L.log_prob(LAW, x, by=L.bound(128)).value.std())
    assert many < 0.9 * one / 8  # independent pairs would have one / 8


def test_the_integrand_is_the_formula_of_the_linear_path():
    """(|eps|^2 - (1-t) |f - x0|^2 / t^2) / t, less the part of a standard normal, which is integrated by hand."""
    x0, t = draws(50), torch.linspace(0.05, 0.95, 50, dtype=torch.float64)
    eps = torch.randn(50, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = P.linear.interpolate(x0, eps, t)
    error = (LAW.denoise(x, t) - x0).square().sum(1)
    snr = ((1 - t) / t) ** 2
    rate = -2 * (1 - t) / t**3  # of snr
    expected = -0.5 * rate * (eps.square().sum(1) / (1 + snr) - error)
    torch.testing.assert_close(integrand(LAW, x0, eps, t), expected, rtol=1e-6, atol=1e-6)


def test_the_bound_needs_no_derivative_and_counts_its_calls():
    flow = fm.FlowMap(fm.networks.ConcatMLP((2,), width=16, depth=2))
    with fm.evaluate.cost.counting(flow.network) as counter:
        L.log_prob(flow, torch.randn(5, 2), by=L.bound(10))
    assert counter.calls == 10 and counter.backward_rows == 0


def test_a_steered_velocity_has_a_bound():
    """No derivative is taken, so that a gradient inside is no trouble: exact for the exact value."""
    from tests.beds import bed_a

    bed = bed_a()
    tilted, log_z = bed.tilted
    steered = fm.steering.tilt(
        bed.law, lambda flow, x, t: tilted.log_prob(x, t) - bed.law.log_prob(x, t) + log_z, limit=1e6
    )
    torch.manual_seed(0)
    x = tilted.sample(300, torch.Generator().manual_seed(0))
    difference = L.log_prob(steered, x, by=L.bound(32)).value - tilted.log_prob(x)
    assert abs(float(difference.mean())) < 4 * standard_error(difference)


def test_times_stay_below_one():
    """float32 rounds the last stratum up to t = 1, where the rate of the noise level is infinite."""

    class Times:
        path, latest = P.linear, 0.0

        def velocity(self, x, t):
            self.latest = max(self.latest, float(t.max()))
            return -x

    flow = Times()
    torch.manual_seed(0)
    x = torch.zeros(400_000, 1)
    for _ in range(4):
        found = L.bound(64)._pair(flow, x, (31 + torch.rand(len(x))) / 32)
        assert bool(found.isfinite().all())
    assert 0.99999 < flow.latest < 1
    u = torch.ones(3)
    assert bool(L.bound(2)._pair(flow, x[:3], u).isfinite().all())


def test_a_seed_reproduces_the_draws():
    x, found = draws(10), []
    for _ in range(2):
        torch.manual_seed(1)
        found.append(L.log_prob(LAW, x, by=L.bound(8)).value)
    assert torch.equal(*found)


def test_settings_are_checked():
    for draws_ in (0, 1, 3):
        with pytest.raises(ValueError, match="draws"):
            L.bound(draws_)
    with pytest.raises(ValueError, match="start"):
        L.bound(4, start=-0.1)
    assert math.isclose(L.bound().start, 1e-4)
