"""Paths: divided differences, conversions between predictions, re-noising and the ancestral kernel."""

import itertools

import numpy as np
import pytest
import torch

from flowmaps import derivative as derivatives
from flowmaps import path as paths
from flowmaps.serialise import build, describe
from tests.in_one import in_one
from tests.oracles import PATHS, randn

STEPS = {
    "discrete": paths.Discrete(np.cumprod(1 - np.linspace(0.02, 0.6, 13) ** 1.5)),
    "zero_snr": paths.Discrete((0.98, 0.83, 0.52, 0.31, 0.12, 0.05, 0.0)),
}
ALL = pytest.mark.parametrize("path", (PATHS | STEPS).values(), ids=PATHS | STEPS)
FORMS = {
    "data": paths.data,
    "noise": paths.noise,
    "velocity": paths.velocity,
    "score": paths.score,
    "v_prediction": paths.v_prediction,
}


def derivative(function, t):
    t = t.clone().requires_grad_()
    return torch.autograd.grad(function(t).sum() + 0 * t.sum(), t)[0]


def on_graph(function, u):
    """f'(u), which can be differentiated again."""
    return torch.autograd.grad(function(u).sum() + 0 * u.sum(), u, create_graph=True)[0] + 0 * u


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


@ALL
def test_slopes_at_equal_times_are_the_derivatives(path):
    t = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    for value, slope in ((path.alpha, path.alpha_slope), (path.sigma, path.sigma_slope)):
        torch.testing.assert_close(slope(t, t), derivative(value, t), rtol=1e-12, atol=1e-12)
    square = derivative(lambda u: path.sigma(u) ** 2, t)
    torch.testing.assert_close(path.variance_slope(t, t), square, rtol=1e-12, atol=1e-12)


