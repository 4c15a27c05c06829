"""The bound of post-training: reached by the tilted law, not exceeded by others, on beds in closed form."""

import math

import pytest
import torch

import flowmaps as fm
from tests.beds import bed_a, bed_g


@pytest.mark.parametrize("make", [bed_a, bed_g])
def test_the_tilted_law_reaches_the_bound(make):
    bed = make()
    tilted, log_z = bed.tilted
    x, prior = tilted.sample(20_000), bed.law.sample(200_000)
    found = fm.evaluate.reward_bound(bed.reward, 1.0, x, prior, log_ratio=tilted.log_prob(x) - bed.law.log_prob(x))
    assert abs(found.bound.value - float(log_z)) < 4 * found.bound.stderr
    assert found.objective.value == pytest.approx(float(log_z), abs=1e-9)  # without variance, for the tilted law
    if make is bed_a:
        numbers = bed.numbers
        assert abs(found.reward.value - numbers["reward"]) < 4 * found.reward.stderr
        assert abs(found.divergence.value - numbers["kl"]) < 4 * found.divergence.stderr
        assert found.effective / 200_000 == pytest.approx(numbers["ess"], abs=0.02)


def test_a_translated_law_stays_below_the_bound():
    """Direct backpropagation: every sample of bed G moved by c/(2 beta); its divergence is by the closed densities."""
    bed, shift = bed_g(), 0.5
    law = bed.law
    moved = fm.exact.GaussianMixture(law.weights, law.means + shift, law.stds)
    x = moved.sample(20_000, torch.Generator().manual_seed(0))
    found = fm.evaluate.reward_bound(
        bed.reward, 1.0, x, law.sample(100_000, torch.Generator().manual_seed(1)),
        log_ratio=moved.log_prob(x) - law.log_prob(x),
    )  # fmt: skip
    assert found.objective.value + 10 * found.objective.stderr < found.bound.value
    assert abs(found.reward.value - found.prior_reward.value - shift) < 4 * 2.5 / 20_000**0.5


def test_estimates_that_cannot_be_made_are_refused_or_warn():
    x, reward = torch.randn(100, 1), lambda x0: x0[:, 0]
    assert fm.evaluate.reward_bound(reward, 1.0, x, x).objective is None
    with pytest.warns(UserWarning, match="raise beta"):
        fm.evaluate.reward_bound(reward, 0.01, x, x)
    with pytest.raises(ValueError, match="beta"):
        fm.evaluate.reward_bound(reward, 0.0, x, x)
    with pytest.raises(ValueError, match="shape"):
        fm.evaluate.reward_bound(lambda x0: x0, 1.0, x, x)
    with pytest.raises(ValueError, match="log_ratio"):
        fm.evaluate.reward_bound(reward, 1.0, x, x, log_ratio=torch.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        fm.evaluate.reward_bound(lambda x0: x0[:, 0] * math.inf, 1.0, x, x)
    with pytest.raises(ValueError, match="2 rows"):
        fm.evaluate.reward_bound(reward, 1.0, x[:1], x)
