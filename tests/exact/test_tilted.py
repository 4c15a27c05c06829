"""Tilted mixtures, full covariances and posteriors of the data, against quadrature and torch.distributions."""

import pytest
import torch

import flowmaps as fm
from flowmaps import path as paths
from flowmaps.exact import Quadratic
from tests.beds import BEDS, Polynomial, grid, linear
from tests.oracles import PATHS, randn

ALL = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
TILTED = pytest.mark.parametrize("name", ["A", "C", "D", "E", "G"])


def full(path=paths.linear):
    """Three components in two dimensions, each with its own covariance."""
    roots = torch.tensor([[[0.5, 0.0], [0.3, 0.2]], [[0.3, 0.1], [-0.4, 0.6]], [[0.7, 0.0], [0.0, 0.2]]]).double()
    means = [[-1.0, 0.5], [1.2, 1.0], [0.3, -1.4]]
    return fm.exact.GaussianMixture([0.5, 0.3, 0.2], means, covariances=roots @ roots.mT, path=path)


def conditional(law, reward, x, t, points):
    """Logarithm of p(x0) e^{r(x0)} N(x; alpha x0, sigma^2 I) on the points, (B, N)."""
    points, log_p = points
    t = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = law.path.alpha(t), law.path.sigma(t)
    return log_p + reward(points) + torch.distributions.Normal(alpha * points, sigma).log_prob(x[:, None]).sum(2)


# --- the beds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BEDS)
def test_the_numbers_of_a_bed_are_those_of_quadrature(name):
    bed = BEDS[name]()
    points, log_p = grid(bed.law)
    reward = bed.reward(points)
    log_z = (log_p + reward).logsumexp(0)
    weight = (log_p + reward - log_z).exp()
    mean = {
        "log_z": log_z,
        "reward": weight @ reward,
        "prior_reward": log_p.exp() @ reward,
        "kl": weight @ (reward - log_z),
        "ess": 1 / (log_p + 2 * (reward - log_z)).exp().sum(),
        "right": weight @ (points[:, 0] > 0).double() + 0.5 * weight @ (points[:, 0] == 0).double(),
        "spread": (points @ torch.tensor(bed.numbers.get("direction", [0.0] * points.shape[1])).double()),
    }
    mean["spread"] = (weight @ mean["spread"] ** 2 - (weight @ mean["spread"]) ** 2).sqrt()
    for key in mean.keys() & bed.numbers.keys():
        tolerance = 2e-3 if key == "right" else 2e-5  # a step over a grid
        torch.testing.assert_close(float(mean[key]), bed.numbers[key], rtol=0, atol=tolerance)
    if name != "B":
        tilted, exact = bed.tilted
        torch.testing.assert_close(exact, log_z)
        assert abs(float(tilted.weights.sum()) - 1) < 1e-12
        for key in ("weights", "means", "covariance"):
            if key in bed.numbers:
                value = tilted.covariances[0] if key == "covariance" else getattr(tilted, key)
                expected = torch.tensor(bed.numbers[key], dtype=torch.float64)
                torch.testing.assert_close(value, expected, rtol=0, atol=6e-4 if name == "G" else 6e-5)


