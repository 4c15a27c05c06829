"""Velocity sources: the conditional one, the flow's own, frozen, averaged, and given teachers."""

import copy

import pytest
import torch

import flowmaps as fm
from flowmaps import velocity
from tests.methods.support import Network, batch
from tests.oracles import PATHS, gaussian, mixture, quantile, randn

X0, EPS, (S, T) = batch()


def pair(path=PATHS["linear"], condition=None):
    return velocity.Pair(X0, EPS, path, condition or {})


def step(flow, seed=0):
    """Move the weights as an optimizer does, in place."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in flow.parameters():
            p += torch.randn_like(p)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_the_conditional_velocity_is_the_rate_of_the_pair(path):
    s = S.clone().requires_grad_()
    rate = [torch.autograd.grad(path.interpolate(X0, EPS, s)[:, i].sum(), s)[0] for i in range(3)]
    torch.testing.assert_close(velocity.conditional(None, pair(path)).velocity(7 * X0, s), torch.stack(rate, 1))
    assert velocity.is_conditional(velocity.conditional) and velocity.is_conditional(velocity.Conditional(pair()))
    assert not velocity.is_conditional(velocity.own)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_conditional_jump_stays_on_the_path_of_the_pair(path):
    """From x_s to x_t, in both directions; from elsewhere it is the same shift."""
    teacher = velocity.conditional(None, pair(path))
    x_s, x_t = path.interpolate(X0, EPS, S), path.interpolate(X0, EPS, T)
    torch.testing.assert_close(teacher(x_s, S, T), x_t)
    torch.testing.assert_close(teacher(x_s + 1, S[:, None], T[:, None]), x_t + 1)
    torch.testing.assert_close(teacher(x_s, S, S), x_s)
    torch.testing.assert_close(teacher(path.interpolate(X0, EPS, 1.0), 1.0, 0.0), X0)
    half = teacher(x_s.bfloat16(), S, T)
    assert half.dtype == torch.bfloat16


def test_the_conditional_velocity_averages_to_the_velocity():
    """Of 200 000 pairs those that meet near a point: four standard errors, and a little for the width of "near"."""
    m, s, n = mixture(), 0.5, 200_000
    x0, eps = m.sample(n, torch.Generator().manual_seed(3)), randn(n, 1, seed=4)
    x, u = m.path.interpolate(x0, eps, s), m.path.velocity(x0, eps, s)
    for p in (0.2, 0.5, 0.9):
        centre = quantile(m, torch.tensor([p], dtype=torch.float64), s)[:, None]
        near = ((x - centre).abs() < 0.02)[:, 0]
        error = u[near].std() / near.sum() ** 0.5
        assert (u[near].mean() - m.velocity(centre, s)).abs() < 4 * error + 0.01


def test_own_is_the_flow():
    flow = fm.FlowMap(Network())
    assert velocity.own(flow, pair()) is flow


def test_frozen_sees_the_weights_of_the_moment():
    flow = fm.FlowMap(Network())
    frozen = velocity.frozen(flow, pair())
    torch.testing.assert_close(frozen(X0, S, T), flow(X0, S, T))
    step(flow)
    torch.testing.assert_close(velocity.frozen(flow, pair())(X0, S, T), flow(X0, S, T))


def test_an_average_moves_once_for_each_change_of_the_weights():
    flow, target = fm.FlowMap(Network()), velocity.averaged(0.9)
    target.follow(flow)
    start = weights(flow)
    torch.testing.assert_close(weights(target), start, rtol=0, atol=0)
    step(flow)
    target.follow(flow)
    once = 0.9 * start + 0.1 * weights(flow)
    torch.testing.assert_close(weights(target), once)
    for _ in range(3):
        target.follow(flow.given(label=1))  # another view of the same weights
    torch.testing.assert_close(weights(target), once)
    step(flow, seed=1)
    target.follow(flow)
    torch.testing.assert_close(weights(target), 0.9 * once + 0.1 * weights(flow))
    torch.testing.assert_close(target(flow, pair()).velocity(X0, S), target.network(X0, S, S))


@pytest.mark.parametrize("fused", [False, True])
def test_a_method_moves_its_average_with_optimizer_steps_not_with_losses(fused):
    """Fused optimizers change the weights without a trace in their version counters."""
    flow, method = fm.FlowMap(Network()), fm.methods.shortcut(ema=0.5)
    optimizer = torch.optim.AdamW(flow.parameters(), lr=0.1, fused=fused)
    expected = weights(flow)
    for i in range(3):
        if i:
            expected = 0.5 * expected + 0.5 * weights(flow)
        method.loss(flow, X0)
        loss = method.loss(flow, X0)
        torch.testing.assert_close(weights(method), expected)
        loss.value.backward()
        optimizer.step()


def test_an_average_starts_anew_with_another_flow():
    target, first, second = velocity.averaged(0.9), fm.FlowMap(Network(seed=1)), fm.FlowMap(Network(seed=2))
    target.follow(first)
    target.follow(second)
    assert torch.equal(weights(target), weights(second))


def test_an_average_copies_buffers():
    class Normed(torch.nn.BatchNorm1d):
        def forward(self, x, s, t):
            return super().forward(x)

    network = Normed(3).double()
    target, flow = velocity.averaged(0.9), fm.FlowMap(network)
    target.follow(flow)
    network(X0, None, None)
    step(flow)
    target.follow(flow)
    assert torch.equal(target.network.running_mean, network.running_mean)
    assert target.network.num_batches_tracked == 1


@pytest.mark.parametrize("flow_first", [True, False])
def test_a_restored_average_goes_on_as_if_never_stopped(flow_first):
    flow, method = fm.FlowMap(Network()), fm.methods.shortcut(ema=0.5)
    for seed in range(3):
        method.loss(flow, X0)
        step(flow, seed)
    saved = copy.deepcopy((flow.state_dict(), method.state_dict()))
    method.loss(flow, X0)

    other, again = fm.FlowMap(Network(seed=5)), fm.methods.shortcut(ema=0.5)
    if flow_first:
        other.load_state_dict(saved[0])
    again.follow(other)
    again.load_state_dict(saved[1])
    other.load_state_dict(saved[0])
    again.loss(other, X0)
    assert torch.equal(weights(again), weights(method))
    again.loss(other, X0)
    assert torch.equal(weights(again), weights(method))


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_outside_the_unit_interval_is_refused(decay):
    with pytest.raises(ValueError, match=r"\[0, 1\), got|must be finite, got nan"):
        velocity.averaged(decay)


def test_a_teacher_needs_a_velocity():
    with pytest.raises(TypeError, match="none was given"):
        velocity.fixed(None)
    with pytest.raises(TypeError, match="Linear has no such method"):
        velocity.fixed(torch.nn.Linear(2, 2))


def test_a_teacher_that_cannot_answer_is_named():
    small = velocity.fixed(fm.FlowMap(fm.networks.MLP(2, width=8, depth=1)))(None, pair())
    with pytest.raises(ValueError, match=r"the teacher refuses this call: .* x of shape \(B, 2\), got \(12, 3\)"):
        small.velocity(X0, S)
    with pytest.raises(ValueError, match="the teacher refuses this call: .*takes no label"):
        velocity.fixed(fm.FlowMap(fm.networks.MLP(3).double()))(None, pair(condition={"label": S})).average_velocity(
            X0, S, T
        )

    class Narrow:
        def velocity(self, x, t):
            return x[:, :1]

    with pytest.raises(ValueError, match=r"the teacher must return the shape of x, \(12, 3\), but .* \(12, 1\)"):
        velocity.fixed(Narrow())(None, pair()).velocity(X0, S)


def test_a_teacher_on_another_path_is_refused():
    """Also one whose path is of the same kind; a teacher that does not say is taken at its word."""
    exact = gaussian(fm.path.VariancePreserving(0.1, 6.0))
    for source in (velocity.fixed(exact), velocity.by_velocity(exact), velocity.Phased(velocity.fixed(exact), 2)):
        for path in (PATHS["linear"], fm.path.VariancePreserving(0.1, 20.0)):
            with pytest.raises(ValueError, match=r"teacher is on the path .*0.1.*6.*both need the same"):
                source(None, pair(path))
        same = source(None, pair(fm.path.VariancePreserving(0.1, 6.0)))
        torch.testing.assert_close(same.velocity(X0, S), exact.velocity(X0, S))

    class Velocity:
        def velocity(self, x, t):
            return x

    assert torch.equal(velocity.fixed(Velocity())(None, pair(PATHS["trigonometric"])).velocity(X0, S), X0)


def test_a_teacher_gets_the_condition_where_it_takes_one():
    class Label(torch.nn.Module):
        def forward(self, x, s, t, label):
            return 0 * x + label[:, None]

    label = torch.arange(12).double()
    teacher = velocity.fixed(fm.FlowMap(Label()))(None, pair(condition={"label": label}))
    torch.testing.assert_close(teacher.velocity(X0, S), label[:, None].expand(12, 3))
    exact = velocity.fixed(gaussian())(None, pair(condition={"label": label}))
    torch.testing.assert_close(exact.velocity(X0, S), gaussian().velocity(X0, S))


def test_a_teacher_without_jumps_makes_them_by_euler_steps():
    class Velocity:
        def velocity(self, x, t):
            return gaussian().velocity(x, t)

    teacher = velocity.fixed(Velocity())(None, pair())
    torch.testing.assert_close(teacher.average_velocity(X0, S, T), gaussian().velocity(X0, S))
    jumps = velocity.fixed(gaussian())(None, pair())
    torch.testing.assert_close(jumps.average_velocity(X0, S, T), gaussian().average_velocity(X0, S, T))
