"""Finite steps at the exact flow map: zero where the step is exact, and otherwise the error of the step, in closed form
to its first order. Along the path of a point, a(x, s) = d/ds v(x_s, s) is the second derivative of the flow map.
"""

from functools import partial

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps import consistency, steps
from flowmaps.finite_steps import eulerian_step, lagrangian_step, same_endpoint, same_endpoint_seen_at_data, several
from flowmaps.velocity import Conditional, Pair, averaged, conditional, fixed, frozen, own
from tests.methods.support import Network, batch
from tests.oracles import PATHS, flow_of, gaussian, jacobian_product, randn, times

ALL = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


def case(path, n=16):
    """The exact flow, its distribution, states on the path and pairs of times in both directions."""
    g, (s, t) = gaussian(path), times(n, low=0.2, high=0.8)
    x = path.interpolate(g.sample(n), randn(n, 3), s)
    return flow_of(g), g, x, s[:, None], t[:, None]


def acceleration(g, x, s, t):
    """d^2 F(x, s, t) / dt^2, by automatic differentiation of the flow map in its target."""

    def rate(u):
        return torch.func.jvp(lambda w: g.flow_map(x, s, w), (u,), (torch.ones_like(u),))[1]

    return torch.func.jvp(rate, (t,), (torch.ones_like(t),))[1]


def share(ratio):
    """A point of time part of the way from s to t."""
    return lambda s, t: s + ratio * (t - s)


def has_first_order(residual, order, leading, small=1e-3):
    """residual(h) = leading h^order (1 + O(h)): the ratio at two steps, and the factor itself."""
    coarse, fine = residual(2 * small), residual(small)
    assert torch.log2(coarse.norm() / fine.norm()) == pytest.approx(order, abs=0.02)
    assert (fine / small**order - leading).norm() < 20 * small * leading.norm()


# --- order in the step ------------------------------------------------------------------------------------------------


@ALL
def test_an_eulerian_step_is_off_by_the_curvature_of_the_path(path):
    """a^(3/2) (t - s)/2 grad_x F . a(x, s): second order in the step, over the square root of its ratio."""
    flow, g, x, s, t = case(path)
    leading = (t - s) / 2 * jacobian_product(g, x, s, t, acceleration(g, x, s, s))
    has_first_order(lambda h: eulerian_step(flow, g, x, s, t, ratio=h), 1.5, leading)


@ALL
def test_a_lagrangian_step_is_off_by_the_curvature_of_the_path(path):
    """-h^2 / (2 |s - t|) a(F(x, s, t), t), from either side."""
    flow, g, x, s, t = case(path)
    leading = -acceleration(g, x, s, t) / (2 * (s - t))
    has_first_order(lambda h: lagrangian_step(flow, g, x, s, t, step=h), 2, leading)


@ALL
def test_a_lagrangian_step_never_passes_the_source(path):
    """A step longer than the interval is the interval: one Euler step. On the diagonal it is the diffusion rule."""
    flow, g, x, s, t = case(path)
    residual = lagrangian_step(flow, g, x, s, t, step=2.0)
    torch.testing.assert_close(residual, g.average_velocity(x, s, t) - g.velocity(x, s))
    other = flow_of(fm.exact.Gaussian(torch.zeros(3).double(), 0.8, path=path))
    diffusion = consistency.diffusion(other, g, x, s, s)
    torch.testing.assert_close(lagrangian_step(other, g, x, s, s, step=0.04), diffusion)


@ALL
def test_same_endpoint_with_euler_is_off_by_the_curvature_of_the_path(path):
    """h^2/2 (t - s)^2 grad_x F . a(x, s), the error of the step carried to the end."""
    flow, g, x, s, t = case(path)
    leading = (t - s) ** 2 / 2 * jacobian_product(g, x, s, t, acceleration(g, x, s, s))
    has_first_order(lambda h: same_endpoint(flow, g, x, s, t, to=share(h)), 2, leading)


@ALL
def test_same_endpoint_with_heun_is_of_third_order(path):
    flow, g, x, s, t = case(path)
    errors = [same_endpoint(flow, g, x, s, t, to=share(h), solver=steps.heun).norm() for h in (0.02, 0.01)]
    assert torch.log2(errors[0] / errors[1]) == pytest.approx(3, abs=0.15)


@ALL
@pytest.mark.parametrize("ratio", [0.1, 0.6, 1.0])
def test_exact_steps_leave_nothing(path, ratio):
    flow, g, x, s, t = case(path)
    there = {"to": share(ratio), "solver": steps.jump}
    assert same_endpoint(flow, g, x, s, t, **there).abs().max() < 1e-12
    assert same_endpoint(flow, g, x, s, t, jumps=g, **there).abs().max() < 1e-12
    assert same_endpoint_seen_at_data(flow, g, x, s, t, outer=g, **there).abs().max() < 1e-12


