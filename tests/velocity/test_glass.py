"""GLASS: row 3 of the acceptance table. Both forms against quadrature and against the exact posterior."""

import pytest
import torch

import flowmaps as fm
from flowmaps import path as paths
from flowmaps.velocity import Glass
from tests.beds import bed_a, bed_g
from tests.exact.test_tilted import full
from tests.oracles import PATHS, flow_of, randn

ALL = pytest.mark.parametrize(
    "path", [*PATHS.values(), paths.Discrete((0.99, 0.7, 0.4, 0.1))], ids=[*PATHS, "discrete"]
)
T = torch.tensor([0.2, 0.5, 0.8, 0.95], dtype=torch.float64)


@pytest.mark.parametrize("make", [full, lambda path: bed_a().on(path).law], ids=["full", "stds"])
@ALL
def test_the_posterior_velocity_is_that_of_the_exact_posterior(path, make):
    law = make(path)
    state, x, s = randn(4, 2), randn(4, 2, seed=1), torch.tensor([0.9, 0.4, 0.05, 0.6], dtype=torch.float64)
    exact, glass = law.posterior_of_data(state, T), Glass(law).given(state=state, at=T)
    torch.testing.assert_close(glass.denoise(x, s), exact.denoise(x, s), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(glass.velocity(x, s), exact.velocity(x, s), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("to", [0.0, 0.1, 0.45])
@ALL
def test_both_forms_are_those_of_quadrature(path, to):
    """X | x_t = path.posterior given x_0, and xb_s = alpha X + sigma e: integrate over x_0 and X on a grid."""
    law = bed_g().on(path).law
    state, t, x = randn(3, 1), 0.6, randn(3, 1, seed=1)
    line = torch.linspace(-8, 8, 1601, dtype=torch.float64)[:, None]  # x_0
    time = torch.tensor(t, dtype=torch.float64)
    p0 = law.log_prob(line) + torch.distributions.Normal(path.alpha(time) * line, path.sigma(time)).log_prob(
        state[:, None]
    ).sum(2)  # (3, N), p(x_0, x_t)
    for s in (0.9, 0.5, 0.2):
        u = torch.tensor(s, dtype=torch.float64)
        alpha, sigma = path.alpha(u), path.sigma(u)
        mean, std = path.posterior(state.repeat_interleave(1601, 0), line.repeat(3, 1), t, to)
        mean, std = mean.reshape(3, 1601), std[0, 0]
        # given x_0, xb is N(alpha mean, alpha^2 std^2 + sigma^2) and X | xb has the mean of two Gaussians
        total = alpha**2 * std**2 + sigma**2
        log = p0 + torch.distributions.Normal(alpha * mean, total.sqrt()).log_prob(x)
        inner = mean + alpha * std**2 / total * (x - alpha * mean)
        X = (log.softmax(1) * inner).sum(1, keepdim=True)
        glass = Glass(law, to=to).given(state=state, at=t)
        torch.testing.assert_close(glass.denoise(x, s), X, rtol=1e-9, atol=1e-9)
        v = path.convert(X, x, s, paths.data, paths.velocity)
        torch.testing.assert_close(glass.velocity(x, s), v, rtol=1e-9, atol=1e-8)


@ALL
def test_the_ends_of_both_times_are_finite_and_right(path):
    """At the inner time 1 the state alone speaks, at 0 the draw itself; a state of noise leaves the law as it was."""
    law = bed_a().on(path).law
    state, x = randn(4, 2), randn(4, 2, seed=1)
    for to in (0.0, 0.3):
        glass = Glass(law, to=to).given(state=state, at=0.7)
        assert glass.velocity(x, 1.0).isfinite().all()
        rough = 1e-3 if isinstance(path, paths.VariancePreserving) else 1e-7  # its sigma' is infinite at 0
        torch.testing.assert_close(glass.denoise(x, 0.0), x, rtol=0, atol=rough)
        assert glass.velocity(x, 0.0).isfinite().all()
    if path.alpha(torch.ones(())) < 1e-6:
        glass = Glass(law).given(state=state, at=0.7)
        torch.testing.assert_close(glass.denoise(x, 1.0), law.denoise(state, 0.7))
        prior = Glass(law).given(state=state, at=1.0)
        for s in (0.3, 1.0):
            torch.testing.assert_close(prior.velocity(x, s), law.velocity(x, s))
    known = Glass(law).given(state=state, at=0.0)
    for s in (0.0, 0.5, 1.0):
        torch.testing.assert_close(known.denoise(x, s), x if s == 0 else state, rtol=0, atol=rough)


def test_draws_of_the_transition_have_the_law_of_the_ancestral_kernel():
    """By the transition's flow, and by x_0 from the posterior and then the kernel: two moments, 4 standard errors."""
    law, n = bed_g().law, 4000
    state = torch.full((n, 1), 0.3, dtype=torch.float64)
    drawn = fm.sample(Glass(law, to=0.4).given(state=state, at=0.7), randn(n, 1), 60, step=fm.steps.heun)
    x0 = law.posterior_of_data(state[:1], 0.7).sample(n, torch.Generator().manual_seed(1))[:, 0]
    mean, std = law.path.posterior(state, x0, 0.7, 0.4)
    direct = mean + std * randn(n, 1, seed=2)
    for power in (1, 2):
        a, b = drawn**power, direct**power
        assert abs(float(a.mean() - b.mean())) < 4 * float((a.var() + b.var()) / n) ** 0.5


def test_an_early_stop_of_the_posterior_flow_is_a_draw_of_the_kernel():
    """At the inner time whose precision adds to the one of t', the statistic times alpha(t') is a state x_t'."""
    law, n, t, to = bed_g().law, 4000, 0.7, 0.4
    state = torch.full((n, 1), 0.3, dtype=torch.float64)
    snr = lambda t: ((1 - t) / t) ** 2  # noqa: E731
    stop = 1 / (1 + (snr(to) - snr(t)) ** 0.5)
    x, glass = randn(n, 1), Glass(law).given(state=state, at=t)
    for k in range(60):
        x = fm.steps.heun(glass, x, 1 - k / 60 * (1 - stop), 1 - (k + 1) / 60 * (1 - stop))
    early = (1 - to) * ((1 - t) / t**2 * state + (1 - stop) / stop**2 * x) / snr(to)
    drawn = fm.sample(Glass(law, to=to).given(state=state, at=t), randn(n, 1, seed=3), 60, step=fm.steps.heun)
    for power in (1, 2):
        a, b = early**power, drawn**power
        assert abs(float(a.mean() - b.mean())) < 4 * float((a.var() + b.var()) / n) ** 0.5


@pytest.mark.slow
@ALL
def test_draws_by_few_steps_converge_with_the_square(path):
    """The largest error against the exact flow of the posterior; it falls with the square of the steps."""
    law, noise = bed_g().on(path).law, randn(40, 1, seed=5)
    state, at = randn(40, 1), torch.linspace(0.3, 0.8, 40).double()
    end = law.posterior_of_data(state, at).flow_map(path.sigma(torch.ones(())) * noise, 1.0, 0.0, tolerance=1e-6)
    glass = Glass(law).given(state=state, at=at)
    coarse, fine = (float((glass.draw(noise, steps) - end).square().mean().sqrt()) for steps in (8, 64))
    assert fine < 2e-3 and coarse / fine > 12  # 8 times the steps: a method of first order gains a factor of 8
    with pytest.raises(ValueError, match="steps"):
        glass.draw(noise, 0)


def test_a_learned_map_and_its_conditions_go_through():
    """The flow gets its own conditions; the weights of a frozen one are constants; rows do not see each other."""
    network = fm.networks.MLP(shape=(2,), width=16, depth=2, classes=3)
    flow = fm.FlowMap(network)
    state, x, label = torch.randn(4, 2), torch.randn(4, 2), torch.tensor([0, 1, 2, 0])
    glass = Glass(flow).given(state=state, at=0.5, label=label)
    value = glass.velocity(x, 0.3)
    assert value.requires_grad and not glass.with_constant_weights().velocity(x, 0.3).requires_grad
    one = Glass(flow).given(state=state[2:3], at=0.5).given(label=label[2:3])
    torch.testing.assert_close(one.velocity(x[2:3], 0.3), value[2:3])
    assert glass.path == flow.path and glass.like.dtype == torch.float32
    assert repr(glass) == "Glass(FlowMap, to=0)"


def test_wrong_calls_are_refused():
    law = bed_a().law
    with pytest.raises(ValueError, match="given"):
        Glass(law).velocity(randn(4, 2), 0.5)
    with pytest.raises(ValueError, match="row for each"):
        Glass(law).given(state=randn(3, 2), at=0.5).velocity(randn(4, 2), 0.5)
    with pytest.raises(TypeError, match="velocity"):
        Glass(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="partial"):
        Glass(fm.FlowMap(flow_of(law).network, only_source=1.0))
    with pytest.raises(ValueError, match="to"):
        Glass(law, to=1.5)
    with pytest.raises(ValueError, match="below it"):
        Glass(law, to=0.5).given(state=randn(4, 2), at=torch.tensor([0.6, 0.7, 0.5, 0.9])).velocity(randn(4, 2), 0.5)
