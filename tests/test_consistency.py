"""The rules at the exact flow map: of a Gaussian with a full covariance (zero), of a mixture (zero on average)."""

import functools

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps import consistency, derivative, velocity
from flowmaps.derivative import finite_difference, keep, stop, time_part
from tests.methods.support import Network
from tests.oracles import (
    PATHS,
    density,
    flow_of,
    gaussian,
    jacobian_product,
    marginal,
    mixture,
    randn,
    rearrangement,
    times,
)

ALL = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
MODES = {
    "jvp": derivative.jvp,
    "detached": derivative.detached,
    "separate": derivative.separate,
    "functorch": derivative.functorch,
    "time_part": time_part(),
}


def column(t):
    return t[:, None]


def case(path, n=30):
    """The exact flow, its distribution, states on the path and pairs of times in both directions."""
    g = gaussian(path)
    s, t = times(n)
    x0, eps = g.sample(n), randn(n, 3)
    return flow_of(g), g, velocity.Pair(x0, eps, path, {}), path.interpolate(x0, eps, s), column(s), column(t)


@ALL
def test_diffusion_is_zero_at_the_truth(path):
    flow, g, _, x, s, t = case(path)
    assert consistency.diffusion(flow, g, x, s, t).abs().max() < 1e-10


@ALL
@pytest.mark.parametrize("split", [consistency.midpoint, consistency.uniform, lambda n, x: 0.0, lambda n, x: 1.0])
def test_compositional_is_zero_at_the_truth(path, split):
    flow, truth, _, x, s, t = case(path)
    for teacher in (flow, truth):
        assert consistency.compositional(flow, teacher, x, s, t, g=split(len(x), x)).abs().max() < 1e-10


@ALL
@pytest.mark.parametrize("mode", MODES)
def test_lagrangian_and_eulerian_are_zero_at_the_truth(path, mode):
    flow, g, _, x, s, t = case(path)
    for rule in (consistency.lagrangian, consistency.eulerian):
        for teacher in (flow, g):
            assert rule(flow, teacher, x, s, t, derivative=MODES[mode]).abs().max() < 1e-10
            assert rule(flow, teacher, x, s, t, derivative=MODES[mode], slope=keep).abs().max() < 1e-10
    assert consistency.eulerian(flow, g, x, s, t, derivative=MODES[mode], along=flow).abs().max() < 1e-10


@pytest.mark.parametrize("rule", [consistency.lagrangian, consistency.eulerian])
@pytest.mark.parametrize("central, order", [(True, 2), (False, 1)])
def test_finite_differences_reach_zero_at_their_order(rule, central, order):
    flow, g, _, x, s, t = case(PATHS["linear"])
    errors = [rule(flow, g, x, s, t, derivative=finite_difference(h, central)).abs().max() for h in (4e-3, 2e-3, 1e-3)]
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert torch.log2(coarse / fine) == pytest.approx(order, abs=0.1)
    assert errors[-1] < (1e-4 if central else 5e-2)


@pytest.mark.parametrize("rule", [consistency.lagrangian, consistency.eulerian])
def test_stopped_neighbours_change_the_gradient_alone(rule):
    """As a stopped derivative does: the residual keeps the gradient of V, and for a one-sided difference of a stopped
    slope no other.
    """
    _, g, _, x, s, t = case(PATHS["linear"])
    flow = fm.FlowMap(Network())
    parameters = list(flow.parameters())
    options = {"slope": stop} if rule is consistency.eulerian else {"slope": stop, "target": stop}
    residuals = [
        rule(flow, g, x, s, t, derivative=finite_difference(1e-3, False, around), **options) for around in (keep, stop)
    ]
    assert torch.equal(*residuals)
    V = torch.autograd.grad(flow.average_velocity(x, s, t).sum(), parameters)
    for residual in residuals:
        torch.testing.assert_close(torch.autograd.grad(residual.sum(), parameters), V)


@ALL
def test_rules_on_the_diagonal_are_the_diffusion_rule(path):
    """At t = s all three say V(x, s, s) = v(x, s), here of a flow that is not right."""
    _, g, _, x, s, _ = case(path)
    flow = flow_of(fm.exact.Gaussian(torch.zeros(3).double(), 0.8, path=path))
    expected = consistency.diffusion(flow, g, x, s, s)
    assert expected.abs().max() > 0.1
    for rule in (consistency.lagrangian, consistency.eulerian):
        torch.testing.assert_close(rule(flow, g, x, s, s), expected)
    torch.testing.assert_close(consistency.compositional(flow, g, x, s, s), expected)


