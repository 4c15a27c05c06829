"""Best of N, importance weights, and Langevin dynamics of the noise, against their laws."""

import math

import pytest
import torch

import flowmaps as fm
from flowmaps import steps
from tests.oracles import Jumps, randn
from tests.steering.beds import SLOPE, Coarse, tensor, three

S, R = fm.steering, fm.rewards
NORMAL = fm.exact.Gaussian(0.0, 1.0)


def first(x0):
    return x0[:, 0]


def test_the_best_of_8_normal_numbers():
    """Mean 1.42360 and divergence log 8 - 7/8 = 1.20444 from the prior, within 4 standard errors of 20000 rows."""
    out = S.best_of(NORMAL, first, randn(8, 20000, 1))
    x = out.x[:, 0]
    assert abs(x.mean() - 1.42360) < 4 * x.std() / 20000**0.5
    cdf = torch.distributions.Normal(tensor(0.0), tensor(1.0)).cdf(x)
    divergence = math.log(8) + 7 * cdf.log()
    assert abs(divergence.mean() - 1.20444) < 4 * divergence.std() / 20000**0.5
    torch.testing.assert_close(out.x, NORMAL(out.noise, 1.0, 0.0))
    assert out.rewards.shape == (8, 20000) and torch.equal(out.rewards.max(0).values, x)


def test_several_are_kept_from_the_best_down():
    out = S.best_of(NORMAL, first, randn(6, 5, 1), keep=3)
    assert out.x.shape == out.noise.shape == (3, 5, 1)
    torch.testing.assert_close(out.x[..., 0], out.rewards.sort(0, descending=True).values[:3])


def test_importance_weights_estimate_the_evidence_and_the_tilted_law():
    """Bed A: log Z .71894, E r 1.44657, ESS .366. 4000 candidates in each of 2 rows: standard errors .02, .03."""
    mixture = three()
    flow = Coarse(mixture, 6)
    out = S.best_of(flow, R.Linear(SLOPE), randn(3000, 2, 2))
    assert (out.log_z - 0.71894).abs().max() < 0.1 and (out.ess - 0.366).abs().max() < 0.06
    mean = (out.log_weights.exp() * out.rewards).sum(0)
    assert (mean - 1.44657).abs().max() < 0.15
    drawn = out.resampled()
    assert drawn.shape == (3000, 2, 2)
    for row in range(2):
        assert abs(R.Linear(SLOPE)(drawn[:, row]).mean() - mean[row]) < 0.05


def test_candidates_take_steps_conditions_and_a_seed():
    flow = fm.FlowMap(fm.networks.MLP(shape=(2,), classes=3, width=8, depth=1)).double()
    noise, label = randn(4, 5, 2), torch.tensor([0, 1, 2, 0, 1])
    out = S.best_of(flow, first, noise, step=steps.ancestral, steps=3, condition=label, seed=4)
    assert torch.equal(out.x, S.best_of(flow, first, noise, step="ancestral", steps=3, condition=label, seed=4).x)
    plain = S.best_of(flow, first, noise, condition=label)
    torch.testing.assert_close(plain.samples[2], fm.sample(flow, noise[2], condition=label))
    assert not torch.equal(out.samples[0], out.samples[1])
    bound = S.best_of(flow.given(label=label), first, noise)
    assert torch.equal(bound.samples, plain.samples)
    assert torch.equal(bound.x, S.best_of(flow, first, noise, condition=label, batch_size=7).x)
    part = fm.FlowMap(Jumps(three()), only_source=1.0)
    assert S.best_of(part, first, noise).x.shape == (5, 2)