@pytest.mark.parametrize("path", [paths.linear, paths.trigonometric], ids=["linear", "trigonometric"])
@TILTED
def test_the_fields_of_a_tilted_law_are_those_of_quadrature(name, path):
    """Row 1 of the acceptance table: f, v and log p of the tilted law, and the value of the reward."""
    bed = BEDS[name]().on(path)
    tilted, log_z = bed.tilted
    points = grid(bed.law)
    x = randn(3, *bed.law.shape)
    for t in (0.3, 0.6, 0.9):
        log = conditional(bed.law, bed.reward, x, t, points)
        f = log.softmax(1) @ points[0]
        v = path.convert(f, x, t, paths.data, paths.velocity)
        torch.testing.assert_close(tilted.denoise(x, t), f, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(tilted.velocity(x, t), v, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(tilted.log_prob(x, t) + log_z, log.logsumexp(1), rtol=1e-9, atol=1e-9)
        prior = conditional(bed.law, lambda x0: torch.zeros(len(x0)), x, t, points)
        torch.testing.assert_close(bed.value(x, t), log.logsumexp(1) - prior.logsumexp(1), rtol=1e-9, atol=1e-9)


# --- full covariances -------------------------------------------------------------------------------------------------


@ALL
def test_full_covariances_have_the_law_of_torch(path):
    m = full(path)
    x = randn(6, 2)
    for t in (0.2, 0.7):
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = path.alpha(time), path.sigma(time)
        covariances = alpha**2 * m.covariances + sigma**2 * torch.eye(2, dtype=torch.float64)
        law = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(m.weights),
            torch.distributions.MultivariateNormal(alpha * m.means, covariances),
        )
        y = x.clone().requires_grad_()
        score = torch.autograd.grad(law.log_prob(y).sum(), y)[0]
        torch.testing.assert_close(m.log_prob(x, t), law.log_prob(x))
        torch.testing.assert_close(m.score(x, t), score)
        f = path.convert(score, x, t, paths.score, paths.data)
        torch.testing.assert_close(m.denoise(x, t), f)
        torch.testing.assert_close(m.velocity(x, t), path.convert(f, x, t, paths.data, paths.velocity))


@ALL
def test_isotropic_covariances_are_standard_deviations(path):
    stds = torch.tensor([0.4, 0.3, 0.5], dtype=torch.float64)
    weights, means = [0.5, 0.3, 0.2], randn(3, 2, 2)
    plain = fm.exact.GaussianMixture(weights, means, stds, path=path)
    other = fm.exact.GaussianMixture(
        weights, means, covariances=stds[:, None, None] ** 2 * torch.eye(4, dtype=torch.float64), path=path
    )
    x = randn(5, 2, 2, seed=1)
    for field in ("velocity", "denoise", "score", "log_prob", "posterior"):
        torch.testing.assert_close(getattr(other, field)(x, 0.6), getattr(plain, field)(x, 0.6))
    torch.testing.assert_close(other.flow_map(x, 0.9, 0.1), plain.flow_map(x, 0.9, 0.1))
    torch.testing.assert_close(plain.covariances, other.covariances)


def test_draws_of_full_covariances_have_their_moments():
    m = full()
    x = m.sample(200_000, torch.Generator().manual_seed(0))
    mean = m.weights @ m.means
    apart = m.means - mean
    covariance = (m.weights[:, None, None] * (m.covariances + apart[:, :, None] * apart[:, None, :])).sum(0)
    assert ((x.mean(0) - mean).abs() < 4 * covariance.diagonal().sqrt() / len(x) ** 0.5).all()
    torch.testing.assert_close(torch.cov(x.T), covariance, rtol=0, atol=0.02)


@ALL
def test_a_law_of_images_with_full_covariances_is_tilted(path):
    """A linear reward and a likelihood, one after the other, are their sum; the gain is E e^r by draws of the law."""
    weights, root = [0.4, 0.6], randn(2, 4, 4) / 3
    m = fm.exact.GaussianMixture(weights, randn(2, 2, 2, seed=3), covariances=root @ root.mT + 0.1 * torch.eye(4))
    c, A = randn(4, seed=4) / 2, randn(2, 4, seed=5) / 2
    first, second = Quadratic(c), Quadratic(A.T @ randn(2, seed=6), A.T @ A, -0.3)
    one, log_one = m.tilted(Polynomial(first))
    both, log_both = one.tilted(Polynomial(second))
    at_once, log_z = m.tilted(Polynomial(first + second))
    torch.testing.assert_close(log_one + log_both, log_z)
    for part in ("weights", "means", "covariances"):
        torch.testing.assert_close(getattr(both, part), getattr(at_once, part))
    x = m.sample(200_000, torch.Generator().manual_seed(0))
    drawn = (first + second)(x).exp()
    assert abs(float(drawn.mean() - log_z.exp())) < 4 * float(drawn.std()) / len(x) ** 0.5
    half, log_half = m.tilted(Polynomial((first + second).scaled(0.5)))
    torch.testing.assert_close(half.tilted(Polynomial((first + second).scaled(0.5)))[0].means, at_once.means)
    assert log_half < log_z or log_half > 0


def test_tilts_that_stay_isotropic_keep_standard_deviations():
    m = BEDS["A"]().law
    assert m.tilted(linear(1.0, 0.5))[0].stds.equal(m.stds)
    precise, _ = m.tilted(Polynomial(Quadratic(torch.zeros(2).double(), 4 * torch.eye(2).double())))
    torch.testing.assert_close(precise.stds, (1 / m.stds**2 + 4) ** -0.5)
    assert m.tilted(Polynomial(Quadratic(torch.zeros(2), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))))[0].stds is None