@pytest.mark.parametrize("rule", [eulerian_step, lagrangian_step, same_endpoint])
def test_a_straight_path_leaves_nothing_at_any_step(rule):
    """Data at one point: the velocity is constant along the path."""
    g = fm.exact.Gaussian(torch.tensor([0.3, -1.0, 0.5]).double(), 1e-12)
    s, t = (time[:, None] for time in times(16, low=0.2))
    x, flow = g.path.interpolate(g.sample(16), randn(16, 3), s[:, 0]), flow_of(g)
    for h in (0.05, 0.5):
        option = {eulerian_step: {"ratio": h}, lagrangian_step: {"step": h}, same_endpoint: {"to": share(h)}}[rule]
        assert rule(flow, g, x, s, t, **option).abs().max() < 1e-9


# --- the limits of an Eulerian step -----------------------------------------------------------------------------------


def wrong_case(n=12):
    """A network, a pair of data and noise, and a state on its path."""
    x0, eps, (s, t) = batch(n)
    flow, pair = fm.FlowMap(Network()), Pair(x0, eps, PATHS["linear"], {})
    return flow, pair, pair.path.interpolate(x0, eps, s), s[:, None], t[:, None]


def gradient(value, flow):
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(flow.parameters()))])


def test_a_whole_eulerian_step_is_flow_matching_along_the_interval():
    flow, pair, x, s, t = wrong_case()
    residual = eulerian_step(flow, Conditional(pair), x, s, t, ratio=1.0)
    torch.testing.assert_close(residual, flow.average_velocity(x, s, t) - (pair.eps - pair.x0))


def test_a_short_eulerian_step_is_meanflow():
    """For any flow, residual / sqrt(a) goes to MeanFlow's residual and the gradient of its square to MeanFlow's."""
    flow, pair, x, s, t = wrong_case()
    expected = consistency.eulerian(flow, Conditional(pair), x, s, t)
    slope = gradient(expected.square().sum(), flow)
    errors, slopes = [], []
    for a in (2e-4, 1e-4):
        residual = eulerian_step(flow, Conditional(pair), x, s, t, ratio=a)
        errors.append((residual / a**0.5 - expected).norm())
        slopes.append((gradient(residual.square().sum(), flow) - slope).norm())
    for coarse, fine in (errors, slopes):
        assert torch.log2(coarse / fine).item() == pytest.approx(1, abs=0.02)
    assert errors[1] < 1e-3 * expected.norm() and slopes[1] < 1e-3 * slope.norm()


def test_the_gradient_of_an_eulerian_step_is_soflows():
    """Twice that of <V, sg[D]>,  D = (F(x_s, s, t) - F(x_m, m, t))/(m - s)."""
    flow, pair, x, s, t = wrong_case()
    u, a = pair.eps - pair.x0, 0.3
    m = s + a * (t - s)
    D = (flow(x, s, t) - flow(x + (m - s) * u, m, t)) / (m - s)
    V = flow.average_velocity(x, s, t)
    found = gradient(eulerian_step(flow, Conditional(pair), x, s, t, ratio=a).square().sum(), flow)
    torch.testing.assert_close(found, 2 * gradient((V * D.detach()).sum(), flow))


# --- sources, distances, gradients ------------------------------------------------------------------------------------


def test_conditional_velocities_are_refused_at_the_end_of_a_jump():
    flow, pair, x, s, t = wrong_case()
    reason = r"Lagrangian rule evaluates the velocity at F\(x, s, t\), where a jump has led"
    with pytest.raises(ValueError, match=reason):
        lagrangian_step(flow, Conditional(pair), x, s, t, step=0.1)
    with pytest.raises(ValueError, match=reason):
        fm.Term(partial(lagrangian_step, step=0.1), conditional)
    for source in (own, averaged(0.9), fixed(gaussian())):
        fm.Term(partial(lagrangian_step, step=0.1), source)
    fm.Term(partial(eulerian_step, ratio=0.1), conditional)
    fm.Term(partial(same_endpoint, to=share(0.1)), conditional)


