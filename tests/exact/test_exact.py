"""The truths themselves, against autograd, torch.distributions, quadrature and the rearrangement of one dimension."""

import pytest
import torch

import flowmaps as fm
from flowmaps import path as paths
from flowmaps.exact.solve import solve
from tests.oracles import PATHS, density, gaussian, marginal, mixture, quantile, randn, rearrangement, times

ALL = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
BOTH = pytest.mark.parametrize("make", [gaussian, mixture])


def states(exact, n=40):
    """Points where the distribution has mass, with pairs of times in both directions."""
    s, t = times(n)
    return exact.path.interpolate(exact.sample(n).double(), randn(n, *exact.shape), s), s, t


def gradient(function, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


# --- Gaussian ---------------------------------------------------------------------------------------------------------


@ALL
def test_gaussian_velocity_is_the_rate_of_its_flow_map(path):
    g = gaussian(path)
    x, s, _ = states(g)
    for i in range(3):
        rate = gradient(lambda t, i=i: g.flow_map(x, s, t)[:, i], s)
        torch.testing.assert_close(rate, g.velocity(x, s)[:, i])


@ALL
def test_gaussian_flow_map_solves_its_ode(path):
    g = gaussian(path)
    x, s, t = states(g)
    torch.testing.assert_close(g.flow_map(x, s, t), solve(g.velocity, x, s, t, tolerance=1e-10), rtol=1e-9, atol=1e-9)


@ALL
@BOTH
def test_flow_maps_compose_and_invert(path, make):
    exact = make(path)
    x, s, t = states(exact)
    m = torch.rand(len(x), dtype=torch.float64)
    there = exact.flow_map(x, s, t)
    torch.testing.assert_close(exact.flow_map(exact.flow_map(x, s, m), m, t), there, rtol=2e-7, atol=2e-7)
    torch.testing.assert_close(exact.flow_map(there, t, s), x, rtol=2e-7, atol=2e-7)
    torch.testing.assert_close(exact.flow_map(x, s, s), x, rtol=0, atol=0)


@ALL
def test_gaussian_law_is_that_of_torch(path):
    g = gaussian(path)
    x, s, _ = states(g)
    covariance = g.basis @ torch.diag(g.variances) @ g.basis.T
    alpha, sigma = path.alpha(s), path.sigma(s)
    law = torch.distributions.MultivariateNormal(
        alpha[:, None] * g.mean,
        alpha[:, None, None] ** 2 * covariance + sigma[:, None, None] ** 2 * torch.eye(3, dtype=torch.float64),
    )
    torch.testing.assert_close(g.log_prob(x, s), law.log_prob(x))
    # E[x_0 | x_t] = mean + Cov(x_0, x_t) Cov(x_t)^-1 (x_t - E x_t)
    gain = alpha[:, None, None] * covariance @ law.precision_matrix
    expected = g.mean + (gain @ (x - law.mean)[:, :, None])[:, :, 0]
    torch.testing.assert_close(g.denoise(x, s), expected)


@BOTH
@ALL
def test_score_is_the_gradient_of_the_log_density(path, make):
    exact = make(path)
    x, s, _ = states(exact)
    torch.testing.assert_close(exact.score(x, s), gradient(lambda y: exact.log_prob(y, s), x))
    torch.testing.assert_close(exact.score(x, 0.0), gradient(lambda y: exact.log_prob(y, 0.0), x))
    converted = path.convert(exact.denoise(x, s), x, s, paths.data, paths.score)
    torch.testing.assert_close(exact.score(x, s), converted, rtol=1e-7, atol=1e-7)


@BOTH
@ALL
def test_velocity_and_denoiser_are_two_readings_of_one_field(path, make):
    exact = make(path)
    x, s, _ = states(exact)
    converted = path.convert(exact.denoise(x, s), x, s, paths.data, paths.velocity)
    torch.testing.assert_close(exact.velocity(x, s), converted, rtol=1e-8, atol=1e-8)


@BOTH
@ALL
def test_density_follows_the_flow_map(path, make):
    """Change of variables: log p_t(F(x)) + log det grad F = log p_s(x)."""
    exact = make(path)
    x, s, t = states(exact, n=8)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda y, a, b: exact.flow_map(y[None], a[None], b[None])[0]))
    grad = (
        jacobian(x, s, t)
        if make is gaussian
        else torch.stack([gradient(lambda y: exact.flow_map(y, s, t), x)]).permute(1, 0, 2)
    )
    moved = exact.log_prob(exact.flow_map(x, s, t), t) + torch.linalg.slogdet(grad).logabsdet
    torch.testing.assert_close(moved, exact.log_prob(x, s), rtol=1e-6, atol=1e-6)


