"""Weighted Diamond on bed G, row 12 of the acceptance table: right weights, and the two errors of the published code.

Given x_t = 0.3 at t = 0.5, states z at t' with a quarter of the signal-to-noise ratio jump to X = F(z, t', 0). Since X
has the law of the data, X with the weight N(x; alpha X, sigma^2) p_t'(z) dz has the law of x_0 given x_t, exactly. Here
the sums over z are quadrature.
"""

import pytest
import torch

from flowmaps.steering import look
from tests.beds import bed_g

T, THERE = 0.5, 2 / 3  # the signal-to-noise ratio falls by 4


@pytest.fixture(scope="module")
def problem():
    law = bed_g().law
    x, z = torch.tensor([[0.3]], dtype=torch.float64), torch.linspace(-12, 12, 3001, dtype=torch.float64)[:, None]
    return law, x, z, law.flow_map(z, THERE, 0.0, tolerance=1e-9)


def moments(log_weight, X):
    weight = log_weight.softmax(0)
    return float(weight @ X[:, 0]), float(weight @ X[:, 0] ** 2)


def seen(X, x):
    """log N(x; alpha X, sigma^2)."""
    return torch.distributions.Normal((1 - T) * X, T).log_prob(x)[:, 0]


def test_weights_with_the_jump_are_exact(problem):
    law, x, z, X = problem
    posterior = law.posterior_of_data(x, T)
    exact = float(posterior.mean()), float(posterior.covariance() + posterior.mean() ** 2)
    assert moments(seen(X, x) + law.log_prob(z, THERE), X) == pytest.approx(exact, abs=1e-3)
    assert exact == pytest.approx(bed_g().numbers["moments"], abs=5e-4)


def test_the_denoised_state_in_the_weight_is_biased(problem):
    """Negative control: f(z, t') in the place of F(z, t', 0), as in the published code."""
    law, x, z, X = problem
    wrong = moments(seen(law.denoise(z, THERE), x) + law.log_prob(z, THERE), X)
    assert wrong == pytest.approx((0.791, 2.419), abs=2e-3)


def test_the_trapezoid_in_the_weight_is_biased(problem):
    """Negative control: log p_t'(z) by the mean of the two scores along the way from x, as in the published code."""
    law, x, z, X = problem
    along = ((law.score(x, T) + law.score(z, THERE)) / 2 * (z - x)).sum(1)
    assert moments(seen(X, x) + along, X)[0] == pytest.approx(1.201, abs=2e-3)


def test_the_look_ahead_has_these_weights(problem):
    """The library's draws, within 4 standard errors of their weighted mean; equal weights fail."""
    law, x, _, _ = problem
    torch.manual_seed(0)
    n = 6000
    outlook = look.renoise(n, 4.0, law.log_prob)(law, x, T)
    X, weight = outlook.draws[:, 0, 0], outlook.log_weights[:, 0].softmax(0)
    for power, exact in zip((1, 2), bed_g().numbers["moments"], strict=True):
        mean = float(weight @ X**power)
        error = float((weight**2 @ (X**power - mean) ** 2).sqrt())
        assert abs(mean - exact) < 4 * error + 5e-4
    assert float(1 / (weight**2).sum()) / n == pytest.approx(0.756, abs=0.03)
    equal = look.renoise(n, 4.0)(law, x, T)
    assert equal.log_weights is None and abs(float(equal.draws.mean()) - 0.979) > 0.5
