"""Turns: whose step it is, what moves in it, and how a cycle goes on after a stop."""

import itertools

import pytest
import torch

import flowmaps as fm
from flowmaps.consistency import diffusion
from flowmaps.draws import Rows
from flowmaps.method.term import OnPolicy, Restarted
from flowmaps.velocity import Auxiliary, Pair, averaged, fixed
from tests.oracles import gaussian
from tests.training.support import GAUSSIAN, QUIET, alternating, linear_flow


def weights(module):
    return torch.cat([weight.detach().flatten() for weight in module.parameters()])


def steps_of(optimizer):
    return {int(entry["step"]) for entry in optimizer.state.values()}


def named(name):
    return fm.Method(fm.Term(diffusion, name=name), name=name)


def test_a_cycle_gives_each_method_its_steps():
    flow, turns = linear_flow(), fm.Turns((2, named("a")), (1, named("b")), (3, named("c")), name="mine")
    names = [name for _ in range(12) for name in turns.loss(flow, torch.randn(4, 2)).terms]
    assert "".join(names) == "aabccc" * 2 and turns.shares == (1 / 3, 1 / 6, 1 / 2)
    assert repr(turns) == "mine(a(a: 1), b(b: 1), c(c: 1))"


def test_after_n_cycles_the_critic_has_made_its_steps_and_the_flow_one_each():
    """Spec A17. An optimizer without gradients makes no step, also no step of momentum."""
    method, flow = alternating(5), linear_flow()
    run = fm.train(flow, method, GAUSSIAN, steps=18, **QUIET)
    seen = []
    for state in run:
        main, critic = run.job.learner.optimizers.groups
        seen.append((weights(flow), weights(method.auxiliaries[0])))
        average = run.job.learner.average.updates
        assert average == state.step // 6  # the average of the weights moves with them alone
    assert steps_of(main.optimizer) == {3} and steps_of(critic.optimizer) == {15}
    for step, ((flow_0, critic_0), (flow_1, critic_1)) in enumerate(itertools.pairwise(seen), start=2):
        moves = step % 6 == 0
        assert torch.equal(flow_0, flow_1) != moves and torch.equal(critic_0, critic_1) == moves


def test_an_averaged_target_moves_once_for_each_step_of_the_flow():
    flow, target = linear_flow(), averaged(0.5)
    turns = fm.Turns((3, named("a")), (1, fm.Method(fm.Term(fm.consistency.lagrangian, target))))
    start = [p.detach().clone() for p in flow.parameters()]
    turns.follow(flow)
    with torch.no_grad():
        for p in flow.parameters():
            p += 1
    for moved in (True, False, False, False):
        turns.follow(flow, moved=moved)
    for average, before in zip(target.parameters(), start, strict=True):
        torch.testing.assert_close(average, before + 0.5)


def test_turns_are_a_stage_but_hold_no_stages():
    staged = fm.Stages((0.5, named("first")), (0.5, fm.Turns((1, named("a")), (2, named("b")))))
    names = [name for k in range(8) for name in staged.loss(linear_flow(), torch.randn(4, 2), progress=k / 8).terms]
    assert names == ["first"] * 4 + ["a", "b", "b", "a"]
    staged.begin(linear_flow())
    assert list(staged.loss(linear_flow(), torch.randn(4, 2), progress=0.9).terms) == ["a"]
    with pytest.raises(ValueError, match="a turn is one method, and stages has several"):
        fm.Turns((1, staged))


@pytest.mark.parametrize(
    ("turns", "error", "message"),
    [
        ((), ValueError, r"Turns needs at least one \(share, method\)"),
        (((0, named("a")),), ValueError, "turn must be at least 1, got 0"),
        (((0.5, named("a")),), TypeError, "turn must be a whole number"),
        ((named("a"),), TypeError, r"a turn is \(share, method\)"),
    ],
)
def test_a_turn_is_a_number_of_steps_and_a_method(turns, error, message):
    with pytest.raises(error, match=message):
        fm.Turns(*turns)


def test_turns_are_guided_turn_by_turn():
    turns = fm.Turns((2, fm.methods.meanflow()), (1, fm.methods.imf()))
    source = fm.guidance.meanflow(null={"label": 3})
    guided = fm.guidance.guided(turns, source)
    assert isinstance(guided, fm.Turns) and guided.counts == (2, 1) and len(guided.terms) == len(turns.terms)


def test_on_policy_states_are_those_of_the_sampler():
    """Each row stops at its level on the chain of jumps, and nothing has a graph."""
    levels, exact = (1.0, 0.7, 0.3), gaussian()
    eps, s = torch.randn(6, 3, dtype=torch.float64), torch.tensor([1.0, 0.7, 0.3, 0.3, 0.7, 1.0], dtype=torch.float64)
    pair = Pair(torch.zeros_like(eps), eps, fm.path.linear, {}, s=s, t=s)
    found = OnPolicy(levels)(exact, pair, s)
    chain = {1.0: eps}
    chain[0.7] = exact(chain[1.0], 1.0, 0.7)
    chain[0.3] = exact(chain[0.7], 0.7, 0.3)
    torch.testing.assert_close(found, torch.stack([chain[float(level)][k] for k, level in enumerate(s)]))
    term = fm.Term(diffusion, fixed(exact), start=OnPolicy(levels))
    assert not term.reads_data and fm.Method(term).data_free
    for wrong in ((), (0.9, 0.5), (1.0, 0.5, 0.5), (1.0, 0.0)):
        with pytest.raises(ValueError, match="levels that fall from 1 and stay above 0"):
            OnPolicy(wrong)


def test_restarted_states_are_those_of_restarts_and_their_noise_is_the_same_in_every_part():
    """A row stops at its level; its noise is no option of the rule. On two parts the states are the same."""
    levels, flow = (1.0, 0.7, 0.3), linear_flow(only_target=0.0).double()
    term = fm.Term(
        lambda flow, teacher, x, s, t: x,
        fixed(GAUSSIAN),
        start=Restarted(levels),
        name="states",
        times=lambda n, progress, like: (torch.tensor(levels).double().repeat(n)[:n], torch.zeros(n).double()),
    )
    method, x0 = fm.Method(term), torch.full((6, 2), torch.nan).double()
    torch.manual_seed(0)
    (pair,) = method.draw(flow, x0)
    found = method.measure(flow, (pair,)).terms["states"].residual
    (noise,) = pair.numbers.values()
    middle = 0.3 * flow(pair.eps, 1.0, 0.0) + 0.7 * noise[:, 0]
    late = 0.7 * flow(middle, 0.7, 0.0) + 0.3 * noise[:, 1]
    wanted = torch.stack([(pair.eps, middle, late)[k % 3][k] for k in range(6)])
    assert torch.allclose(found, wanted) and not found.requires_grad and method.data_free
    torch.manual_seed(0)
    (half,) = method.draw(flow, x0[1::2], rows=Rows(1, 2, 6))
    torch.testing.assert_close(method.measure(flow, (half,)).terms["states"].residual, found[1::2])


def test_a_helper_of_turns_is_made_once_for_all():
    helper = Auxiliary()
    method = {"sources": {"helper": helper}}
    turns = fm.Turns((1, fm.Method(fm.Term(lambda *a, helper: 0.0, **method, name="a"))), (1, named("b")))
    turns.follow(linear_flow())
    assert turns.auxiliaries == [helper] and helper.network is not None