@BOTH
@ALL
def test_every_field_is_finite_at_the_ends_of_time(path, make):
    exact = make(path)
    x = randn(6, *exact.shape)
    for t in (0.0, 1.0):
        for field in (exact.velocity, exact.denoise, exact.score, exact.log_prob):
            assert field(x, t).isfinite().all()
    torch.testing.assert_close(exact.denoise(x, 0.0), x)
    there = exact.flow_map(x, 1.0, 0.0)
    torch.testing.assert_close(exact.flow_map(there, 0.0, 1.0), x, rtol=1e-6, atol=1e-6)


@BOTH
def test_continuity_equation(make):
    """d p_t/dt + div(p_t v) = 0, all by autograd."""
    exact = make()
    x, s, _ = states(exact, n=10)
    rate = gradient(lambda t: exact.log_prob(x, t), s)
    divergence = sum(gradient(lambda y, i=i: exact.velocity(y, s)[:, i], x)[:, i] for i in range(x.shape[1]))
    transport = (exact.velocity(x, s) * exact.score(x, s)).sum(1)
    torch.testing.assert_close(rate, -divergence - transport)


@BOTH
def test_average_velocity_joins_jumps_and_velocity(make):
    exact = make()
    x, s, t = states(exact)
    torch.testing.assert_close(x + (t - s)[:, None] * exact.average_velocity(x, s, t), exact(x, s, t))
    torch.testing.assert_close(exact.average_velocity(x, s, s), exact.velocity(x, s))
    mixed = torch.where(torch.arange(len(s)) % 2 == 0, s, t)
    rows = exact.average_velocity(x, s, mixed)
    torch.testing.assert_close(rows[::2], exact.velocity(x, s)[::2])
    torch.testing.assert_close(rows[1::2], exact.average_velocity(x, s, t)[1::2], rtol=1e-7, atol=1e-7)


def test_gaussian_average_velocity_has_no_pole():
    """At gaps far below the digits of F it is the velocity at the middle time of the path through x."""
    g = gaussian()
    x, s, _ = states(g)
    middle = g.velocity(g.flow_map(x, s, s + 5e-10), s + 5e-10)
    torch.testing.assert_close(g.average_velocity(x, s, s + 1e-9), middle, rtol=1e-13, atol=1e-13)


def test_gaussian_by_standard_deviations_is_the_diagonal_covariance():
    mean, std = torch.tensor([1.0, 2.0]).double(), torch.tensor([0.5, 3.0]).double()
    a, b = fm.exact.Gaussian(mean, std), fm.exact.Gaussian(mean, covariance=torch.diag(std**2))
    x, s, t = randn(7, 2), *times(7)
    torch.testing.assert_close(a.flow_map(x, s, t), b.flow_map(x, s, t))
    torch.testing.assert_close(a.log_prob(x, s), b.log_prob(x, s))


def test_gaussian_over_images():
    mean = randn(2, 3, 4)
    g = fm.exact.Gaussian(mean, 0.5)
    flat = fm.exact.Gaussian(mean.flatten(), 0.5)
    x = randn(5, 2, 3, 4, seed=1)
    assert g.shape == (2, 3, 4) and g.sample(6).shape == (6, 2, 3, 4)
    torch.testing.assert_close(g.flow_map(x, 0.9, 0.1).flatten(1), flat.flow_map(x.flatten(1), 0.9, 0.1))
    torch.testing.assert_close(g.log_prob(x), flat.log_prob(x.flatten(1)))


def test_gaussian_fit_recovers_moments():
    rows = randn(50, 3) @ randn(3, 3, seed=1) + 2
    g = fm.exact.Gaussian.fit(rows)
    torch.testing.assert_close(g.mean, rows.mean(0))
    torch.testing.assert_close(g.basis @ torch.diag(g.variances) @ g.basis.T, torch.cov(rows.T))
    flat = fm.exact.Gaussian.fit(torch.cat([rows, rows], 1), floor=0.04)
    torch.testing.assert_close(flat.variances.min(), torch.tensor(0.04, dtype=torch.float64))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"mean": [0.0, 0.0], "covariance": torch.eye(3)}, "covariance of shape"),
        ({"mean": [0.0, 0.0], "covariance": torch.tensor([[1.0, 0.5], [0.0, 1.0]])}, "symmetric"),
        ({"mean": [0.0, 0.0], "covariance": torch.tensor([[1.0, 2.0], [2.0, 1.0]])}, "positive definite.*-1"),
        ({"std": 0.0}, "positive, got 0.0"),
    ],
)
def test_gaussian_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        fm.exact.Gaussian(**arguments)


