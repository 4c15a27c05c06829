"""The rules of distributions over classes: zero at the exact map of a table, not at wrong variants, and refusals."""

from functools import partial

import pytest
import torch

import flowmaps as fm
from flowmaps import simplex
from flowmaps.derivative import finite_difference, functorch, jvp
from flowmaps.simplex.jumps import lagrangian_factor, log_slope
from flowmaps.velocity import Pair
from tests.tokens import table, token_flow

LAW = fm.exact.Categorical(table())
BY_DIFFERENCE = finite_difference(1e-3)
PATHS = {"linear": fm.path.linear, "trigonometric": fm.path.trigonometric}


@pytest.fixture(scope="module", params=PATHS)
def exact(request):
    """The exact map, states at s = .85 and the times (s, t) = (.85, .2), for the table on a path."""
    law = fm.exact.Categorical(table(), path=PATHS[request.param])
    generator = torch.Generator().manual_seed(0)
    eps = torch.randn(4, 2, 3, dtype=torch.float64, generator=generator)
    s, t = (torch.full((4, 1, 1), time, dtype=torch.float64) for time in (0.85, 0.2))
    return law, law.path.interpolate(law.sample(4, generator), eps, s), s, t


@pytest.mark.parametrize(
    "rule, bound",
    [
        (partial(simplex.token_compositional, g=0.3), 1e-15),
        (partial(simplex.token_lagrangian, derivative=BY_DIFFERENCE), 1e-10),
        (partial(simplex.token_eulerian, derivative=BY_DIFFERENCE), 1e-10),
    ],
    ids=["compositional", "lagrangian", "eulerian"],
)
def test_the_rules_are_zero_at_the_exact_map(exact, rule, bound):
    """A divergence below e means probabilities that differ by at most sqrt(2 e); rounding alone is 4e-16."""
    law, x, s, t = exact
    assert float(rule(law, law, x, s, t).abs().max()) < bound


def test_the_lagrangian_rule_of_velocities_is_zero_too():
    """Categorical Flow Maps' CSD is t times this residual."""
    generator = torch.Generator().manual_seed(1)
    s, t = (torch.full((2, 1, 1), time, dtype=torch.float64) for time in (0.85, 0.2))
    x = LAW.path.interpolate(LAW.sample(2, generator), torch.randn(2, 2, 3, generator=generator).double(), s)
    residual = fm.consistency.lagrangian(LAW, LAW, x, s, t, derivative=BY_DIFFERENCE)
    assert float((t * residual).abs().max()) < 1e-5


def test_wrong_variants_of_the_rules_are_not_zero(exact):
    """The shares of two jumps exchanged; a coefficient of dp/dt with exchanged times; the slope of the other sign."""
    law, x, s, t = exact
    p, z = law.field(x, s, t), law.value(x, s, t)
    first = law.field(x, s, (s + t) / 2)
    second = law.field(law.path.jump(first, x, s, (s + t) / 2), (s + t) / 2, t)
    dp = BY_DIFFERENCE(law.field, (x, s, t), (0, 0, 1))[1]
    f = law.denoise(law.path.jump(p, x, s, t), t)
    factor = lagrangian_factor(law.path, s, t)
    wrong = [
        torch.lerp(second, first, s / (s + t)),
        (first + second) / 2,
        f + factor * (s / t) ** 2 * dp,
        f - factor * dp,
    ]
    for target in wrong:
        assert float(simplex.divergence(simplex.on_simplex(target), z).max()) > 1e-3


def test_the_lagrangian_target_in_logits_loses_its_digits():
    """Where the end of a jump is nearly one-hot, 1 - t (s - t)/s d log p/dt is lost in the error of the derivative."""
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.full((64, 1, 1), time, dtype=torch.float64) for time in (0.85, 0.2))
    x = LAW.path.interpolate(LAW.sample(64, generator), torch.randn(64, 2, 3, generator=generator).double(), s)
    z, dz = BY_DIFFERENCE(LAW.value, (x, s, t), (0, 0, 1))
    p, d = log_slope(z, dz)
    f, factor = LAW.denoise(LAW.path.jump(p, x, s, t), t), lagrangian_factor(LAW.path, s, t)
    in_logits = (f.clamp(min=1e-300).log() - (1 - factor * d).clamp(min=1e-6).log()).softmax(-1)
    in_probabilities = simplex.on_simplex(f + factor * p * d)
    assert float((in_logits - p).abs().max()) > 0.1
    assert float((in_probabilities - p).abs().max()) < 1e-4