@ALL
def test_slopes_elsewhere_are_quotients_of_differences(path):
    s, t = torch.rand(2, 200, dtype=torch.float64)
    for value, slope in (
        (path.alpha, path.alpha_slope),
        (path.sigma, path.sigma_slope),
        (lambda u: path.sigma(u) ** 2, path.variance_slope),
    ):
        torch.testing.assert_close(slope(s, t) * (t - s), value(t) - value(s), rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(slope(s, t), slope(t, s), rtol=1e-12, atol=1e-12)


@ALL
@pytest.mark.parametrize("gap", [1e-4, 1e-6, 1e-10, 1e-15])
def test_slopes_keep_their_digits_at_tiny_gaps(path, gap):
    """The quotient itself would lose log10(1/gap) digits; the Taylor expansion around the middle loses none."""
    s = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    middle = s + gap / 2
    for value, slope in ((path.alpha, path.alpha_slope), (path.sigma, path.sigma_slope)):
        third = derivative(lambda u, f=value: on_graph(lambda w: on_graph(f, w), u), middle)
        expected = derivative(value, middle) + third * gap**2 / 24
        torch.testing.assert_close(slope(s, s + gap), expected, rtol=2e-12, atol=2e-12)


@ALL
def test_slopes_can_be_differentiated_at_equal_times(path):
    """d/dt of the divided difference at t = s is half the second derivative."""
    s = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    for value, slope in ((path.alpha, path.alpha_slope), (path.sigma, path.sigma_slope)):
        half = derivative(lambda u, f=value: on_graph(f, u), s) / 2
        torch.testing.assert_close(derivative(lambda u, f=slope: f(s, u), s), half, rtol=1e-9, atol=1e-9)


@ALL
def test_ends_of_the_path(path):
    zero, one = column(0.0), column(1.0)
    assert path.alpha(zero) == 1 and path.sigma(zero) == 0
    assert path.alpha(one) < 0.25 or path == PATHS["exploding"]
    assert path.variance_slope(zero, zero).isfinite() and path.variance_slope(one, one).isfinite()


@ALL
@in_one("source, target", itertools.product(FORMS, FORMS))
def test_conversions_between_all_pairs(path, source, target):
    x0, eps, t = randn(20, 3), randn(20, 3, seed=1), torch.linspace(0.05, 0.95, 20, dtype=torch.float64)[:, None]
    sigma = path.sigma(t)
    truth = {"data": x0, "noise": eps, "velocity": path.velocity(x0, eps, t), "score": -eps / sigma}
    truth["v_prediction"] = path.alpha(t) * eps - sigma * x0
    x = path.interpolate(x0, eps, t)
    found = path.convert(truth[source], x, t, FORMS[source], FORMS[target])
    torch.testing.assert_close(found, truth[target], rtol=1e-9, atol=1e-9)


def test_conversions_on_the_linear_path_by_hand():
    x, v = randn(4, 2), randn(4, 2, seed=1)
    for t in (0.0, 0.3, 1.0):
        torch.testing.assert_close(paths.linear.convert(v, x, t, paths.velocity, paths.data), x - t * v)
        torch.testing.assert_close(paths.linear.convert(v, x, t, paths.velocity, paths.noise), x + (1 - t) * v)


def test_conditional_velocity_of_the_linear_path():
    x0, eps = randn(5, 2), randn(5, 2, seed=1)
    torch.testing.assert_close(paths.linear.velocity(x0, eps, 0.4), eps - x0)


def affine(function, *inputs):
    """The coefficients of a function that is linear in each of its scalar inputs."""
    units = []
    for i in range(len(inputs)):
        ones = [torch.ones_like(x) if j == i else torch.zeros_like(x) for j, x in enumerate(inputs)]
        units.append(function(*ones))
    return units


@ALL
def test_renoised_states_have_the_marginal_of_the_later_time(path):
    """x_t = alpha_t x_0 + sigma_t eps, re-noised to s, has the moments (alpha_s, sigma_s^2) given x_0."""
    t, s = column(0.0, 0.1, 0.5, 0.7, 1.0), column(0.3, 0.9, 0.6, 0.7, 1.0)
    on_x, on_noise = affine(
        lambda x, z: path.renoise(x, t, s, z), torch.zeros(5, 1).double(), torch.zeros(5, 1).double()
    )
    torch.testing.assert_close(on_x * path.alpha(t), path.alpha(s), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close((on_x * path.sigma(t)) ** 2 + on_noise**2, path.sigma(s) ** 2, atol=1e-12, rtol=1e-12)


@ALL
def test_renoising_twice_is_renoising_once(path):
    """The kernels are a semigroup: ratios multiply and variances add up."""
    t, m, s = column(0.0, 0.1, 0.5), column(0.2, 0.3, 0.6), column(0.4, 0.95, 1.0)
    zero, one = torch.zeros(3, 1).double(), torch.ones(3, 1).double()
    twice_x = path.renoise(path.renoise(one, t, m, zero), m, s, zero)
    first = path.renoise(path.renoise(zero, t, m, one), m, s, zero)
    second = path.renoise(zero, m, s, one)
    torch.testing.assert_close(twice_x, path.renoise(one, t, s, zero))
    torch.testing.assert_close(first**2 + second**2, path.renoise(zero, t, s, one) ** 2)


@ALL
def test_posterior_after_renoising_gives_back_the_joint_law(path):
    """Given x_0, (x_t, x_s) has the covariance of the forward process; posterior(x_s) must reproduce all of it."""
    t, s = column(0.0, 0.1, 0.5, 0.7), column(0.3, 0.9, 0.6, 1.0)
    zero, one = torch.zeros(4, 1).double(), torch.ones(4, 1).double()
    on_state, on_data = path.posterior(one, zero, s, t)[0], path.posterior(zero, one, s, t)[0]
    std = path.posterior(zero, zero, s, t)[1]
    alpha_t, alpha_s, var_t, var_s = path.alpha(t), path.alpha(s), path.sigma(t) ** 2, path.sigma(s) ** 2
    torch.testing.assert_close(on_state * alpha_s + on_data, alpha_t)  # the mean of x_t given x_0
    torch.testing.assert_close(on_state**2 * var_s + std**2, var_t)  # its variance
    torch.testing.assert_close(on_state * var_s, alpha_s / alpha_t * var_t)  # its covariance with x_s


@ALL
def test_kernels_of_no_time_leave_the_state(path):
    x, noise = randn(3, 2), randn(3, 2, seed=1)
    for t in (0.4, 1.0):
        torch.testing.assert_close(path.renoise(x, t, t, noise), x)
        mean, std = path.posterior(x, noise, t, t)
        torch.testing.assert_close(mean, x)
        assert (std == 0).all()


def test_posterior_at_data_is_the_data():
    x, x0 = randn(3, 2), randn(3, 2, seed=1)
    mean, std = paths.linear.posterior(x, x0, 0.7, 0.0)
    torch.testing.assert_close(mean, x0)
    assert (std == 0).all()


@pytest.mark.parametrize(
    "t", [0.3, np.float64(0.3), torch.tensor(0.3, dtype=torch.float64), [0.3] * 5, np.full(5, 0.3)], ids=type
)
def test_times_may_be_given_as_anything_that_fits(t):
    x = randn(5, 2, 4)
    found = paths.expand(t, x)
    assert found.shape == (5, 1, 1) and found.dtype == torch.float64
    assert (found == 0.3).all()


def test_times_keep_float32_beside_half_precision_and_follow_x_elsewhere():
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64,) * 2):
        assert paths.expand(torch.tensor([0, 1]), torch.zeros(2, 3, dtype=dtype)).dtype == expected


