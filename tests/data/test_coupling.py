"""Couplings of noise with what a teacher makes of it."""

from itertools import islice

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.data.coupling import signature

GAUSSIAN = fm.exact.Gaussian(torch.tensor([0.5, -0.5]), covariance=torch.tensor([[1.0, 0.6], [0.6, 0.5]]))
MIXTURE = fm.exact.GaussianMixture([0.5, 0.3, 0.2], [[-1.0, -0.5], [1.0, -0.5], [0.25, 1.25]], [0.3, 0.2, 0.4])


@pytest.fixture
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def pairs_of(data):
    """All couplings of a set, once."""
    return next(data.batches(data.size))


def error(teacher, **options):
    """The largest distance of a coupling's row from the teacher's exact flow map of its noise."""
    pairs = pairs_of(fm.data.reflow(teacher, teacher, 200, **options))
    return float((pairs.x0 - teacher.flow_map(pairs.noise, 1.0, 0.0)).abs().max())


@pytest.mark.parametrize("path", [fm.path.linear, fm.path.trigonometric], ids=["linear", "trigonometric"])
def test_couplings_of_a_gaussian_are_its_flow_map_within_the_solvers_order(path, double):
    gaussian = fm.exact.Gaussian(GAUSSIAN.mean, covariance=torch.tensor([[1.0, 0.6], [0.6, 0.5]]), path=path)
    for step, order in ((fm.steps.euler, 1), (fm.steps.heun, 2)):
        coarse, fine = (error(gaussian, steps=steps, step=step) for steps in (100, 200))
        assert coarse / fine == pytest.approx(2**order, rel=0.1)
    assert fine < 1e-3
    assert error(gaussian, steps=1, step=fm.steps.jump) < 1e-12


def test_the_noise_is_standard_and_starts_at_the_paths_own_scale(double):
    path = fm.path.VarianceExploding(sigma_max=20.0)
    gaussian = fm.exact.Gaussian(torch.zeros(2), torch.ones(2), path=path)
    pairs = pairs_of(fm.data.reflow(gaussian, gaussian, 4000, steps=1, step=fm.steps.jump))
    assert torch.allclose(pairs.x0, gaussian.flow_map(20 * pairs.noise, 1.0, 0.0))
    # the standard error of a standard deviation of 8000 normal numbers is 1/sqrt(16000) = 0.008
    assert float(pairs.noise.std()) == pytest.approx(1.0, abs=4 * 0.008)


def unexplained(pairs, s, neighbours=4):
    """E |u - v|^2 at time s, from above, with its standard error: v(x_s) is the mean of u over the nearest other points
    of another half of the pairs.
    """
    u, x = pairs.noise - pairs.x0, (1 - s) * pairs.x0 + s * pairs.noise
    (known, asked), (u_known, u_asked) = x.chunk(2), u.chunk(2)
    nearest = torch.cdist(asked, known).topk(neighbours, largest=False).indices
    square = (u_asked - u_known[nearest].mean(1)).square().mean(1)
    return float(square.mean()), float(square.std() / len(square) ** 0.5)


@pytest.mark.parametrize("s", [0.3, 0.5, 0.7])
def test_couplings_of_a_mixture_make_straighter_paths(s):
    pairs = pairs_of(fm.data.reflow(MIXTURE, MIXTURE, 4000, steps=40))
    curved, its_error = unexplained(pairs, s)
    x0, eps = MIXTURE.sample(4000).float(), torch.randn(4000, 2)
    x = (1 - s) * x0 + s * eps
    square = (eps - x0 - MIXTURE.velocity(x, s)).square().mean(1)
    independent, other_error = float(square.mean()), float(square.std() / 4000**0.5)
    # what is left of a rectified coupling is bounded from above: less than a fifth of what independent noise leaves
    assert curved + 4 * its_error < (independent - 4 * other_error) / 5


def test_marginals_stay_those_of_noise_and_data():
    pairs = pairs_of(fm.data.reflow(GAUSSIAN, GAUSSIAN, 4000, steps=40))
    for x, mean, covariance in (
        (pairs.x0, [0.5, -0.5], [[1.0, 0.6], [0.6, 0.5]]),
        (pairs.noise, [0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]]),
    ):
        # standard errors for 4000 rows: of a mean 1/sqrt(4000) = 0.016, of a covariance at most sqrt(2/4000) = 0.022
        assert torch.allclose(x.mean(0), torch.tensor(mean), atol=4 * 0.016)
        assert torch.allclose(torch.cov(x.T), torch.tensor(covariance), atol=4 * 0.022)


