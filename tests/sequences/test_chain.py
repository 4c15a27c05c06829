"""Truth: the two-mode chain with its exact head has the variance, correlations and innovations of the chain."""

import math

import pytest
import torch

import flowmaps as fm
from tests.sequences.chain import DECAY, VARIANCE, ExactHead, MeanHead, entropy_rate, innovation, model

BURN_IN = 24


def made(head, temperature=1.0, rows=2**14, length=72):
    return model(head).generate(length=length, rows=rows, temperature=temperature, seed=3).frames[:, BURN_IN:, 0]


@pytest.fixture(scope="module")
def exact():
    return made(ExactHead())


def test_the_exact_head_makes_the_chain(exact):
    """Variance 1.0625 and correlations 0.8^j; the standard errors of 16384 rows of 48 frames are 0.004 and 0.002."""
    variance = exact.square().mean()
    assert pytest.approx(1.0625, abs=1e-12) == VARIANCE
    assert variance.item() == pytest.approx(VARIANCE, abs=0.01)
    for lag in (1, 3):
        correlation = (exact[:, lag:] * exact[:, :-lag]).mean() / variance
        assert correlation.item() == pytest.approx(DECAY**lag, abs=0.005)


def test_the_innovations_have_the_entropy_rate(exact):
    """The mean of -log p of the innovations is the entropy rate, 0.214872 nats; its standard error is 0.001."""
    assert entropy_rate() == pytest.approx(0.214872, abs=1e-5)
    n = exact[:, 1:] - DECAY * exact[:, :-1]
    law = fm.exact.GaussianMixture([0.5, 0.5], [[-0.6], [0.6]], [0.15, 0.15])
    assert -law.log_prob(n.reshape(-1, 1)).mean().item() == pytest.approx(0.214872, abs=0.004)


def test_a_head_of_the_mean_makes_no_variance():
    """The control: squares learn the mean, so the chain stays at 0."""
    assert made(MeanHead(), rows=64).square().mean() == 0


def test_temperature_moves_mass_into_the_valley(exact):
    """Mass of the innovation within 0.3 of 0: 0.0227 at temperature 1, 0.0416 at 0.3 (a Gaussian would sharpen)."""
    uniform = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    noise = torch.special.ndtri(uniform)
    for temperature, mass in ((1.0, 0.0227), (0.3, 0.0416)):
        inside = (innovation(math.sqrt(temperature) * noise).abs() < 0.3).double().mean().item()
        assert inside == pytest.approx(mass, abs=1e-4)
    cold = made(ExactHead(), temperature=0.3, rows=2**12)
    n = cold[:, 1:] - DECAY * cold[:, :-1]
    assert (n.abs() < 0.3).double().mean().item() == pytest.approx(0.0416, abs=0.001)


def test_fm_sample_makes_the_same_sequences():
    chain, noise = model(ExactHead()), torch.randn(5, 7, 1, dtype=torch.float64)
    made = chain.generate(noise=noise).frames
    torch.testing.assert_close(fm.sample(chain.flow, noise), made)
    torch.testing.assert_close(fm.sample(chain.flow, noise, batch_size=2), made)
    path = fm.trajectory(chain.flow, noise)
    torch.testing.assert_close(path[0], noise)
    torch.testing.assert_close(path[-1], made)