def test_the_right_side_may_have_jumps_of_its_own():
    flow, pair, x, s, t = wrong_case()
    other, teacher, a = fm.FlowMap(Network(seed=1)), Conditional(pair), 0.3
    u, m = pair.eps - pair.x0, s + a * (t - s)
    x_m = x + (m - s) * u
    torch.testing.assert_close(
        eulerian_step(flow, teacher, x, s, t, ratio=a, jumps=other),
        (flow.average_velocity(x, s, t) - a * u - (1 - a) * other.average_velocity(x_m, m, t)) / a**0.5,
    )
    torch.testing.assert_close(
        same_endpoint(flow, teacher, x, s, t, to=share(a), jumps=other), flow(x, s, t) - other(x_m, m, t)
    )


def test_another_distance_sees_both_ends():
    flow, pair, x, s, t = wrong_case()
    outer, m, data = fm.FlowMap(Network(seed=1)), share(0.3)(s, t), torch.zeros_like(t)
    x_m = x + (m - s) * (pair.eps - pair.x0)
    both = {"to": share(0.3), "compare": lambda here, there: torch.stack([here, there], 1)}
    found = same_endpoint(flow, Conditional(pair), x, s, t, **both)
    torch.testing.assert_close(found, torch.stack([flow(x, s, t), flow(x_m, m, t)], 1))
    found = same_endpoint_seen_at_data(flow, Conditional(pair), x, s, t, outer=outer, **both)
    expected = outer(flow(x, s, t), t, data), outer(flow(x_m, m, t), t, data)
    torch.testing.assert_close(found, torch.stack(expected, 1))


def test_gradients_reach_the_jump_from_the_source_alone():
    flow, pair, x, s, t = wrong_case()
    teacher, direction = Conditional(pair), randn(12, 3)
    V = gradient((flow.average_velocity(x, s, t) * direction).sum(), flow)
    F = gradient((flow(x, s, t) * direction).sum(), flow)
    outer = frozen(fm.FlowMap(Network(seed=1)), pair)
    seen = gradient((outer(flow(x, s, t), t, torch.zeros_like(t)) * direction).sum(), flow)
    for residual, expected in (
        (eulerian_step(flow, teacher, x, s, t, ratio=0.25), 2 * V),  # over sqrt(1/4)
        (eulerian_step(flow, flow, x, s, t, ratio=0.25), 2 * V),
        (lagrangian_step(flow, flow, x, s, t, step=0.1), V),
        (same_endpoint(flow, flow, x, s, t, to=share(0.3)), F),
        (same_endpoint_seen_at_data(flow, flow, x, s, t, to=share(0.3), outer=outer), seen),
    ):
        torch.testing.assert_close(gradient((residual * direction).sum(), flow), expected)


# --- solvers and random operations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [steps.euler, steps.heun, steps.jump])
def test_several_steps_are_steps_in_a_row(solver):
    _, g, x, s, t = case(PATHS["trigonometric"])
    k = 3
    expected = x
    for i in range(k):
        expected = solver(g, expected, ((k - i) * s + i * t) / k, ((k - i - 1) * s + (i + 1) * t) / k)
    torch.testing.assert_close(several(solver, k)(g, x, s, t), expected)
    torch.testing.assert_close(several(solver, 1)(g, x, s, t), solver(g, x, s, t))
    if solver is steps.jump:
        torch.testing.assert_close(expected, g.flow_map(x, s, t))


class Dropping(nn.Module):
    """Nothing but dropout: it returns the masks that it drew."""

    def __init__(self):
        super().__init__()
        self.masks = []

    def forward(self, x, s, t):
        self.masks.append(nn.functional.dropout(torch.ones_like(x), 0.5))
        return self.masks[-1]


@pytest.mark.parametrize("source", ["conditional", "own"])
@pytest.mark.parametrize("rule", [eulerian_step, lagrangian_step, same_endpoint, same_endpoint_seen_at_data])
def test_jumps_that_are_compared_drop_the_same_units(rule, source):
    """Whatever the teacher draws, which may be the flow itself."""
    _, pair, x, s, t = wrong_case()
    flow = fm.FlowMap(Dropping())
    teacher = Conditional(pair) if source == "conditional" and rule is not lagrangian_step else flow
    outer = fm.FlowMap(Dropping())
    option = {
        eulerian_step: {"ratio": 0.3},
        lagrangian_step: {"step": 0.05},
        same_endpoint: {"to": share(0.3)},
        same_endpoint_seen_at_data: {"to": share(0.3), "outer": outer},
    }[rule]
    rule(flow, teacher, x, s, t, **option)
    masks = flow.network.masks
    first, second = (masks[0], masks[1]) if rule is lagrangian_step else (masks[-2], masks[-1])
    assert torch.equal(first, second) and 0 < (first == 0).sum() < first.numel()
    assert all(torch.equal(outer.network.masks[0], mask) for mask in outer.network.masks)