@ALL
def test_residuals_of_a_wrong_map_are_its_derivatives(path):
    """Lagrangian: dF/dt - v(F, t). Eulerian: -(dF/ds + grad_x F . v). By autograd on F alone."""
    _, g, _, x, s, t = case(path)
    wrong = fm.exact.Gaussian(torch.tensor([1.0, 0.0, -1.0]).double(), 0.8, path=path)
    flow = flow_of(wrong)
    by_time = [
        torch.func.jvp(lambda u: flow(x, s, u), (t,), (torch.ones_like(t),)),
        torch.func.jvp(lambda y, u: flow(y, u, t), (x, s), (g.velocity(x, s), torch.ones_like(s))),
    ]
    (F, dt), (_, ds) = by_time
    torch.testing.assert_close(consistency.lagrangian(flow, g, x, s, t), dt - g.velocity(F, t))
    torch.testing.assert_close(consistency.eulerian(flow, g, x, s, t), -ds)
    halfway = flow(flow(x, s, (s + t) / 2), (s + t) / 2, t)
    torch.testing.assert_close((t - s) * consistency.compositional(flow, flow, x, s, t), flow(x, s, t) - halfway)


@ALL
def test_conditional_velocity_leaves_its_own_noise_and_no_more(path):
    """With u for v: diffusion and improved MeanFlow leave -(u - v), MeanFlow -grad_x F (u - v); zero on average."""
    flow, g, pair, x, s, t = case(path)
    teacher = velocity.conditional(flow, pair)
    noise = teacher.velocity(x, s) - g.velocity(x, s)
    torch.testing.assert_close(consistency.diffusion(flow, teacher, x, s, t), -noise)
    torch.testing.assert_close(consistency.eulerian(flow, teacher, x, s, t, along=g), -noise)
    torch.testing.assert_close(consistency.eulerian(flow, teacher, x, s, t), -jacobian_product(g, x, s, t, noise))


# --- which velocities are legal, and what the others would do ---------------------------------------------------------


class Nudged(nn.Module):
    """The exact map of a one-dimensional mixture; gradients are taken in the direction of nudge * x, from the truth."""

    def __init__(self, exact, x, s, t):
        super().__init__()
        self.exact, self.path = exact, exact.path
        self.nudge = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.F = rearrangement(exact, x, s, t)

    def velocity(self, x, t):
        return self.exact.velocity(x, t) + self.nudge * x

    def average_velocity(self, x, s, t):
        return (self.F - x) / (t - s) + self.nudge * x

    def derivative(self, f, inputs, tangents):
        """Value and derivative in closed form: dF/ds = -F_x v, dF/dt = v(F, t), F_x = p_s(x) / p_t(F)."""
        (x, s, t), (dx, ds, dt) = inputs, tangents
        F, gap, V = self.F, t - s, self.average_velocity(x, s, t)
        slope = (density(self.exact, x[:, 0], s[0, 0]) / density(self.exact, F[:, 0], t[0, 0]))[:, None]
        dF = slope * (dx - ds * self.exact.velocity(x, s)) + dt * self.exact.velocity(F, t)
        return V, ((dF - dx) - (dt - ds) * (F - x) / gap) / gap + self.nudge * dx


@functools.cache
def conditioned(path, s, t, x=0.4, n=4001):
    """Pairs (x_0, eps) that meet in x at time s, with their posterior weights: the trapezoid rule over x_0."""
    m, time = mixture(path), torch.tensor(s, dtype=torch.float64)
    x0 = torch.linspace(-4, 4, n, dtype=torch.float64)[:, None]
    x = torch.full_like(x0, x)
    eps = (x - path.alpha(time) * x0) / path.sigma(time)
    weight = marginal(m, 0.0).log_prob(x0[:, 0]).exp() * torch.exp(-0.5 * eps[:, 0] ** 2)
    pair = velocity.Pair(x0, eps, path, {})
    return m, Nudged(m, x, s, t), velocity.Conditional(pair), x, torch.full_like(x, s), torch.full_like(x, t), weight


def expectation(values, weight):
    return (values[:, 0] * weight).sum() / weight.sum()


def gradient_at_the_truth(rule, s, t, path=PATHS["linear"], **options):
    """Mean residual and mean gradient of its square, given x_s, at the exact map of the mixture."""
    m, flow, teacher, x, s, t, weight = conditioned(path, s, t)
    if options.pop("own", False):
        options["along"] = m
    residual = rule(flow, teacher, x, s, t, **options)
    (gradient,) = torch.autograd.grad(expectation(residual**2, weight), flow.nudge)
    return expectation(residual, weight).item(), gradient.item()


TIMES = pytest.mark.parametrize("s, t", [(0.9, 0.0), (0.6, 0.2), (0.3, 0.8)])


def eulerian(flow, *arguments, **options):
    return consistency.eulerian(flow, *arguments, derivative=flow.derivative, **options)


def unguarded_eulerian(flow, *arguments, **options):
    return consistency.eulerian.__wrapped__(flow, *arguments, derivative=flow.derivative, **options)


def unguarded_lagrangian(flow, *arguments, **options):
    return consistency.lagrangian.__wrapped__(flow, *arguments, derivative=flow.derivative, **options)


