"""Log-densities by stochastic differential equations: the claim, its missing Ito term, and both repairs.

A second run of dx = v dt with noise, dx' = v dt + e dW, keeps a distance delta = x' - x from the first. The claim reads
the divergence of v off the growth of |delta|^2.
"""

import math

import pytest
import torch

import flowmaps as fm
from tests.likelihood.beds import LAW, draws, on, randn, standard_error

L = fm.likelihood
J = torch.tensor([[1.0, 0.6], [0.0, -2.0]], dtype=torch.float64)
EPS = 1e-3


def covariances(J, T=1.0, steps=400):
    """The covariance S(t) of delta / e on a grid of times: dS/dt = J S + S J^T + 1, J a matrix or a function of t."""
    rate_of = J if callable(J) else lambda t: J
    one = torch.eye(2, dtype=torch.float64)

    def rate(S, t):
        return rate_of(t) @ S + S @ rate_of(t).mT + one

    S, found = torch.zeros_like(one), []
    for k in range(steps):
        S = L.rk4(rate, S, T * k / steps, T * (k + 1) / steps)
        found.append(S)
    return torch.stack(found)


def simpson(values, width):
    """The integral over an even grid with an odd number of points."""
    weights = torch.ones(len(values), dtype=values.dtype)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    return float((weights * values).sum() * width / 3)


def test_the_ito_term_is_missing():
    """E|delta|^2 / e^2 = 3.52 at T = 1, where the claim has 1.52: the rest is D = 2, the noise itself."""
    S = torch.cat([torch.zeros(1, 2, 2, dtype=torch.float64), covariances(J)])
    grown = float(S[-1].trace())
    claimed = simpson(2 * (J @ S).diagonal(dim1=1, dim2=2).sum(1), 1 / 400)
    assert grown == pytest.approx(3.52, abs=0.05) and claimed == pytest.approx(1.52, abs=0.05)
    assert grown == pytest.approx(claimed + 2, abs=1e-8)
    assert grown == pytest.approx(float(exact_covariance(1.0).trace()), abs=1e-9)


def exact_covariance(T):
    """int_0^T e^(J u) e^(J^T u) du from the Lyapunov equation J S + S J^T = e^(JT) e^(J^T T) - 1."""
    one = torch.eye(2, dtype=torch.float64)
    grown = torch.linalg.matrix_exp(J * T)
    system = torch.kron(J, one) + torch.kron(one, J)
    return torch.linalg.solve(system, (grown @ grown.T - one).flatten()).reshape(2, 2)


def test_two_runs_with_and_without_noise_have_this_distance():
    """The same numbers from 20000 runs of the stochastic equation itself, in 200 steps."""
    n, steps, generator = 20_000, 200, torch.Generator().manual_seed(0)
    delta, claimed = torch.zeros(n, 2, dtype=torch.float64), 0.0
    for _ in range(steps):
        drift = delta @ J.T
        claimed = claimed + 2 * (delta * drift).sum(1) / steps
        z = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        delta = delta + drift / steps + EPS * z / steps**0.5
    square, claimed = delta.square().sum(1) / EPS**2, claimed / EPS**2
    assert float(square.mean()) == pytest.approx(3.52, abs=4 * standard_error(square) + 0.05)
    assert float(claimed.mean()) == pytest.approx(1.52, abs=4 * standard_error(claimed) + 0.05)
    assert abs(float((square - claimed).mean()) - 2) < 4 * standard_error(square - claimed) + 0.02


def test_the_distance_prefers_expanding_directions():
    """Normalised by |delta|^2, the estimate of the trace -1 is right for short times alone."""

    def estimate(T):
        S = exact_covariance(T)
        return 2 * float((J @ S).trace() / S.trace())

    assert estimate(1e-4) == pytest.approx(-1, abs=1e-3)
    assert estimate(20.0) == pytest.approx(2.0, abs=1e-3)  # twice the largest eigenvalue
    for T, number in ((0.01, -0.95), (0.1, -0.54), (1.0, 1.61)):
        assert estimate(T) == pytest.approx(number, abs=0.005)