def test_times_that_do_not_fit_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(5,\) or \(5, 1\) beside x of shape \(5, 3\), got \(4,\)"):
        paths.expand(torch.zeros(4), torch.zeros(5, 3))


@ALL
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_states_and_velocities_have_the_dtype_of_the_data(path, dtype):
    x0, eps = randn(4, 2).to(dtype), randn(4, 2, seed=1).to(dtype)
    assert path.interpolate(x0, eps, 0.5).dtype == path.velocity(x0, eps, 0.5).dtype == dtype
    assert path.renoise(x0, 0.2, 0.5, eps).dtype == path.posterior(x0, eps, 0.5, 0.2)[0].dtype == dtype


@ALL
def test_the_time_of_a_noise_level_is_the_inverse_of_the_path(path):
    t = torch.linspace(0, 1, 201, dtype=torch.float64)
    torch.testing.assert_close(path.time_of(7 * path.alpha(t), 7 * path.sigma(t)), t, rtol=1e-12, atol=1e-12)


@ALL
def test_the_time_of_pure_noise_is_the_end_or_past_it(path):
    assert path.time_of(column(0.0), column(1.0)).item() >= 1 and path.time_of(column(1.0), column(0.0)) == 0


@ALL
@pytest.mark.parametrize("engine", [derivatives.jvp, derivatives.functorch])
def test_paths_and_their_inverses_pass_through_both_engines(path, engine):
    """d(time)/dt = 1, and the slope at equal times is what the engine finds along the path."""
    t = torch.linspace(0.03, 0.97, 12, dtype=torch.float64)

    def there_and_back(t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        return path.time_of(alpha, sigma), alpha, path.sigma_slope(t, t)

    (back, _, slope), (rate, alpha_rate, bend) = engine(there_and_back, (t,), (1,))
    torch.testing.assert_close(back, t)
    torch.testing.assert_close(rate, torch.ones_like(t))
    torch.testing.assert_close(alpha_rate, path.alpha_slope(t, t))
    torch.testing.assert_close(bend, on_graph(lambda u: path.sigma_slope(u, u), t.clone().requires_grad_()))
    assert slope.isfinite().all()


@pytest.mark.parametrize("path", STEPS.values(), ids=STEPS)
def test_the_steps_of_ddpm_lie_at_their_times(path):
    steps = len(path.alphas_cumprod)
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    expected = torch.tensor(path.alphas_cumprod, dtype=torch.float64)
    torch.testing.assert_close(path.alpha(t) ** 2, expected, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(path.sigma(t) ** 2, 1 - expected, rtol=1e-14, atol=1e-14)
    middle = (t[:-2] + t[1:-1]) / 2
    ratio = path.sigma(t) / path.alpha(t)
    torch.testing.assert_close(path.sigma(middle) / path.alpha(middle), (ratio[:-2] * ratio[1:-1]).sqrt())


@pytest.mark.parametrize("path", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9])
def test_slopes_across_a_step_are_the_mean_of_the_rates_on_both_sides(path, gap):
    knot = torch.arange(1, len(path.alphas_cumprod), dtype=torch.float64) / len(path.alphas_cumprod)
    low, high = knot - gap, knot + 3 * gap
    for slope in (path.alpha_slope, path.sigma_slope):
        parts = slope(low, knot) * (knot - low) + slope(knot, high) * (high - knot)
        torch.testing.assert_close(slope(low, high), parts / (high - low), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "bad", [(0.9, 0.5), (0.9, 0.9, 0.1), (1.0, 0.5, 0.1), (0.9, 0.1, -0.1), (0.9, float("nan"), 0)]
)
def test_what_is_no_schedule_of_steps_is_refused(bad):
    with pytest.raises(ValueError, match="fall from each to the next"):
        paths.Discrete(bad)


def test_steps_are_values():
    path = STEPS["zero_snr"]
    assert build(describe(path)) == path and hash(path) == hash(paths.Discrete(path.alphas_cumprod))
    assert repr(path) == "Discrete(7 steps, 0.98 to 0)"
    t = torch.linspace(0, 1, 9)
    assert path.alpha(t).dtype == torch.float32
    torch.testing.assert_close(path.alpha(t), path.alpha(t.double()).float(), rtol=1e-6, atol=1e-6)