def test_conditional_targets_have_the_marginal_mean():
    """The mean over pairs of the conditional Eulerian loss has its least value where the marginal rule is zero.

    At one state x the posterior of the words gives all pairs: their mean target is p, to the digits of the differences.
    """
    generator = torch.Generator().manual_seed(2)
    s, t = (torch.full((1, 1, 1), time, dtype=torch.float64) for time in (0.7, 0.4))
    x = LAW.path.interpolate(LAW.sample(1, generator), torch.randn(1, 2, 3, generator=generator).double(), s)
    chances = LAW.log_joint(x, s).softmax(1)[0]
    words = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    x0 = LAW.one_hot(words)
    x, s, t = (one.expand(9, *one.shape[1:]) for one in (x, s, t))
    pair = Pair(x0, (x - (1 - s) * x0) / s, LAW.path, {})
    losses = simplex.token_eulerian(LAW, fm.velocity.conditional(LAW, pair), x, s, t, derivative=BY_DIFFERENCE)
    p = LAW.field(x[:1], s[:1], t[:1])
    assert float((chances[:, None] * losses).sum()) == pytest.approx(-float(torch.special.xlogy(p, p).sum()), abs=1e-5)


def test_losses_of_tokens_are_cross_entropies():
    torch.manual_seed(0)
    flow, x0 = token_flow(LAW), LAW.sample(8)
    eps, s = torch.randn_like(x0), torch.rand(8, 1, 1, dtype=torch.float64)
    pair = Pair(x0, eps, flow.path, {})
    x = flow.path.interpolate(x0, eps, s)
    found = simplex.token(flow, fm.velocity.conditional(flow, pair), x, s, s)
    expected = torch.nn.functional.cross_entropy(flow.value(x, s, s).mT, x0.argmax(-1), reduction="none").sum(
        1, keepdim=True
    )
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(simplex.divergence(x0, flow.value(x, s, s)), expected)
    distilled = simplex.token_distilled(flow, LAW, x, s, s)
    assert bool((distilled >= 0).all()) and distilled.shape == (8, 1)


@pytest.mark.parametrize("rule", [simplex.token_lagrangian, simplex.token_endpoint, simplex.token_eulerian])
def test_derivatives_of_probabilities_agree_with_the_other_engine(rule):
    """Softmax, its logarithm and the cross-entropy in forward mode; the loss and its gradient."""
    torch.manual_seed(0)
    flow, x = token_flow(LAW), torch.randn(4, 2, 3, dtype=torch.float64)
    s, t = torch.full((4, 1, 1), 0.8, dtype=torch.float64), torch.full((4, 1, 1), 0.3, dtype=torch.float64)
    found = []
    for derivative in (jvp, functorch):
        loss = rule(flow, flow, x, s, t, derivative=derivative).sum()
        found.append([loss, *torch.autograd.grad(loss, list(flow.parameters()))])
    torch.testing.assert_close(*found)


def test_no_target_is_infinite_at_the_ends_of_time():
    torch.manual_seed(0)
    flow, x = token_flow(LAW), torch.randn(6, 2, 3, dtype=torch.float64)
    s = torch.tensor([1, 1, 1, 0.5, 1e-9, 0], dtype=torch.float64).reshape(6, 1, 1)
    t = torch.tensor([0, 1, 0.5, 0, 0, 0], dtype=torch.float64).reshape(6, 1, 1)
    for rule in (partial(simplex.token_compositional, g=0.0), simplex.token_compositional, simplex.token_lagrangian):
        loss = rule(flow, flow, x, s, t)
        assert bool(loss.isfinite().all()) and bool((loss > -1e-12).all())
        assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(loss.sum(), list(flow.parameters())))


def test_what_is_no_cross_entropy_is_refused():
    law, x0 = LAW, LAW.sample(4)
    pair = Pair(x0, torch.randn_like(x0), law.path, {})
    s = torch.full((4, 1, 1), 0.5, dtype=torch.float64)
    plain = fm.FlowMap(token_flow(law).network)
    with pytest.raises(ValueError, match=r"needs a softmax, FlowMap\(network, fm.Endpoint\(link=fm.links.softmax\)\)"):
        simplex.token(plain, fm.velocity.conditional(plain, pair), x0, s, s)
    with pytest.raises(ValueError, match="a one-hot class or a distribution over classes"):
        fm.methods.dfm_psd().loss(token_flow(law), torch.randn(8, 2, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="needs the pair of the batch"):
        simplex.token(token_flow(law), law, x0, s, s)
    with pytest.raises(ValueError, match="the conditional velocity makes none"):
        fm.Term(simplex.token_compositional, fm.velocity.conditional)
    with pytest.raises(ValueError, match="only right on average"):
        fm.Term(simplex.token_lagrangian, fm.velocity.conditional)