def test_whitening_repairs_it():
    """E delta^T S^-1 J delta = tr J, at every time, for delta of covariance S."""
    S = covariances(J)[[3, 99, -1]]
    found = (torch.linalg.inv(S) @ J @ S).diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(found, torch.full((3,), -1.0, dtype=torch.float64), rtol=0, atol=1e-9)
    delta = randn(200_000, 2) @ torch.linalg.cholesky(S[-1]).T
    values = ((delta @ torch.linalg.inv(S[-1])) * (delta @ J.T)).sum(1)
    assert abs(float(values.mean()) + 1) < 4 * standard_error(values)
    plain = (delta * (delta @ J.T)).sum(1) * 2 / delta.square().sum(1).mean()
    assert abs(float(plain.mean()) + 1) > 100 * standard_error(plain)  # the negative control


def whitened(J, T=1.0, start=0.1, steps=3600):
    """int tr J from `start` to T as (1/2) [log det S - int tr S^-1]."""
    S = covariances(J, T, steps)
    first = round(start / T * steps) - 1
    inverse = torch.linalg.inv(S[first:]).diagonal(dim1=1, dim2=2).sum(1)
    return 0.5 * float(S[-1].logdet() - S[first].logdet()) - 0.5 * simpson(inverse, T / steps)


def test_the_integral_of_the_trace_follows_from_the_covariance():
    """Also for a Jacobian that turns and grows in time. No derivative of the flow is taken but its covariance."""
    assert whitened(J) == pytest.approx(0.9 * float(J.trace()), abs=1e-6)

    def turning(t):
        turn = torch.tensor([[math.cos(t), math.sin(t)], [-math.sin(t), math.cos(t)]], dtype=torch.float64)
        return turn @ J @ turn.T * (1 + t)

    assert whitened(turning) == pytest.approx(-(1 - 0.1 + (1 - 0.01) / 2), abs=1e-6)


def test_renewed_differences_repair_it():
    """With a new delta in every step the claim is Hutchinson's estimate by differences: unbiased log-densities."""
    x = draws(200)
    torch.manual_seed(0)
    found = L.log_prob(LAW, x, by=L.ode(L.differences(8, h=1e-3), steps=10))
    exact = L.log_prob(LAW, x, by=L.ode(L.exact(chunk=1), steps=10)).value
    difference = found.value - exact
    assert abs(float(difference.mean())) < 4 * standard_error(difference)
    x, z = draws(2000), L.hutchinson(1).draw(draws(2000))[0]
    v = lambda x: LAW.velocity(x, 0.5)  # noqa: E731
    exact = L.hutchinson(1)(v, x, z[None])[1][:, 0]
    for dtype, gate in ((torch.float64, 1e-3), (torch.float32, 1e-2)):
        one, sign = x.to(dtype), z.to(dtype)
        found = ((v(one + 1e-3 * sign) - v(one - 1e-3 * sign)) / 2e-3 * sign).sum(1)
        assert float((found - exact).abs().mean()) < gate / 10 and float((found - exact).abs().max()) < gate


# --- the Ito form along the reverse equation --------------------------------------------------------------------------


def along_the_reverse_equation(law, n, steps, seed=0):
    """Integrate d log p = s.dx + [D a + a x.s - (g^2/2) |s|^2] dtau while sampling, a = alpha'/alpha, g^2 = 2 b.

    Returns the integrated and the exact log-densities of the samples.
    """
    torch.manual_seed(seed)
    path, x = law.path, randn(n, 2, seed=seed)
    value = law.log_prob(x, 1.0)
    for k in range(steps):
        t, dt = torch.full((n, 1), 1 - k / steps, dtype=torch.float64), 1 / steps
        a = path.alpha_slope(t, t) / path.alpha(t)
        square = 2 * path.noising_rate(t)
        score = law.score(x, t)
        moved = (-a * x + square * score) * dt + (square * dt).sqrt() * torch.randn_like(x)
        drift = 2 * a[:, 0] + a[:, 0] * (x * score).sum(1) - square[:, 0] / 2 * score.square().sum(1)
        value, x = value + (score * moved).sum(1) + drift * dt, x + moved
    return value, law.log_prob(x)


def test_the_ito_form_converges_slowly():
    """Its error comes from the discretisation: half the spread at four times the steps, sd .27 at 2000 steps."""
    law = on(fm.path.VariancePreserving())
    errors = {}
    for steps in (125, 500):
        found, exact = along_the_reverse_equation(law, 1500, steps)
        errors[steps] = found - exact
    few, many = (float(errors[steps].quantile(0.9) - errors[steps].quantile(0.1)) for steps in (125, 500))
    assert few / many == pytest.approx(2, rel=0.25)
    assert abs(float(errors[500].median())) < 0.15
    assert 0.3 < float(errors[500].std()) < 0.8
