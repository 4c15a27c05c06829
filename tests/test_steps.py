"""Steps: orders of accuracy, exact marginals with exact maps, moments by their own recursion."""

import sys

import pytest
import torch

import flowmaps as fm
from flowmaps import steps
from tests.oracles import PATHS, Jumps, cdf, gaussian, mixture, quantile, randn

ALL = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
SOLVED = [PATHS["linear"], PATHS["trigonometric"], PATHS["exploding"]]


def solve(step, n, exact, x, start=1.0, end=0.1):
    times = torch.linspace(start, end, n + 1).tolist()
    return fm.sample(exact, x, times=times, step=step)


@pytest.mark.parametrize("path", SOLVED, ids=["linear", "trigonometric", "exploding"])
@pytest.mark.parametrize("step, order", [(steps.euler, 1), (steps.heun, 2)])
@pytest.mark.parametrize("make", [gaussian, mixture])
def test_errors_of_a_solve_fall_at_their_order(path, step, order, make):
    exact = make(path)
    x = exact.path.sigma(torch.ones(())) * randn(8, *exact.shape)
    truth = exact.flow_map(x, 1.0, 0.1)
    errors = [(solve(step, n, exact, x) - truth).abs().mean() for n in (64, 128, 256)]
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert torch.log2(coarse / fine) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("make", [gaussian, mixture])
@pytest.mark.parametrize("s, t", [(1.0, 0.0), (0.0, 1.0), (0.7, 0.2)])
def test_ode_is_the_flow_map_to_its_tolerance(make, s, t):
    exact, x = make(), randn(8, *make().shape)
    found = steps.ode(rtol=1e-9, atol=1e-9)(exact, x, s, t)
    torch.testing.assert_close(found, exact.flow_map(x, s, t), rtol=1e-6, atol=1e-6)


def test_ode_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(ImportError, match=r"pip install .\.\[ode\]."):
        steps.ode()