# --- mixture ----------------------------------------------------------------------------------------------------------


@ALL
def test_mixture_law_is_that_of_torch(path):
    m = mixture(path)
    for t in (0.0, 0.3, 0.9):
        x = torch.linspace(-3, 3, 21, dtype=torch.float64)
        torch.testing.assert_close(m.log_prob(x[:, None], t), marginal(m, t).log_prob(x))


@ALL
def test_mixture_denoiser_by_quadrature(path):
    """E[x_0 | x_t] = int x_0 p(x_0) N(x_t; alpha x_0, sigma^2) dx_0 / p(x_t), by the trapezoid rule."""
    m = mixture(path)
    nodes = torch.linspace(-5, 5, 20_001, dtype=torch.float64)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    for t in (0.2, 0.6, 0.95):
        time = torch.tensor(t, dtype=torch.float64)
        kernel = torch.distributions.Normal(path.alpha(time) * nodes, path.sigma(time)).log_prob(x[:, None]).exp()
        weight = kernel * density(m, nodes, 0.0)
        expected = torch.trapezoid(weight * nodes, nodes) / torch.trapezoid(weight, nodes)
        torch.testing.assert_close(m.denoise(x[:, None], t)[:, 0], expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            m.log_prob(x[:, None], t).exp(), torch.trapezoid(weight, nodes), rtol=1e-9, atol=1e-9
        )


@ALL
@pytest.mark.parametrize("s, t", [(1.0, 0.0), (0.0, 1.0), (0.8, 0.3), (0.25, 0.3), (0.6, 0.0)])
def test_mixture_flow_map_is_the_monotone_rearrangement(path, s, t):
    m = mixture(path)
    p = torch.linspace(0.001, 0.999, 101, dtype=torch.float64)
    x = quantile(m, p, s)[:, None]
    error = (m.flow_map(x, s, t) - rearrangement(m, x, s, t)).abs().max()
    assert error < 2e-8 * max(1.0, x.abs().max())


def test_mixture_flow_map_keeps_its_tolerance():
    m = mixture()
    x = randn(100, 1)
    truth = m.flow_map(x, 1.0, 0.0, tolerance=1e-11)
    assert (m.flow_map(x, 1.0, 0.0) - truth).abs().max() < 1e-8
    assert (m.flow_map(x, 1.0, 0.0, tolerance=1e-5) - truth).abs().max() < 1e-5


def test_mixture_posterior_is_bayes():
    m = mixture()
    x, t = randn(9, 1), 0.4
    alpha, sigma = 1 - t, t
    likelihood = torch.distributions.Normal(alpha * m.means[:, 0], (alpha**2 * m.stds**2 + sigma**2).sqrt()).log_prob(x)
    joint = m.weights * likelihood.exp()
    torch.testing.assert_close(m.posterior(x, t), joint / joint.sum(1, keepdim=True))


def test_mixture_of_one_component_is_a_gaussian():
    m = fm.exact.GaussianMixture([1.0], [[0.5, -1.0]], [0.3])
    g = fm.exact.Gaussian([0.5, -1.0], 0.3)
    x, s, t = randn(10, 2), *times(10)
    for name in ("velocity", "denoise", "score", "log_prob"):
        torch.testing.assert_close(getattr(m, name)(x, s), getattr(g, name)(x, s))
    torch.testing.assert_close(m.flow_map(x, s, t), g.flow_map(x, s, t), rtol=1e-8, atol=1e-8)


def test_mixture_over_images():
    means = randn(3, 1, 2, 2)
    m = fm.exact.GaussianMixture([0.2, 0.3, 0.5], means, 0.4)
    flat = fm.exact.GaussianMixture([0.2, 0.3, 0.5], means.flatten(1), 0.4)
    x = randn(5, 1, 2, 2, seed=1)
    assert m.sample(4).shape == (4, 1, 2, 2)
    torch.testing.assert_close(m.velocity(x, 0.6).flatten(1), flat.velocity(x.flatten(1), 0.6))


