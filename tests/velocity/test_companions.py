"""Sources with weights of their own: averages with schedules, teachers by phases, networks beside the flow."""

import copy

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.consistency import compositional, diffusion
from flowmaps.velocity import Auxiliary, Companion, Discriminator, Pair, Phased, averaged, by_velocity, fixed
from tests.methods.support import Network, batch
from tests.oracles import PATHS, gaussian

X0, EPS, (S, T) = batch()
PAIR = Pair(X0, EPS, PATHS["linear"], {})


def move(flow, seed=0):
    """Move the weights as an optimizer does, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in flow.network.parameters():
            p += torch.randn(p.shape, generator=generator, dtype=p.dtype)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def alike(module, other):
    return torch.equal(weights(module), weights(other))


class Labelled(Network):
    """A network that is told a label."""

    def forward(self, x, s, t, label):
        return super().forward(x, s, t) + label[:, None]


# --- what all share ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: averaged(0.9), lambda: Phased(fixed(gaussian()), 3), Auxiliary])
def test_a_network_is_made_as_a_copy_of_the_flows_once(make):
    companion, flow = make(), fm.FlowMap(Network())
    assert isinstance(companion, Companion) and companion.network is None and not list(companion.parameters())
    companion.make(flow)
    made = companion.network
    assert alike(made, flow) and made is not flow.network
    move(flow)
    companion.make(flow)
    assert companion.network is made and not alike(made, flow)
    assert {p.requires_grad for p in made.parameters()} == {isinstance(companion, Auxiliary)}


@pytest.mark.parametrize("make", [lambda: averaged(0.9), lambda: Phased(fixed(gaussian()), 3), Auxiliary])
def test_a_companion_is_no_part_of_the_flow_and_the_flow_none_of_it(make):
    companion, flow = make(), fm.FlowMap(Network())
    companion.follow(flow, 0.0)
    bound = companion(flow, PAIR)
    if isinstance(companion, Auxiliary):
        assert bound.network is companion.network
    assert flow.network is not companion.network and len(list(flow.parameters())) == 4
    mine = {id(p) for p in companion.parameters()}
    assert len(mine) == 4 and not mine & {id(p) for p in flow.parameters()}


def test_a_network_without_weights_has_nothing_to_average():
    class Still(nn.Module):
        def forward(self, x, s, t):
            return 0 * x

    flow = fm.FlowMap(Still())
    for companion in (averaged(0.9), Phased(fixed(gaussian()), 2), Auxiliary()):
        for progress in (0.0, 0.6, 1.0):
            companion.follow(flow, progress)
        assert companion.network is not flow.network and list(companion.parameters()) == []
        companion.begin(flow)


# --- averages ---------------------------------------------------------------------------------------------------------


def test_a_decay_may_be_a_function_of_the_progress():
    flow, target = fm.FlowMap(Network()), averaged(lambda progress: 0.5 + 0.4 * progress)
    target.follow(flow, 0.0)
    expected = weights(flow)
    for seed, progress in enumerate((0.0, 0.25, 1.0)):
        move(flow, seed)
        target.follow(flow, progress)
        decay = 0.5 + 0.4 * progress
        expected = decay * expected + (1 - decay) * weights(flow)
        torch.testing.assert_close(weights(target), expected)


def test_a_method_gives_its_progress_to_the_decay():
    flow, seen = fm.FlowMap(Network()), []
    target = averaged(lambda progress: seen.append(progress) or 0.0)
    method = fm.Method(fm.Term(compositional, target))
    for progress in (0.0, 0.25, 0.75):
        method.loss(flow, X0, progress=progress)
        move(flow)
    assert seen == [0.25, 0.75] and not alike(target, flow)  # the first loss has nothing to follow yet
    method.follow(flow, 1.0)
    assert seen == [0.25, 0.75, 1.0] and alike(target, flow)


def test_an_average_that_begins_is_the_flow_of_that_moment():
    flow, target = fm.FlowMap(Network()), averaged(0.9)
    target.follow(flow)
    move(flow)
    target.begin(flow)
    assert alike(target, flow)
    start = weights(flow)
    target.follow(flow)
    assert alike(target, flow)
    move(flow, 1)
    target.follow(flow)
    torch.testing.assert_close(weights(target), 0.9 * start + 0.1 * weights(flow))


def test_an_average_has_no_gradient():
    flow, target = fm.FlowMap(Network()), averaged(0.9)
    target.follow(flow)
    x = X0.clone().requires_grad_()
    target(flow, PAIR)(x, S, T).square().sum().backward()
    assert x.grad.abs().sum() > 0 and all(p.grad is None for p in (*target.parameters(), *flow.parameters()))


# --- phases -----------------------------------------------------------------------------------------------------------


def test_the_first_phase_has_the_given_teacher_and_the_others_the_flow_when_they_began():
    flow, teacher, g = fm.FlowMap(Network()), Phased(fixed(gaussian()), 3), gaussian()
    began = {}
    for step in range(30):
        teacher.follow(flow, step / 30)
        phase = step // 10
        began.setdefault(phase, copy.deepcopy(flow))
        expected = g if phase == 0 else began[phase]
        bound = teacher(flow, PAIR)
        torch.testing.assert_close(bound.velocity(X0, S), expected.velocity(X0, S), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(bound(X0, S, T), expected(X0, S, T), rtol=1e-12, atol=1e-12)
        assert int(teacher.phase) == phase
        move(flow, step)


@pytest.mark.parametrize("stopped", [5, 9, 10, 11, 25])
def test_a_run_goes_on_with_the_teacher_of_its_phase(stopped):
    """Stopped after that many steps of 30, in three phases, and restored around another flow."""
    flow, whole = fm.FlowMap(Network()), fm.Method(fm.Term(compositional, Phased(fixed(gaussian()), 3)))
    for step in range(stopped):
        whole.follow(flow, step / 30)
        move(flow, step)
    again, other = fm.Method(fm.Term(compositional, Phased(fixed(gaussian()), 3))), fm.FlowMap(Network(seed=5))
    again.follow(other)
    again.load_state_dict(copy.deepcopy(whole.state_dict()))
    other.load_state_dict(flow.state_dict())
    for step in range(stopped, 30):
        losses = [
            method.loss(own, X0, noise=EPS, times=(S, T), progress=step / 30).value
            for method, own in ((whole, flow), (again, other))
        ]
        assert torch.equal(*losses)
        move(flow, step), move(other, step)


def test_a_progressive_teacher_that_begins_has_the_first_phase_again():
    flow, teacher = fm.FlowMap(Network()), Phased(fixed(gaussian()), 2)
    teacher.follow(flow, 0.9)
    teacher.begin(flow)
    torch.testing.assert_close(teacher(flow, PAIR).velocity(X0, S), gaussian().velocity(X0, S))
    move(flow)
    teacher.follow(flow, 0.5)
    assert alike(teacher, flow)


def test_one_phase_is_the_given_teacher_for_good():
    flow, teacher = fm.FlowMap(Network()), Phased(fixed(gaussian()), 1)
    teacher.follow(flow, 1.0)
    torch.testing.assert_close(teacher(flow, PAIR).velocity(X0, S), gaussian().velocity(X0, S))


@pytest.mark.parametrize("phases", [0, -1])
def test_a_progressive_method_needs_a_phase(phases):
    with pytest.raises(ValueError, match=f"phases must be at least 1, got {phases}"):
        Phased(fixed(gaussian()), phases)


def test_a_flow_that_is_its_own_teacher_is_told_the_condition_of_the_rows():
    flow, label = fm.FlowMap(Labelled()), torch.arange(12).double()
    teacher = Phased(fixed(gaussian()), 2)
    teacher.follow(flow, 0.5)
    told = teacher(flow.given(label=label), Pair(X0, EPS, flow.path, {"label": label}))
    torch.testing.assert_close(told.velocity(X0, S), flow.given(label=label).velocity(X0, S))


def test_by_velocity_a_teacher_makes_euler_steps():
    g, pair = gaussian(PATHS["trigonometric"]), Pair(X0, EPS, PATHS["trigonometric"], {})
    teacher = by_velocity(g)(None, pair)
    torch.testing.assert_close(teacher.average_velocity(X0, S, T), g.velocity(X0, S))
    torch.testing.assert_close(teacher(X0, S, T), X0 + (T - S)[:, None] * g.velocity(X0, S))
    assert not torch.allclose(fixed(g)(None, pair)(X0, S, T), teacher(X0, S, T))
    flow = fm.FlowMap(Network(), path=pair.path)
    torch.testing.assert_close(by_velocity(flow)(None, pair).average_velocity(X0, S, T), flow.velocity(X0, S))
    with pytest.raises(TypeError, match="none was given"):
        by_velocity(None)


# --- networks beside the flow -----------------------------------------------------------------------------------------


def test_an_auxiliary_flow_is_bound_with_live_weights():
    flow, auxiliary = fm.FlowMap(Network()), Auxiliary()
    auxiliary.follow(flow)
    move(flow)
    auxiliary.follow(flow, 0.5)
    move(auxiliary, 1)
    bound = auxiliary(flow, PAIR)
    torch.testing.assert_close(bound.velocity(X0, S), auxiliary.network(X0, S, S))
    bound.velocity(X0, S).square().sum().backward()
    assert all(p.grad is not None for p in auxiliary.parameters()) and all(p.grad is None for p in flow.parameters())


def test_an_auxiliary_flow_starts_from_a_given_map_with_its_output_and_path():
    start = fm.FlowMap(Network(seed=3), fm.Endpoint(), PATHS["trigonometric"])
    start.requires_grad_(False)
    flow, auxiliary = fm.FlowMap(Network()), Auxiliary(start)
    auxiliary.follow(flow)
    bound = auxiliary(flow, PAIR)
    torch.testing.assert_close(bound.velocity(X0, S), start.velocity(X0, S))
    assert bound.path is start.path and all(p.requires_grad for p in auxiliary.parameters())
    move(auxiliary)
    assert not alike(auxiliary, start) and not list(start.parameters())[0].requires_grad
    auxiliary.begin(flow)
    assert not alike(auxiliary, flow)


def test_an_auxiliary_flow_is_told_the_condition():
    label = torch.arange(12).double()
    pair = Pair(X0, EPS, PATHS["linear"], {"label": label})
    flow = fm.FlowMap(Labelled())
    for auxiliary, like in (
        (Auxiliary(), flow),
        (Auxiliary(fm.FlowMap(Labelled(seed=2))), fm.FlowMap(Labelled(seed=2))),
    ):
        auxiliary.follow(flow)
        found = auxiliary(flow.given(label=label), pair).velocity(X0, S)
        torch.testing.assert_close(found, like.given(label=label).velocity(X0, S))


@pytest.mark.parametrize("limit", [{"only_source": 1.0}, {"only_target": 0.0}])
def test_an_auxiliary_flow_knows_the_velocity_at_all_times(limit):
    """Where the flow is a partial map, which stays partial."""
    for start in (None, fm.FlowMap(Network(), **limit)):
        flow, auxiliary = fm.FlowMap(Network(), **limit), Auxiliary(start)
        auxiliary.follow(flow)
        torch.testing.assert_close(auxiliary(flow, PAIR).velocity(X0, S), flow.network(X0, S, S))
        for partial in filter(None, (flow, start)):
            with pytest.raises(ValueError, match="this is a partial flow map"):
                partial.velocity(X0, S)


def test_an_auxiliary_flow_that_begins_is_the_flow_of_that_moment():
    flow, auxiliary = fm.FlowMap(Network()), Auxiliary()
    auxiliary.follow(flow)
    made = auxiliary.network
    move(flow)
    auxiliary.begin(flow)
    assert auxiliary.network is made and alike(auxiliary, flow)


def test_an_auxiliary_network_has_the_optimizer_that_it_is_given():
    def sgd(weights):
        return torch.optim.SGD(weights, lr=0.1)

    assert Auxiliary(optimizer=sgd).optimizer is sgd and Auxiliary().optimizer is None
    assert Discriminator(nn.Linear(3, 1), sgd).optimizer is sgd


def test_a_discriminator_is_the_network_that_it_is_given():
    network, flow = nn.Linear(3, 1).double(), fm.FlowMap(Network())
    judge = Discriminator(network)
    before = weights(network)
    judge.follow(flow)
    judge.begin(flow)
    assert judge(flow, PAIR) is network and torch.equal(weights(judge), before)
    method = fm.Method(fm.Term(diffusion, sources={"critic": judge}))
    assert method.auxiliaries == [judge] and {id(p) for p in method.parameters()} == {
        id(p) for p in network.parameters()
    }


def test_one_backward_pass_serves_the_flow_and_the_network_beside_it():
    """Each gradient is that of its own loss alone."""

    def chase(flow, teacher, x, s, t, *, helper):
        learned = helper.velocity(x, s)
        return {"chase": flow.velocity(x, s) - learned.detach(), "helper": learned - teacher.velocity(x, s)}

    flow, auxiliary = fm.FlowMap(Network()), Auxiliary(fm.FlowMap(Network(seed=1)))
    method = fm.Method(fm.Term(chase, sources={"helper": auxiliary}))
    method.loss(flow, X0, noise=EPS, times=(S, S)).value.backward()
    x, u, helper = PATHS["linear"].interpolate(X0, EPS, S), EPS - X0, auxiliary(flow, PAIR)
    losses = (
        (flow, (flow.velocity(x, S) - helper.velocity(x, S).detach()).square().mean()),
        (auxiliary, (helper.velocity(x, S) - u).square().mean()),
    )
    for owner, loss in losses:
        expected = torch.autograd.grad(loss, list(owner.parameters()))
        torch.testing.assert_close([p.grad for p in owner.parameters()], list(expected))
