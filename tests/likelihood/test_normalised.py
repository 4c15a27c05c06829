"""Log-densities integrate to one over the plane, for every estimator that has a density.

- The ODE does so for any velocity, also an untrained one, up to the error of its steps.
- Jumps do so for any map without folds, in both directions, exactly.
- The bound does so for the exact denoiser alone. A learned one has a bound in the mean over the data, and no density.
"""

import math

import pytest
import torch

import flowmaps as fm
from tests.likelihood.beds import EXACT, LAW, network

L = fm.likelihood


def plane(far=5.0, spacing=0.2):
    """Points of an even grid, over which sums of smooth densities are exact to rounding."""
    line = torch.arange(-far, far + spacing / 2, spacing, dtype=torch.float64)
    return torch.cartesian_prod(line, line), 2 * math.log(spacing)


def mass(flow, by, **grid):
    points, volume = plane(**grid)
    return float((L.log_prob(flow, points, by=by).value + volume).exp().sum())


@pytest.mark.slow
@pytest.mark.parametrize(
    "by", [L.ode(EXACT, steps=20), L.ode(EXACT, L.adaptive(rtol=1e-4, atol=1e-4))], ids=["fixed", "adaptive"]
)
def test_the_ode_of_a_mixture_and_of_a_random_network(by):
    assert mass(LAW, by) == pytest.approx(1, abs=2e-3)
    assert mass(network(), by, far=8.0) == pytest.approx(1, abs=2e-3)


def test_jumps_of_a_random_network():
    """Whatever the map, as long as it does not fold space."""
    for steps in (1, 3):
        assert mass(network(), L.jumps(steps, chunk=1), far=8.0) == pytest.approx(1, abs=2e-3)


def test_steps_of_a_mixture():
    """Of Heun's rule: 16 of them are an invertible map here."""
    assert mass(LAW, L.jumps(16, step="heun", chunk=1), spacing=0.1) == pytest.approx(1, abs=2e-3)


def test_the_bound_of_the_exact_denoiser():
    """exp of the mean over 200 copies of each point: the exp of a noisy bound would be too large."""
    points, volume = plane(far=4.0, spacing=0.5)
    torch.manual_seed(0)
    found = L.log_prob(LAW, points.repeat(40, 1), by=L.bound(64))
    value = found.value.reshape(40, -1).mean(0)
    error = found.standard_error.reshape(40, -1).square().mean(0).sqrt() / 40**0.5
    masses = (value + volume).exp()
    spread = float((masses * error).square().sum().sqrt())
    bias = float((masses * error.square() / 2).sum())
    exact = float((LAW.log_prob(points) + volume).exp().sum())
    assert exact == pytest.approx(1, abs=1e-3)
    assert abs(float(masses.sum()) - exact) < 4 * spread + bias + 2e-3
