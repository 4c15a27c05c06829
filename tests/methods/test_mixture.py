"""Methods that learn from pairs, at the exact flow map of a mixture: does training stand still at the truth?

A Gaussian cannot tell, since its flow map is linear. Here expectations over the data behind x_s are exact (quadrature),
and gradients are taken in two directions that leave the truth.
"""

import functools

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.methods import LANDSCAPE
from flowmaps.times.grids import below, uniform_grid
from tests.methods.support import build
from tests.oracles import PATHS, cdf, density, marginal, mixture, quantile

ROWS = {row.name: row for row in LANDSCAPE}
BIASED = ["ct", "ict", "ect", "soflow", "alphaflow"]
UNBIASED = [row.name for row in LANDSCAPE if not row.needs_teacher and row.name not in BIASED]
PATH = PATHS["linear"]
X, S, T = 0.4, 0.8, 0.3


class Truth(nn.Module):
    """The average velocity of a one-dimensional mixture by monotone rearrangement, F = Q_t(P_s(x)), for batches of
    equal times. Around the point where it is asked it is its own first-order expansion, so first derivatives are exact
    in every mode: F_x = p_s(x)/p_t(F), F_s = -F_x v(x, s), F_t = v(F, t)."""

    def __init__(self, path=PATH):
        super().__init__()
        self.exact = mixture(path)
        self.nudges = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x, s, t):
        away = self.nudges[0] * x + self.nudges[1] * torch.cos(x)
        s, t = s[:, None], t[:, None]
        x_, s_, t_ = (_plain(z) for z in (x, s, t))
        if torch.equal(s_, t_):
            return self.exact.velocity(x, s) + away
        F, F_x = rearranged(x_, s_[0, 0].item(), t_[0, 0].item(), self.exact)
        end = F + F_x * (x - x_) - F_x * self.exact.velocity(x_, s_) * (s - s_) + self.exact.velocity(F, t_) * (t - t_)
        return (end - x) / (t - s) + away


def _plain(z):
    return getattr(z, "primal", z).detach()


def rearranged(x, s, t, exact):
    """F(x, s, t) and its slope in x."""
    F = quantile(exact, cdf(exact, x[:, 0], s), t)
    return F[:, None], (density(exact, x[:, 0], s) / density(exact, F, t))[:, None]


@functools.cache
def behind(x=X, s=S, n=2001):
    """Pairs (x_0, eps) that meet in x at time s, with their posterior weights: the trapezoid rule over x_0."""
    time = torch.tensor(s, dtype=torch.float64)
    x0 = torch.linspace(-4, 4, n, dtype=torch.float64)[:, None]
    eps = (x - PATH.alpha(time) * x0) / PATH.sigma(time)
    weight = marginal(mixture(PATH), 0.0).log_prob(x0[:, 0]).exp() * torch.exp(-0.5 * eps[:, 0] ** 2)
    return x0, eps, weight / weight.sum()


def at_the_truth(name, term=None, progress=0.0, **options):
    """Mean residual and mean gradient of its square, given x_s: exactly."""
    x0, eps, weight = behind()
    flow = fm.FlowMap(Truth(), path=PATH)
    t = 0.0 if ROWS[name].only_target == 0.0 else T
    found = build(name, **options).loss(flow, x0, noise=eps, times=(S, t), progress=progress).terms
    means = {}
    for key, seen in found.items():
        square = (seen.residual**2).flatten(1).sum(1) @ weight
        (gradient,) = torch.autograd.grad(square, flow.network.nudges, retain_graph=True)
        means[key] = (weight @ seen.residual.flatten(1)).abs().max().item(), gradient.abs().max().item()
    return means


@pytest.mark.parametrize("name", UNBIASED)
def test_training_from_scratch_stands_still_at_the_truth(name):
    for term, (residual, gradient) in at_the_truth(name).items():
        assert residual < 1e-8 and gradient < 1e-8, (term, residual, gradient)


@pytest.mark.parametrize("name", ["soflow", "alphaflow"])
def test_a_finite_step_along_the_conditional_velocity_is_biased_in_first_order(name):
    """E[V - r u - (1 - r) V(x_m, m, t)]/r falls like the step r; MeanFlow, its limit, has none."""
    biases = []
    for r in (0.04, 0.02, 0.01):
        residual, gradient = at_the_truth(name, ratio=lambda progress, r=r: r)["eulerian"]
        biases.append(residual / r**0.5)
        assert gradient > 1e-4
    rates = [torch.log2(torch.tensor(a / b)).item() for a, b in zip(biases, biases[1:], strict=False)]
    assert rates[-1] == pytest.approx(1, abs=0.1)
    assert biases[-1] > 1e-3
    assert at_the_truth("meanflow")["eulerian"][0] < 1e-8


def test_alphaflow_ends_as_meanflow_without_the_bias():
    residual, gradient = at_the_truth("alphaflow", progress=1.0, ratio=lambda progress: 0.0)["eulerian"]
    assert residual < 1e-8 and gradient < 1e-8


def consistency_training_bias(points):
    """The mean of F(x_s, s, 0) - F(x_m, m, 0) over one step of a uniform grid, x_m of the same pair."""
    x0, eps, weight = behind()
    flow = fm.FlowMap(Truth(), path=PATH)
    s = torch.full((len(x0), 1), S, dtype=torch.float64)
    teacher = fm.velocity.Conditional(fm.velocity.Pair(x0, eps, PATH, {}))
    # every x_m lies at the same time, so one batch has equal times
    residual = fm.finite_steps.same_endpoint(
        flow, teacher, torch.full_like(x0, X), s, 0 * s, to=below(uniform_grid(points)), solver=fm.steps.jump
    )
    return (weight @ residual).abs().item()


def test_consistency_training_is_biased_in_second_order_of_position():
    """(s - m)^2/2 tr(grad^2 F Cov(u | x_s)), so first order in units of velocity."""
    bias = [consistency_training_bias(points) for points in (40, 80, 160)]
    rates = [torch.log2(torch.tensor(a / b)).item() for a, b in zip(bias, bias[1:], strict=False)]
    assert rates[-1] == pytest.approx(2, abs=0.1)
    assert bias[0] > 1e-5


@pytest.mark.parametrize("name", ["ct", "ict", "ect"])
def test_consistency_training_does_not_stand_still_at_the_truth(name):
    """At the coarse grids of the beginning the bias is plain to see."""
    residual, gradient = at_the_truth(name)["eulerian"]
    assert residual > 5e-3 and gradient > 1e-3