@TIMES
@pytest.mark.parametrize("path", [PATHS["linear"], PATHS["trigonometric"]], ids=["linear", "trigonometric"])
@pytest.mark.parametrize(
    "rule, options",
    [
        (consistency.diffusion, {}),
        (eulerian, {}),  # MeanFlow
        (eulerian, {"own": True}),  # improved MeanFlow
        (eulerian, {"own": True, "slope": keep}),  # legal too: one conditional velocity only
    ],
    ids=["flow_matching", "meanflow", "imf", "imf_kept"],
)
def test_training_from_scratch_stands_still_at_the_truth(rule, options, s, t, path):
    """On a non-linear map, with exact expectations over the data that may be behind x_s."""
    residual, gradient = gradient_at_the_truth(rule, s, t, path, **options)
    assert abs(residual) < 1e-9 and abs(gradient) < 1e-9


@TIMES
def test_a_kept_slope_along_a_conditional_velocity_is_biased(s, t):
    """The gradient holds u twice: its mean is off by 2 (t - s) F_x Var(u | x_s), and it is found to be that."""
    residual, gradient = gradient_at_the_truth(unguarded_eulerian, s, t, slope=keep)
    m, flow, teacher, x, source, target, weight = conditioned(PATHS["linear"], s, t)
    u = teacher.velocity(x, source)
    variance = expectation(u**2, weight) - expectation(u, weight) ** 2
    stretch = density(m, x[:1, 0], s) / density(m, flow.F[:1, 0], t)
    assert abs(residual) < 1e-9
    assert gradient == pytest.approx((2 * (t - s) * stretch * variance).item(), rel=1e-6)
    assert abs(gradient) > 0.05


@TIMES
def test_a_conditional_velocity_at_the_endpoint_is_biased(s, t):
    """The Lagrangian rule would compare v(F, t) with a velocity whose mean is v(x_s, s)."""
    residual, gradient = gradient_at_the_truth(unguarded_lagrangian, s, t)
    m, flow, *_, x, source, target, _ = conditioned(PATHS["linear"], s, t)
    expected = (m.velocity(flow.F, target) - m.velocity(x, source))[0].item()
    assert residual == pytest.approx(expected, rel=1e-6)
    assert abs(residual) > 0.05 and abs(gradient) > 0.02


def test_forbidden_velocities_are_refused_with_the_reason():
    flow, _, pair, x, s, t = case(PATHS["linear"], 4)
    u = velocity.conditional(flow, pair)
    with pytest.raises(ValueError, match=r"Lagrangian rule evaluates the velocity at F\(x, s, t\)"):
        consistency.lagrangian(flow, u, x, s, t)
    with pytest.raises(ValueError, match="compositional rule is about jumps"):
        consistency.compositional(flow, u, x, s, t)
    with pytest.raises(ValueError, match="product of two conditional velocities"):
        consistency.eulerian(flow, u, x, s, t, slope=keep)
    with pytest.raises(ValueError, match="product of two conditional velocities"):
        consistency.eulerian(flow, flow, x, s, t, slope=keep, along=u)
    for options in ({}, {"slope": stop}, {"slope": keep, "along": flow}):
        consistency.eulerian(flow, u, x, s, t, **options)


def test_terms_refuse_when_they_are_made():
    for rule, options in (
        (consistency.lagrangian, {}),
        (consistency.compositional, {}),
        (functools.partial(consistency.eulerian, slope=keep), {}),
        (functools.partial(functools.partial(consistency.eulerian, derivative=derivative.jvp), slope=keep), {}),
    ):
        with pytest.raises(ValueError, match="own"):
            fm.Term(rule, velocity.conditional, **options)
    with pytest.raises(ValueError, match="own"):
        kept = functools.partial(consistency.eulerian, slope=keep)
        fm.Term(kept, velocity.own, sources={"along": velocity.conditional})
    fm.Term(functools.partial(consistency.eulerian, slope=keep), velocity.conditional, sources={"along": velocity.own})
    fm.Term(functools.partial(consistency.eulerian, slope=keep), velocity.own)


def test_splits():
    x = torch.rand(4, 3)
    assert consistency.midpoint(1000, x).shape == (1000, 1) and (consistency.midpoint(1000, x) == 0.5).all()
    g = consistency.uniform(1000, x)
    assert g.shape == (1000, 1) and g.min() >= 0 and g.max() <= 1
    assert g.mean() == pytest.approx(0.5, abs=4 * (1 / 12 / 1000) ** 0.5)  # four standard errors


def test_two_jumps_weigh_their_velocities_by_their_gaps():
    """Any g gives the average velocity of F(F(x, s, m), m, t)."""
    flow, _, _, x, s, t = case(PATHS["trigonometric"])
    wrong = flow_of(fm.exact.Gaussian(torch.zeros(3).double(), 2.0))
    g = torch.rand_like(s)
    m = g * s + (1 - g) * t
    jumps = wrong(wrong(x, s, m), m, t)
    torch.testing.assert_close(x + (t - s) * consistency.two_jumps(wrong, x, s, t, g), jumps)