def test_mixture_component_of_no_weight_counts_for_nothing():
    m = fm.exact.GaussianMixture([0.0, 1.0], [5.0, 0.0], 1.0)
    x = randn(5, 1)
    torch.testing.assert_close(m.velocity(x, 0.5), fm.exact.Gaussian(0.0, 1.0).velocity(x, 0.5))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([0.5, 0.6], [0.0, 1.0], 1.0), "sum to 1"),
        (([-0.5, 1.5], [0.0, 1.0], 1.0), "not negative"),
        (([0.5, 0.5], [0.0, 1.0, 2.0], 1.0), "3 means needs 3 weights"),
        (([0.5, 0.5], [0.0, 1.0], [1.0, 0.0]), "stds must be positive"),
        (([0.5, 0.5], [0.0, 1.0], [1.0, 1.0, 1.0]), "one number or 2"),
    ],
)
def test_mixture_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        fm.exact.GaussianMixture(*arguments)


# --- both -------------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)])
def test_results_have_the_dtype_of_x_and_its_digits(make, dtype, tolerance):
    exact = make()
    x, s, t = states(exact)
    low = x.to(dtype)
    for name in ("velocity", "denoise", "log_prob"):
        found, truth = getattr(exact, name)(low, s), getattr(exact, name)(low.double(), s)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), truth, rtol=tolerance, atol=tolerance)
    assert exact.score(low, s).dtype == exact.average_velocity(low, s, t).dtype == dtype
    torch.testing.assert_close(
        exact.flow_map(low, s, t).double(), exact.flow_map(low.double(), s, t), rtol=tolerance, atol=tolerance
    )


@BOTH
def test_samples_have_the_moments_of_the_law(make):
    """20 000 draws; a standard error is std/141 for the mean, about std^2/100 for the variance. Four are allowed."""
    exact, n = make(), 20_000
    x = exact.sample(n, torch.Generator().manual_seed(1))
    if make is gaussian:
        mean, covariance = exact.mean, exact.basis @ torch.diag(exact.variances) @ exact.basis.T
    else:
        law = marginal(exact, 0.0)
        mean, covariance = law.mean[None], law.variance[None, None]
    std = covariance.diagonal().sqrt()
    assert ((x.mean(0) - mean).abs() < 4 * std / n**0.5).all()
    fourth = ((x - mean) ** 4).mean(0) / std**4  # of the heaviest tails, for the standard error of a variance
    allowed = 4 * std[:, None] * std * ((fourth.max() - 1) / n) ** 0.5
    assert ((torch.cov(x.T) - covariance).abs() < allowed).all()


@BOTH
def test_samples_are_a_function_of_the_generator(make):
    exact = make()
    draws = [exact.sample(5, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


@BOTH
def test_states_of_another_shape_or_kind_are_refused(make):
    exact = make()
    for x in (randn(3, 7), torch.zeros(3, *exact.shape, dtype=torch.int64)):
        with pytest.raises(ValueError, match="takes floating-point x of shape"):
            exact.velocity(x, 0.5)


def test_parameters_may_be_whole_numbers():
    g = fm.exact.Gaussian(torch.tensor([0, 2]), 1)
    assert g.mean.dtype == torch.float64 and g.sample(3).shape == (3, 2)
    m = fm.exact.GaussianMixture([0.5, 0.5], torch.tensor([[0, 0], [3, 3]]), 1)
    assert m.sample(3).dtype == torch.float64


def test_a_number_alone_means_one_coordinate():
    assert fm.exact.Gaussian(0.0, 1.0).shape == (1,)
    assert fm.exact.Gaussian(0.0, torch.ones(4)).shape == (4,)
    assert fm.exact.Gaussian(covariance=torch.eye(2)).shape == (2,)


# --- solve ------------------------------------------------------------------------------------------------------------


def test_solve_takes_each_row_from_its_own_time_to_its_own():
    """dx/dt = cos(t) x has x(t) = x exp(sin t - sin s)."""
    x, s, t = randn(30, 2), *times(30)
    found = solve(lambda y, u: torch.cos(u) * y, x, s, t, tolerance=1e-9)
    torch.testing.assert_close(found, x * (t.sin() - s.sin()).exp()[:, None], rtol=1e-9, atol=1e-9)


def test_solve_is_differentiable_in_the_start():
    x = randn(5, 2).requires_grad_()
    (grad,) = torch.autograd.grad(solve(lambda y, u: -2 * y, x, 0.0, 1.0).sum(), x)
    torch.testing.assert_close(grad, torch.full_like(grad, torch.tensor(-2.0).exp().item()), rtol=1e-8, atol=1e-8)


def test_solve_says_where_a_field_is_singular():
    with pytest.raises(RuntimeError, match="at fraction 0.5000.*singular"):
        solve(lambda y, u: torch.where(u <= 0.50001, y, torch.nan), torch.ones(1, 1), 0.0, 1.0)