def test_rows_are_a_function_of_the_seed_and_keep_their_noise():
    one, again, other = (
        fm.data.reflow(GAUSSIAN, GAUSSIAN, 50, steps=5, seed=seed, batch_size=size)
        for seed, size in ((1, 50), (1, 50), (2, 50))
    )
    state = torch.get_rng_state()
    assert all(torch.equal(a, b) for a, b in zip(pairs_of(one)[::2], pairs_of(again)[::2], strict=True))
    assert not torch.equal(pairs_of(one).noise, pairs_of(other).noise)
    assert torch.equal(torch.get_rng_state(), state)
    batches = list(islice(one.batches(20, seed=3), 6))
    table = {tuple(noise.tolist()): x0 for noise, x0 in zip(pairs_of(one).noise, pairs_of(one).x0, strict=True)}
    assert all(
        torch.equal(table[tuple(e.tolist())], x)
        for batch in batches
        for e, x in zip(batch.noise, batch.x0, strict=True)
    )
    for batch, resumed in zip(batches[4:], one.batches(20, seed=3, start=4), strict=False):
        assert torch.equal(batch.x0, resumed.x0) and torch.equal(batch.noise, resumed.noise)
    split = fm.data.reflow(GAUSSIAN, GAUSSIAN, 50, steps=5, seed=1, batch_size=7)
    assert torch.allclose(pairs_of(split).x0, pairs_of(one).x0, atol=1e-5)


def test_all_else_is_that_of_the_data():
    digits = fm.data.load("digits")
    data = fm.data.reflow(Still(), digits, 10, steps=1, labels=False)
    assert (data.name, data.shape, data.kind, data.levels) == ("reflow of digits", (1, 8, 8), "images", 17)
    assert (data.size, data.classes, data.recipe, data.std) == (10, None, digits.recipe, digits.std)
    for ask in ("draw", "held_out"):
        batch, real = getattr(data, ask)(20, seed=2), getattr(digits, ask)(20, seed=2)
        assert torch.equal(batch.x0, real.x0) and batch.label is None and batch.noise is None


class Still:
    """Anything with a velocity: x(0) = x(1)."""

    def velocity(self, x, t):
        return torch.zeros_like(x)


def test_anything_with_a_velocity_is_a_teacher():
    pairs = pairs_of(fm.data.reflow(Still(), fm.data.no_data((3,)), 10))
    assert torch.equal(pairs.x0, pairs.noise) and pairs.label is None


class Labelled(nn.Module):
    """v(x, t) = 1 + label."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x, s, t, label=None):
        return (self.one + (-1 if label is None else label[:, None])).expand_as(x)


def test_a_flow_map_that_takes_labels_is_told_those_of_the_data():
    flow = fm.FlowMap(Labelled())
    x, label = torch.randn(40, 2), torch.arange(40) % 3
    data = fm.data.reflow(flow, (x, label), 60, batch_size=16, step=fm.steps.euler)
    pairs = pairs_of(data)
    assert data.classes == 3 and pairs.x0.dtype == torch.float64
    assert torch.allclose(pairs.noise - pairs.x0, (1.0 + pairs.label[:, None]).double().expand(60, 2))
    drawn = torch.cat([batch.label for batch in islice(fm.data.as_data((x, label)).batches(16, seed=0), 4)])[:60]
    assert torch.equal(torch.bincount(pairs.label), torch.bincount(drawn))
    plain = pairs_of(fm.data.reflow(flow, (x, label), 60, labels=False, step=fm.steps.euler))
    assert plain.label is None and torch.allclose(plain.noise - plain.x0, torch.zeros(60, 2).double())
    bound = pairs_of(fm.data.reflow(flow.given(label=torch.tensor([4])), (x, label), 60, step=fm.steps.euler))
    assert bound.label is None and torch.allclose(bound.noise - bound.x0, 5 * torch.ones(60, 2).double())
    even = fm.data.reflow(flow, fm.data.no_data((2,), 3), 60, step=fm.steps.euler)
    assert even.classes == 3 and set(pairs_of(even).label.tolist()) == {0, 1, 2}


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="labels=True needs data with class labels, and Gaussian has none"):
        fm.data.reflow(GAUSSIAN, GAUSSIAN, 10, labels=True)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        fm.data.reflow(GAUSSIAN, GAUSSIAN, 0)

    class Broken(Still):
        def velocity(self, x, t):
            return x / 0

    with pytest.raises(ValueError, match="samples of the teacher for nothing must be finite"):
        fm.data.reflow(Broken(), fm.data.no_data((2,)), 10)


def test_a_teacher_is_known_by_its_numbers():
    flows = [fm.FlowMap(fm.networks.MLP(2, width=8, depth=1)) for _ in range(2)]
    assert signature(flows[0]) != signature(flows[1])
    flows[1].load_state_dict(flows[0].state_dict())
    assert signature(flows[0]) == signature(flows[1])
    means = [fm.exact.Gaussian(torch.tensor(mean), torch.ones(2)) for mean in ([1.0, 0.0], [0.0, 1.0])]
    assert signature(means[0]) != signature(means[1])
    about = fm.data.reflow(means[0], means[0], 10, steps=3, seed=4).coupling
    assert about["teacher"] == "exact.Gaussian" and about["signature"] == signature(means[0])
    assert (about["n"], about["steps"], about["step"], about["seed"]) == (10, 3, fm.steps.heun, 4)


def test_the_signature_of_a_mixture_sees_its_covariances():
    def mixture(correlation):
        covariance = [[1.0, correlation], [correlation, 1.0]]
        return fm.exact.GaussianMixture([0.5, 0.5], [[0.0, 0.0], [1.0, 1.0]], covariances=covariance)

    assert signature(mixture(0.5)) == signature(mixture(0.5)) != signature(mixture(0.25))