@ALL
def test_ddim_is_euler_on_the_linear_path_and_exact_for_a_point(path):
    """Level 0 keeps the noise: for data in one point it is the flow map, whatever the step."""
    point = fm.exact.Gaussian([1.0, -2.0], 1e-9, path=path)
    x = path.interpolate(point.mean.expand(6, 2), randn(6, 2), 0.9)
    torch.testing.assert_close(steps.sde(0.0)(point, x, 0.9, 0.3), point.flow_map(x, 0.9, 0.3), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("g", [0.0, 0.6, 1.0])
def test_gamma_jumps_below_and_renoises_by_what_it_says(g):
    """To t sqrt(1 - g^2), once."""
    seen = []

    class Map:
        path = PATHS["linear"]

        def __call__(self, x, s, t):
            seen.append((s, t))
            return x

    steps.gamma(g)(Map(), randn(2, 3), 0.9, 0.5)
    assert seen == [(0.9, pytest.approx(0.5 * (1 - g**2) ** 0.5))]


def test_level_zero_is_euler_on_the_linear_path():
    g, x = gaussian(), randn(6, 3)
    for s, t in ((1.0, 0.7), (0.7, 0.1), (0.2, 0.0)):
        torch.testing.assert_close(steps.sde(0.0)(g, x, s, t), steps.euler(g, x, s, t))


@ALL
@pytest.mark.parametrize("s, t", [(1.0, 0.6), (0.8, 0.3), (0.3, 0.0)])
def test_level_one_is_ancestral_number_for_number(path, s, t):
    g, x = gaussian(path), randn(6, 3)
    torch.manual_seed(4)
    first = steps.ancestral(g, x, s, t)
    torch.manual_seed(4)
    torch.testing.assert_close(steps.sde(1.0)(g, x, s, t), first)


@ALL
def test_ancestral_steps_sample_the_posterior_of_the_denoised_state(path):
    """Mean and standard deviation of 100 000 draws: four standard errors."""
    g, n = fm.exact.Gaussian(0.5, 0.8, path=path), 100_000
    x = torch.full((n, 1), 0.7, dtype=torch.float64)
    y = steps.ancestral(g, x, 0.8, 0.4)
    mean, std = (value[0] for value in path.posterior(x, g.denoise(x, 0.8), 0.8, 0.4))
    assert (y.mean() - mean).abs() < 4 * std / n**0.5
    assert (y.std() - std).abs() < 4 * std / (2 * n) ** 0.5


def moments(step, exact, times, monkeypatch, mean=None, variance=None):
    """Mean and variance after steps that are affine in the state and in one normal draw, of a one-dimensional Gaussian:

    x_t = a x_s + b + c z  has mean a m + b and variance a^2 V + c^2. The coefficients are read off the step itself.
    """
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    m, V = law(exact, times[0])
    for s, t in zip(times, times[1:], strict=False):
        monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
        b = step(exact, zero, s, t)
        a = step(exact, one, s, t) - b
        monkeypatch.setattr(torch, "randn_like", torch.ones_like)
        c = step(exact, zero, s, t) - b
        m, V = a * m + b, a**2 * V + c**2
    return m.item(), V.item()


def law(exact, t):
    """Mean and variance of x_t."""
    t = torch.tensor([[t]], dtype=torch.float64)
    alpha, sigma = exact.path.alpha(t), exact.path.sigma(t)
    return alpha * exact.mean, alpha**2 * exact.variances + sigma**2


@ALL
@pytest.mark.parametrize("step", [steps.jump, steps.restart, steps.gamma(0.0), steps.gamma(0.4), steps.gamma(1.0)])
@pytest.mark.parametrize("times", [[1.0, 0.0], [1.0, 0.5, 0.0], [1.0, 0.8, 0.5, 0.3, 0.1, 0.0], [0.9, 0.4]])
def test_exact_maps_reproduce_marginals_exactly(path, step, times, monkeypatch):
    g = fm.exact.Gaussian(0.7, 0.6, path=path)
    mean, variance = (value.item() for value in law(g, times[-1]))
    found = moments(step, g, times, monkeypatch)
    assert found == (pytest.approx(mean, abs=1e-10), pytest.approx(variance, rel=1e-10))


@pytest.mark.slow
@ALL
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("end", [0.5, 0.1])
def test_stochastic_sampling_has_the_marginals_of_the_ode(path, level, end, monkeypatch):
    """At every level, also at intermediate times, up to an error that falls like 1/steps."""
    g = fm.exact.Gaussian(0.7, 0.6, path=path)
    mean, variance = (value.item() for value in law(g, end))
    errors = []
    for n in (100, 200):
        times = torch.linspace(0.95, end, n + 1, dtype=torch.float64).tolist()
        m, V = moments(steps.sde(level), g, times, monkeypatch)
        errors.append(max(abs(m - mean), abs(V / variance - 1)))
    assert errors[1] < 0.04 and errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_jumps_of_the_exact_map_carry_quantiles_to_quantiles(count):
    """Of a mixture, deterministically: the p-quantile of the noise becomes the p-quantile of the data."""
    m, p = mixture(), torch.linspace(0.002, 0.998, 101, dtype=torch.float64)
    found = fm.sample(m, quantile(m, p, 1.0)[:, None], count)[:, 0]
    assert (found - quantile(m, p, 0.0)).abs().max() < 1e-6


@pytest.mark.parametrize("step", [steps.restart, steps.gamma(0.5)], ids=["restart", "gamma"])
@pytest.mark.parametrize("count", [2, 5])
def test_random_steps_of_the_exact_map_reproduce_a_mixture(step, count):
    """Kolmogorov's distance to the true law: sqrt(n) D exceeds 1.95 in one case of a thousand."""
    m, n = mixture(), 2000
    x = fm.sample(m, randn(n, 1, seed=count), count, step=step, seed=5)
    assert kolmogorov(m, x) < 1.95 / n**0.5


def test_ancestral_sampling_reproduces_a_mixture():
    """The same statistic; the bias of 200 steps is below its resolution."""
    m, n = mixture(), 2000
    x = fm.sample(m, randn(n, 1, seed=9), 200, step=steps.ancestral, seed=6)
    assert kolmogorov(m, x) < 1.95 / n**0.5
    wrong = fm.sample(m, 1.4 * randn(n, 1, seed=9), 200, step=steps.euler)
    assert kolmogorov(m, wrong) > 1.95 / n**0.5  # which the statistic can tell from a wrong one


def kolmogorov(m, x):
    p = cdf(m, x[:, 0].sort().values, 0.0)
    grid = torch.arange(len(x) + 1, dtype=torch.float64) / len(x)
    return torch.maximum(grid[1:] - p, p - grid[:-1]).max()


KERNELS = {
    "ancestral": steps.ancestral, "ddim": steps.sde(0.0), "sde": steps.sde(0.7), "restart": steps.restart,
    "gamma": steps.gamma(0.4), "jump": steps.gamma(0.0),
}  # fmt: skip


@ALL
@pytest.mark.parametrize("step", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("s, t", [(1.0, 0.6), (0.7, 0.2), (0.3, 0.0), (0.4, 0.4)])
def test_a_kernel_draws_from_its_moments(path, step, s, t):
    """Number for number, with one network call for the two."""
    g, x = gaussian(path), randn(6, 3)
    torch.manual_seed(3)
    drawn = step(g, x, s, t)
    torch.manual_seed(3)
    mean, std = step.moments(g, x, s, t)
    assert mean.shape == x.shape and std.shape == (6, 1)
    torch.testing.assert_close(drawn, mean + std * torch.randn_like(x), rtol=1e-12, atol=1e-12)
    if t == 0 or step in (KERNELS["ddim"], KERNELS["jump"]):
        assert not std.any()


@ALL
def test_kernels_draw_the_numbers_that_they_drew_before_they_had_moments(path):
    """Bit for bit, by the formulas of the last version."""
    g, x, s, t, (a, b) = gaussian(path), randn(6, 3).float(), 0.7, 0.2, (torch.full((6, 1), u) for u in (0.7, 0.2))
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
    x0, below = g.denoise(x, s), t * (1 - 0.4**2) ** 0.5
    mean, std = path.posterior(x, x0, s, t)
    eps = (x - path.alpha(a) * x0) / path.sigma(a)
    r = (path.sigma(b) * path.alpha(a) / (path.sigma(a) * path.alpha(b))).clamp(min=0) ** 0.7
    noise = r * eps + (1 - r**2).clamp(min=0).sqrt() * z
    before = {
        "ancestral": mean + std * z, "sde": path.alpha(b) * x0 + path.sigma(b) * noise,
        "restart": path.renoise(g(x, s, 0.0), 0.0, t, z), "gamma": path.renoise(g(x, s, below), below, t, z),
    }  # fmt: skip
    for name, expected in before.items():
        torch.manual_seed(3)
        assert torch.equal(KERNELS[name](g, x, s, t), expected), name


@pytest.mark.parametrize("step", [steps.ancestral, steps.sde(), steps.restart, steps.gamma(0.3)])
def test_random_steps_go_down_only(step):
    with pytest.raises(ValueError, match="s >= t, but it was asked to go from 0.2 to 0.9"):
        step(gaussian(), randn(2, 3), 0.2, 0.9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_without_data_starts_afresh_at_every_level(dtype):
    """cos(pi/2) rounds to less than 0, of which a broken power is no number."""
    g = fm.exact.Gaussian(torch.tensor(0.7, dtype=dtype), 0.6, path=PATHS["trigonometric"])
    x = steps.sde(0.5)(g, torch.ones(5, 1, dtype=dtype), 1.0, 0.5)
    assert x.isfinite().all() and x.unique().numel() == 5


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="level must be at least 0, got -1"):
        steps.sde(-1)
    for g in (-0.1, 1.5):
        with pytest.raises(ValueError, match=r"\[0, 1\], got"):
            steps.gamma(g)


@pytest.mark.parametrize(
    "step, calls",
    [(steps.jump, 1), (steps.euler, 1), (steps.heun, 2), (steps.ancestral, 1), (steps.sde(), 1), (steps.restart, 1)],
)
def test_network_calls(step, calls):
    count = []

    class Network(torch.nn.Module):
        def forward(self, x, s, t):
            count.append(1)
            return 0 * x

    step(fm.FlowMap(Network()), randn(2, 3), 0.8, 0.4)
    assert len(count) == calls


@pytest.mark.parametrize(
    "step", [steps.jump, steps.heun, steps.ancestral, steps.sde(0.7), steps.restart, steps.gamma(0.3)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_keep_their_dtype(step, dtype):
    assert step(gaussian(), randn(2, 3).to(dtype), 0.8, 0.4).dtype == dtype


@ALL
@pytest.mark.parametrize("time", [1.0, 0.4, 0.0])
def test_a_step_to_where_it_is_stays_there(path, time):
    x = randn(4, *gaussian(path).shape)
    assert torch.equal(steps.sde(0.7)(gaussian(path), x, time, time), x)


def partial_map(exact, **only):
    """An exact map that only knows one end of time."""
    return fm.FlowMap(Jumps(exact), path=exact.path, **only)


VELOCITY_STEPS = [steps.euler, steps.heun, steps.ode(), steps.ancestral, steps.sde(0.0), steps.sde(1.0)]


@ALL
def test_a_map_to_data_alone_jumps_once_and_restarts(path):
    """Number for number what the whole map does, as re-noising asks for nothing but jumps to t = 0."""
    whole = gaussian(path)
    part, x = partial_map(whole, only_target=0.0), path.sigma(torch.ones(())) * randn(6, 3)
    torch.testing.assert_close(fm.sample(part, x), whole.flow_map(x, 1.0, 0.0))
    for step in (steps.restart, steps.gamma(1.0)):
        found, truth = (fm.sample(flow, x, 3, step=step, seed=2) for flow in (part, whole))
        torch.testing.assert_close(found, truth)


@pytest.mark.parametrize("step", [*VELOCITY_STEPS, steps.gamma(0.5), steps.jump])
def test_a_map_to_data_alone_refuses_other_steps(step):
    with pytest.raises(ValueError, match="it only knows the target time 0.*pass step=steps.restart"):
        fm.sample(partial_map(gaussian(), only_target=0.0), randn(2, 3), 2, step=step)


def test_a_map_from_noise_alone_makes_one_jump_anywhere():
    whole, x = gaussian(), randn(6, 3)
    part = partial_map(whole, only_source=1.0)
    torch.testing.assert_close(fm.sample(part, x), whole.flow_map(x, 1.0, 0.0))
    torch.testing.assert_close(fm.sample(part, x, times=[1.0, 0.4]), whole.flow_map(x, 1.0, 0.4))


def test_the_default_step_samples_every_map():
    """With the result of the exact map, and in as many steps as the map takes."""
    whole, x = gaussian(), randn(6, 3)
    unknown = fm.FlowMap(lambda x, s, t: x)
    to_data, from_noise = (partial_map(whole, **only) for only in ({"only_target": 0.0}, {"only_source": 1.0}))
    assert [steps.default(flow, 1) for flow in (whole, unknown, to_data, from_noise)] == 4 * [steps.jump]
    assert steps.default(unknown, 4) is steps.default(whole, 4) is steps.jump
    found = fm.sample(to_data, x, 4, step=steps.default(to_data, 4), seed=1)
    torch.testing.assert_close(found, fm.sample(whole, x, 4, step=steps.restart, seed=1))
    assert not torch.allclose(found, fm.sample(whole, x, 4))
    with pytest.raises(ValueError, match="only knows the source time 1.*single step"):
        steps.default(from_noise, 2)
    with pytest.raises(ValueError, match="only knows the target time 0.3"):
        steps.default(partial_map(whole, only_target=0.3), 1)


@pytest.mark.parametrize("step", [*VELOCITY_STEPS, steps.restart, steps.gamma(0.5), steps.jump])
def test_a_map_from_noise_alone_refuses_a_second_step(step):
    with pytest.raises(ValueError, match="it only knows the source time 1.*it samples in a single step, steps=1"):
        fm.sample(partial_map(gaussian(), only_source=1.0), randn(2, 3), 2, step=step)


@pytest.mark.parametrize("step", VELOCITY_STEPS)
@pytest.mark.parametrize("only", [{"only_source": 1.0}, {"only_target": 0.0}])
def test_partial_maps_have_no_velocity_to_follow_in_one_step_either(step, only):
    with pytest.raises(ValueError, match="follows the velocity, and a partial flow map has none"):
        fm.sample(partial_map(gaussian(), **only), randn(2, 3), step=step)


@pytest.mark.parametrize("only", [{"only_source": 1.0}, {"only_target": 0.0}])
def test_partial_maps_do_not_go_back_to_noise(only):
    with pytest.raises(ValueError, match="this is a partial flow map"):
        fm.invert(partial_map(gaussian(), **only), randn(2, 3))


def test_refusals_do_not_wait_for_a_network():
    """They read numbers, so they hold where a FlowMap does not look at the values of its times."""

    class Map:
        only_source, only_target, path = None, 0.0, PATHS["linear"]

        def __call__(self, x, s, t):
            return x

    with pytest.raises(ValueError, match="asked for 0.5"):
        steps.jump(Map(), randn(2, 3), 1.0, 0.5)


def test_a_rule_may_step_by_rows_of_times():
    """As a rule does with a partial map in training: a time for each row."""
    whole, x, s = gaussian(), randn(3, 3), torch.tensor([[0.2], [0.5], [1.0]], dtype=torch.float64)
    part = partial_map(whole, only_target=0.0)
    torch.testing.assert_close(steps.jump(part, x, s, 0.0 * s), whole.flow_map(x, s, 0.0))
    with pytest.raises(ValueError, match="only knows the target time 0"):
        steps.jump(part, x, s, s / 2)
