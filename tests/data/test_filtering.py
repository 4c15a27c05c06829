"""Filtered samples have the law they claim: best of N, and the tilted law."""

import math

import pytest
import torch

import flowmaps as fm
from flowmaps.data.standardise import with_units
from tests.beds import bed_a, bed_e, row_sum
from tests.oracles import flow_of

LAW = fm.exact.Gaussian([0.0], 1.0)


def kept(data):
    """All rows of a set, training and held-out."""
    return torch.cat([data.draw(data.size).x0, data.held_out(10_000).x0])


def test_the_best_of_eight_have_the_mean_of_maxima():
    """Row 14: E max of 8 standard normals is 1.42360, and their standard deviation 0.6107; 4 standard errors."""
    data = fm.data.filtered(LAW, LAW, row_sum, 4000, candidates=8)
    x0 = kept(data)
    assert len(x0) == 4000 and abs(float(x0.mean()) - 1.42360) < 4 * 0.6107 / 4000**0.5
    assert next(data.batches(16)).noise is None and data.exact is None


def test_the_divergence_of_the_best_of_eight_is_in_closed_form():
    """Row 14: log N - (N - 1)/N = 1.20444, by quadrature of the density N p P^{N-1}."""
    x = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    normal = torch.distributions.Normal(0.0, 1.0)
    ratio = math.log(8) + 7 * normal.cdf(x).clamp(min=1e-300).log()
    divergence = float(((normal.log_prob(x) + ratio).exp() * ratio).sum() * (x[1] - x[0]))
    assert divergence == pytest.approx(math.log(8) - 7 / 8, abs=1e-6)
    assert divergence == pytest.approx(1.20444, abs=1e-5)


def test_weighted_samples_have_the_tilted_law():
    """Beds E and A: moments of the tilted law, within 4 standard errors of the effective number of samples."""
    bed = bed_e()
    x0 = kept(fm.data.filtered(LAW, LAW, bed.reward, 2000, candidates=16, beta=1.0))
    assert abs(float(x0.mean()) - 1.0) < 4 * 0.71 / (32_000 * 0.3) ** 0.5 + 0.02
    assert abs(float(x0.std()) - 0.5**0.5) < 0.05
    cold = kept(fm.data.filtered(LAW, LAW, bed.reward, 2000, candidates=16, beta=0.5))
    assert abs(float(cold.mean()) - 4 / 3) < 0.05  # twice the reward: N(4/3, 1/3)
    bed = bed_a()
    flow = flow_of(bed.law)
    x0 = kept(fm.data.filtered(flow, fm.data.as_data(bed.law), bed.reward, 300, candidates=8, beta=1.0, steps=12,
                               step=fm.steps.heun))  # fmt: skip
    assert abs(float(bed.reward(x0.double()).mean()) - bed.numbers["reward"]) < 0.2


def test_labels_and_seeds_go_along():
    flow = fm.FlowMap(fm.networks.MLP((2,), width=8, depth=1, classes=3))
    data = fm.data.as_data((torch.randn(300, 2), torch.arange(300) % 3), standardise=False)
    first = fm.data.filtered(flow, data, row_sum, 50, candidates=4, seed=1)
    again = fm.data.filtered(flow, data, row_sum, 50, candidates=4, seed=1)
    assert first.classes == 3 and first.draw(10).label.shape == (10,)
    assert torch.equal(kept(first), kept(again))
    assert not torch.equal(kept(first), kept(fm.data.filtered(flow, data, row_sum, 50, candidates=4, seed=2)))


def test_wrong_rewards_are_refused():
    with pytest.raises(TypeError, match="function"):
        fm.data.filtered(LAW, LAW, 3.0, 10)
    with pytest.raises(ValueError, match="shape"):
        fm.data.filtered(LAW, LAW, lambda x0: x0, 10)
    with pytest.raises(ValueError, match="not finite"):
        fm.data.filtered(LAW, LAW, lambda x0: x0[:, 0] / 0, 10)
    with pytest.raises(ValueError, match="beta"):
        fm.data.filtered(LAW, LAW, row_sum, 10, beta=0.0)
    with pytest.warns(UserWarning, match="raise beta"):
        fm.data.filtered(LAW, LAW, row_sum, 10, beta=1e-4)