def test_langevin_dynamics_of_the_noise_have_the_tilted_law():
    """N(1, .5^2) tilted by e^(1.2 x): N(1.3, .5^2). 1000 chains: standard errors .016 and .011."""
    law = fm.exact.Gaussian(1.0, 0.5)
    out = S.langevin(law, randn(1000, 1), lambda x0: 1.2 * x0[:, 0], 60, 0.5, seed=1)
    assert out.x.mean().item() == pytest.approx(1.3, abs=0.07) and out.x.std().item() == pytest.approx(0.5, abs=0.05)
    assert 0.5 < out.acceptance.mean() <= 1
    torch.testing.assert_close(out.x, law(out.noise, 1.0, 0.0))
    torch.testing.assert_close(out.rewards, 1.2 * out.x[:, 0])
    coarse = S.langevin(law, randn(1000, 1), lambda x0: 1.2 * x0[:, 0], 40, 1.5, seed=1)  # large steps stay unbiased
    assert coarse.x.mean().item() == pytest.approx(1.3, abs=0.07)


def test_langevin_dynamics_of_a_mixture():
    """Bed A: the weights of the tilt, .077, .847, .076. 400 chains: standard error .018."""
    mixture = three()
    tilted, _ = mixture.tilted(R.Linear(SLOPE))
    out = S.langevin(Coarse(mixture, 4), randn(300, 2), R.Linear(SLOPE), 60, 0.3, seed=2)
    assert (tilted.posterior(out.x, 0.0).mean(0) - tilted.weights).abs().max() < 0.08
    again = S.langevin(Coarse(mixture, 4), randn(300, 2), R.Linear(SLOPE), 60, 0.3, seed=2)
    assert torch.equal(out.x, again.x)


def test_langevin_without_a_reward_leaves_the_noise_normal_on_an_exploding_path():
    law = fm.exact.Gaussian(0.0, 1.0, path=fm.path.VarianceExploding(3.0))
    out = S.langevin(law, 3 * randn(2000, 1), lambda x0: 0 * x0[:, 0], 20, 0.5, seed=1)
    assert out.noise.std().item() == pytest.approx(3.0, abs=0.2)


def test_wrong_searches_are_refused():
    cases = [
        (ValueError, r"\(N, B, \.\.\.\), N candidates", lambda: S.best_of(NORMAL, first, randn(5, 1))),
        (ValueError, "keep=9 candidates, and there are 8", lambda: S.best_of(NORMAL, first, randn(8, 2, 1), keep=9)),
        (TypeError, "a reward is a function", lambda: S.best_of(NORMAL, None, randn(8, 2, 1))),
        (ValueError, "one number for each row", lambda: S.best_of(NORMAL, lambda x: x, randn(8, 2, 1))),
        (ValueError, "size must be positive", lambda: S.langevin(NORMAL, randn(2, 1), first, 5, 0.0)),
        (ValueError, "steps must be at least 1", lambda: S.langevin(NORMAL, randn(2, 1), first, 0, 0.1)),
        (ValueError, "no gradient", lambda: S.langevin(NORMAL, randn(2, 1), lambda x: x[:, 0].detach(), 5, 0.1)),
    ]
    for error, message, wrong in cases:
        with pytest.raises(error, match=message):
            wrong()


def test_progress_is_told_and_changes_no_number():
    """8 candidates of 5 rows in batches of 16: three parts of each of 2 steps. 4 moves of a chain."""
    noise, told = randn(8, 5, 1), []
    for step in ("jump", steps.ancestral):
        kwargs = {"step": step, "steps": 2, "seed": 3, "batch_size": 16}
        found = S.best_of(NORMAL, first, noise, **kwargs, progress=lambda *now: told.append(now))
        assert told == [(k, 6) for k in range(1, 7)]
        assert torch.equal(found.samples, S.best_of(NORMAL, first, noise, **kwargs).samples)
        told.clear()
    chains = S.langevin(NORMAL, noise[0], first, 4, 0.1, seed=3, progress=lambda *now: told.append(now))
    assert told == [(k, 4) for k in range(1, 5)]
    assert torch.equal(chains.x, S.langevin(NORMAL, noise[0], first, 4, 0.1, seed=3).x)