def test_tilts_that_are_no_mixture_are_refused():
    m, d = BEDS["A"]().law, BEDS["D"]()
    for reward, error, words in (
        (lambda x: x.sum(1), TypeError, "quadratic"),
        (Polynomial(Quadratic(torch.zeros(2), -10 * torch.eye(2))), ValueError, "infinite"),
        (Polynomial(Quadratic(torch.zeros(3))), ValueError, "2 coordinates"),
        (d.reward, ValueError, "another"),
    ):
        with pytest.raises(error, match=words):
            m.tilted(reward)
    for chosen in ([], [8], [-1]):
        with pytest.raises(ValueError, match="0 to 7"):
            fm.exact.Components(d.law, chosen)
    with pytest.raises(TypeError, match="one of the two"):
        fm.exact.GaussianMixture([1.0], [[0.0]])
    with pytest.raises(ValueError, match="symmetric"):
        fm.exact.GaussianMixture([1.0], [[0.0, 0.0]], covariances=[[1.0, 0.5], [0.0, 1.0]])
    with pytest.raises(ValueError, match="positive definite"):
        fm.exact.GaussianMixture([1.0], [[0.0, 0.0]], covariances=[[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(ValueError, match="shape"):
        fm.exact.GaussianMixture([0.5, 0.5], [[0.0, 0.0]] * 2, covariances=[[[1.0]], [[1.0]]])


# --- the posterior of the data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [full, lambda path: BEDS["A"]().on(path).law], ids=["full", "stds"])
@ALL
def test_the_posterior_of_the_data_is_that_of_bayes(path, make):
    m = make(path)
    t = torch.tensor([0.3, 0.5, 0.8, 0.9], dtype=torch.float64)
    x, x0 = randn(4, 2), m.sample(4).double()
    law = m.posterior_of_data(x, t)
    torch.testing.assert_close(law.mean(), m.denoise(x, t))
    noise = torch.distributions.Normal(path.alpha(t)[:, None] * x0, path.sigma(t)[:, None])
    bayes = m.log_prob(x0) + noise.log_prob(x).sum(1) - m.log_prob(x, t)
    torch.testing.assert_close(law.log_prob(x0), bayes)
    # the covariance is (sigma^2 / alpha) df/dx
    jacobian = torch.stack([torch.func.jacrev(lambda y, i=i: m.denoise(y[None], t[i])[0])(x[i]) for i in range(4)])
    scale = (path.sigma(t) ** 2 / path.alpha(t))[:, None, None]
    torch.testing.assert_close(law.covariance(), scale * jacobian)


def test_draws_of_the_posterior_and_of_its_flow_have_its_law():
    m = full()
    x, n = randn(2, 2), 4000
    law = m.posterior_of_data(x, 0.6)
    drawn = law.sample(n, torch.Generator().manual_seed(0))
    assert drawn.shape == (n, 2, 2) and len(law) == 2
    spread = law.covariance().diagonal(dim1=1, dim2=2).sqrt()
    assert ((drawn.mean(0) - law.mean()).abs() < 4 * spread / n**0.5).all()
    for row in range(2):
        torch.testing.assert_close(torch.cov(drawn[:, row].T), law.covariance()[row], rtol=0, atol=0.05)
    jumped = torch.stack([law.flow_map(z, 1.0, 0.0, tolerance=1e-3) for z in randn(60, 2, 2)])
    assert ((jumped.mean(0) - law.mean()).abs() < 4 * spread / 60**0.5).all()
    again = law.posterior_of_data(x, 0.4)
    torch.testing.assert_close(again.mean(), law.denoise(x, 0.4))