@pytest.fixture
def standardised():
    """Rows around 5, and a flow map that computes on standardised states."""
    x0 = 5 + 2 * torch.randn(3000, 1, generator=torch.Generator().manual_seed(0))
    data = fm.data.as_data(x0, standardise=True)
    flow = flow_of(fm.exact.Gaussian([0.0], 1.0))
    flow.units = data.units
    return flow, data


def test_couplings_of_standardised_data_are_standardised(standardised):
    flow, data = standardised
    pairs = next(fm.data.reflow(flow, data, 1000, steps=1, step=fm.steps.jump).batches(1000))
    assert abs(float(pairs.x0.mean())) < 0.2 and abs(float(pairs.x0.std()) - 1) < 0.1


def test_rewards_are_of_data_in_their_own_units(standardised):
    flow, data = standardised
    seen = []

    def reward(x0):
        seen.append(float(x0.detach().mean()))
        return x0[:, 0] - 5

    best = fm.data.filtered(flow, data, reward, 500, candidates=8)
    assert abs(float(kept(best).mean()) - 1.4236) < 4 * 0.61 / 500**0.5
    x0 = data.draw(64).x0
    for method in (
        fm.methods.tilting(reward, 4.0, flow, steps=1),
        fm.methods.reward_backpropagation(reward, 1.0, flow),
        fm.methods.grpo(reward, 1.0, flow),
    ):
        method.loss(flow, x0)
    assert len(seen) > 3 and all(abs(mean - 5) < 1.5 for mean in seen)


def test_measurements_are_of_data_in_their_own_units(standardised):
    flow, data = standardised
    seen = []

    def measure(x0):
        seen.append(float(x0.detach().mean()))
        return x0

    measured = fm.data.with_measurement(data, measure, 0.1)
    batch = next(measured.batches(500))
    assert abs(float(batch.given["y"].mean()) - 5) < 0.5 and abs(float(batch.x0.mean())) < 0.2
    adapter = fm.methods.NoiseAdapter(torch.nn.Linear(1, 2))
    for weight in adapter.parameters():
        torch.nn.init.zeros_(weight)  # standard noise
    fm.methods.variational(adapter, measure, 0.1).loss(flow, batch.x0, dict(batch.given))
    other = fm.data.with_state(fm.data.with_measurement(fm.data.as_data(data.in_units(data.draw(2000).x0),
                                                                       standardise=False), measure, 0.1))  # fmt: skip
    moved = next(with_units(other, data.units).batches(500))
    assert abs(float(moved.x0.mean())) < 0.2 and abs(float(moved.given["y"].mean()) - 5) < 0.5
    assert abs(float(moved.given["state"].mean())) < 0.3
    assert all(abs(mean - 5) < 1 for mean in seen)


def test_progress_is_told_in_candidates():
    law, told = fm.exact.Gaussian(0.0, 1.0), []
    data = fm.data.as_data(torch.randn(50, 1))
    kwargs = {"n": 25, "candidates": 4, "batch_size": 40}
    found = fm.data.filtered(law, data, lambda x0: x0[:, 0], **kwargs, progress=lambda *now: told.append(now))
    assert told == [(40, 100), (80, 100), (100, 100)]
    assert torch.equal(found.draw(9).x0, fm.data.filtered(law, data, lambda x0: x0[:, 0], **kwargs).draw(9).x0)
    fm.data.reflow(law, data, 30, steps=2, batch_size=20, progress=lambda *now: told.append(now))
    assert told[3:] == [(20, 30), (30, 30)]
