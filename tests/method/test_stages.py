"""Stages of one run: whose turn it is, how far it is, what begins with it, and how it goes on after a stop."""

import copy
from dataclasses import replace

import pytest
import torch

import flowmaps as fm
from flowmaps.consistency import compositional, diffusion, eulerian
from flowmaps.method.term import from_noise
from flowmaps.velocity import Auxiliary, Phased, averaged, fixed, own
from tests.methods.support import Network, batch
from tests.oracles import gaussian

X0, EPS, (S, T) = batch()


def always(s, t):
    return lambda n, progress, like: (torch.full((n,), s, dtype=like.dtype), torch.full((n,), t, dtype=like.dtype))


def move(flow, seed=0):
    """Move the weights as an optimizer does, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in flow.network.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def alike(module, other):
    return torch.equal(weights(module), weights(other))


def watched(name, seen):
    """A method that writes down how far it is."""

    def now(term, progress):
        if (name, progress) not in seen[-1:]:
            seen.append((name, progress))
        return term

    return fm.Method(fm.Term(diffusion, curriculum=now, name=name), name=name)


# --- whose turn it is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [(0.2, 0.5, 0.3), (2, 5, 3)])
def test_each_stage_has_its_share_of_the_run_and_its_own_progress(shares):
    seen, flow = [], fm.FlowMap(Network())
    stages = fm.Stages(*((share, watched(name, seen)) for share, name in zip(shares, "abc", strict=True)))
    for step in range(101):
        stages.loss(flow, X0, progress=step / 100)
    assert [name for name, _ in seen] == ["a"] * 20 + ["b"] * 50 + ["c"] * 31
    expected = [k / 20 for k in range(20)] + [k / 50 for k in range(50)] + [k / 30 for k in range(31)]
    assert [progress for _, progress in seen] == pytest.approx(expected)
    assert all(0 <= progress <= 1 for _, progress in seen)


@pytest.mark.parametrize(
    "progress, stage, inner",
    [(0.0, 0, 0.0), (0.15, 0, 0.5), (0.3, 1, 0.0), (0.1 + 0.2, 1, 0.0), (0.65, 1, 0.5), (1.0, 1, 1.0)],
)
def test_the_stage_of_a_moment(progress, stage, inner):
    """0.1 + 0.2 is a little more than 0.3, 0.3 - 1e-12 a little less: rounding moves no stage."""
    stages = fm.Stages((0.3, watched("a", [])), (0.7, watched("b", [])))
    for near in (progress, max(0.0, progress - 1e-12)):
        found = stages.at(near)
        assert found[0] == stage and found[1] == pytest.approx(inner, abs=1e-9)


def test_many_stages_end_where_their_shares_say():
    for count in (3, 7, 10):
        stages = fm.Stages(*((0.1, watched(str(k), [])) for k in range(count)))
        for step in range(count * 60):
            assert stages.at(step / (count * 60))[0] == step // 60
        assert stages.at(1.0) == (count - 1, 1.0)


def test_one_stage_is_its_method():
    flow, one = fm.FlowMap(Network()), fm.methods.meanflow()
    torch.manual_seed(1)
    expected = one.loss(flow, X0, progress=0.4)
    torch.manual_seed(1)
    assert torch.equal(fm.Stages((1.0, one)).loss(flow, X0, progress=0.4).value, expected.value)


def test_stages_may_have_stages():
    seen, flow = [], fm.FlowMap(Network())
    inner = fm.Stages((0.5, watched("b", seen)), (0.5, watched("c", seen)))
    stages = fm.Stages((0.5, watched("a", seen)), (0.5, inner))
    for step in range(8):
        stages.loss(flow, X0, progress=step / 8)
    assert seen == [(name, progress) for name in "a" for progress in (0, 0.25, 0.5, 0.75)] + [
        (name, progress) for name in "bc" for progress in (0, 0.5)
    ]


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_the_loss_is_that_of_the_method_whose_turn_it_is():
    """With its noise, times and condition."""

    class Labelled(Network):
        def forward(self, x, s, t, label):
            return super().forward(x, s, t) + label[:, None]

    flow, label = fm.FlowMap(Labelled()), torch.arange(12).double()
    first, second = fm.Method(fm.Term(diffusion)), fm.Method(fm.Term(eulerian))
    stages = fm.Stages((0.5, first), (0.5, second))
    given = {"noise": EPS, "times": (S, T)}
    for progress, method in ((0.2, first), (0.7, second)):
        for call in (stages.loss, stages):
            found, expected = call(flow, X0, label, progress=progress, **given), method.loss(flow, X0, label, **given)
            assert found.terms.keys() == expected.terms.keys() and torch.equal(found.value, expected.value)
    with pytest.raises(ValueError, match="'label' needs a row for each of the 12"):
        stages.loss(flow, X0, label[:3])
    assert list(stages.loss(flow, X0, {"label": label}, **given).terms) == ["diffusion"]  # from the start by default


def test_stages_read_data_where_any_of_them_does():
    free = fm.Term(diffusion, fixed(gaussian()), start=from_noise, times=always(1.0, 1.0))
    reads = replace(free, velocity=fm.velocity.conditional)
    assert fm.Stages((1, fm.Method(free)), (1, fm.Method(free))).data_free
    assert not fm.Stages((1, fm.Method(free)), (1, fm.Method(reads))).data_free


def test_parts_of_all_stages_are_parts_of_the_run():
    auxiliary, learned = Auxiliary(fm.FlowMap(Network())), fm.weight.learned(8)
    first = fm.Method(fm.Term(diffusion, weight=learned))
    second = fm.Method(fm.Term(diffusion, sources={"helper": auxiliary}))
    stages = fm.Stages((1, first), (1, second))
    assert stages.auxiliaries == [auxiliary] and [term.name for term in stages.terms] == ["diffusion", "diffusion"]
    expected = {id(p) for part in (auxiliary, learned) for p in part.parameters()}
    assert {id(p) for p in stages.parameters()} == expected


def test_stages_are_shown_by_their_name_and_methods():
    first, second = fm.Method(fm.Term(diffusion), name="first"), fm.methods.psd()
    stages = fm.Stages((1, first), (1, second), name="mine")
    assert stages.name == "mine" and repr(stages) == f"mine({first!r}, {second!r})"
    assert repr(stages).startswith("mine(first(diffusion: 1), psd(") and fm.Stages((1, first)).name == "stages"
    assert stages.method(1) is second


@pytest.mark.parametrize("share", [0.0, -0.5, float("nan")])
def test_a_stage_needs_a_share(share):
    method = fm.Method(fm.Term(diffusion))
    with pytest.raises(ValueError, match=f"share (of a stage )?must be (positive|finite), got {share}"):
        fm.Stages((1.0, method), (share, method))


def test_stages_need_a_stage():
    with pytest.raises(ValueError, match=r"at least one \(share, method\)"):
        fm.Stages()


# --- companions -------------------------------------------------------------------------------------------------------


def test_companions_are_made_at_once_and_begin_with_their_stage():
    """An average starts from the flow as it is when its stage begins; only the stage whose turn it is moves its own."""
    flow, first, second, helper = fm.FlowMap(Network()), averaged(0.5), averaged(0.9), Auxiliary()
    stages = fm.Stages(
        (0.5, fm.Method(fm.Term(compositional, first))),
        (0.5, fm.Method(fm.Term(compositional, second), fm.Term(diffusion, sources={"helper": helper}))),
    )
    stages.follow(flow, 0.0)
    start = weights(flow)
    for companion in (first, second, helper):
        assert torch.equal(weights(companion), start)
    move(flow)
    stages.follow(flow, 0.25)
    half = (start + weights(flow)) / 2
    torch.testing.assert_close(weights(first), half)
    assert torch.equal(weights(second), start) and torch.equal(weights(helper), start)
    move(flow, 1)
    stages.follow(flow, 0.5)
    assert int(stages.stage) == 1 and alike(second, flow) and alike(helper, flow)
    torch.testing.assert_close(weights(first), half)
    began = weights(flow)
    move(flow, 2)
    stages.follow(flow, 0.75)
    torch.testing.assert_close(weights(second), 0.9 * began + 0.1 * weights(flow))
    assert torch.equal(weights(helper), began)


def test_phases_fit_into_their_stage():
    """Flow matching for half of the run, then two phases of a quarter."""
    flow, teacher = fm.FlowMap(Network()), Phased(fixed(gaussian()), 2)
    stages = fm.Stages((0.5, fm.methods.flow_matching()), (0.5, fm.Method(fm.Term(compositional, teacher))))
    for step, phase in enumerate((0, 0, 0, 0, 0, 0, 1, 1)):
        move(flow, step)
        stages.follow(flow, step / 8)
        assert int(teacher.phase) == phase
        if step == 6:
            began = weights(flow)
    assert torch.equal(weights(teacher), began)


def test_a_stage_that_was_skipped_does_not_begin():
    """Where the progress jumps past it."""
    flow, skipped, last = fm.FlowMap(Network()), averaged(0.5), averaged(0.9)
    stages = fm.Stages(
        (1, fm.methods.flow_matching()),
        (1, fm.Method(fm.Term(compositional, skipped))),
        (1, fm.Method(fm.Term(compositional, last))),
    )
    stages.follow(flow)
    before = weights(flow)
    move(flow)
    stages.follow(flow, 0.9)
    assert alike(last, flow) and torch.equal(weights(skipped), before)


# --- a run that stops and goes on -------------------------------------------------------------------------------------


def run():
    """Four stages, with every kind of companion."""

    def follow_helper(flow, teacher, x, s, t, *, helper):
        learned = helper.velocity(x, s)
        return {"flow": flow.velocity(x, s) - learned.detach(), "helper": learned - teacher.velocity(x, s)}

    return fm.Stages(
        (0.25, fm.methods.flow_matching()),
        (0.25, fm.Method(fm.Term(compositional, averaged(lambda progress: 0.9 * progress)))),
        (0.25, fm.Method(fm.Term(compositional, Phased(fixed(gaussian()), 2)))),
        (
            0.25,
            fm.Method(fm.Term(follow_helper, sources={"helper": Auxiliary()}), fm.Term(compositional, averaged(0.5))),
        ),
    )


def train(flow, method, steps, seeds):
    """Gradient steps on everything that has one; the losses on the way."""
    values = []
    for step in steps:
        torch.manual_seed(seeds + step)
        loss = method.loss(flow, X0, progress=step / 24)
        parameters = [p for p in (*flow.parameters(), *method.parameters()) if p.requires_grad]
        gradients = torch.autograd.grad(loss.value, parameters, allow_unused=True)
        with torch.no_grad():
            for p, g in zip(parameters, gradients, strict=True):
                p -= 0.0 if g is None else 0.05 * g
        values.append(loss.value.detach())
    return torch.stack(values)


@pytest.mark.parametrize("stopped", [1, 5, 6, 7, 11, 12, 15, 16, 18, 21])
def test_a_run_that_stops_within_a_stage_or_between_two_goes_on_as_if_it_had_not(stopped):
    flow, whole = fm.FlowMap(Network()), run()
    train(flow, whole, range(stopped), 100)
    saved = copy.deepcopy((flow.state_dict(), whole.state_dict()))
    expected = train(flow, whole, range(stopped, 24), 100)

    other, again = fm.FlowMap(Network(seed=5)), run()
    again.follow(other)
    again.load_state_dict(saved[1])
    other.load_state_dict(saved[0])
    assert torch.equal(train(other, again, range(stopped, 24), 100), expected)
    assert alike(again, whole) and alike(other, flow) and int(again.stage) == 3


def test_the_stage_is_part_of_the_state():
    flow, stages = fm.FlowMap(Network()), fm.Stages(*((1, fm.Method(fm.Term(compositional, own))) for _ in range(3)))
    stages.follow(flow, 0.5)
    assert int(stages.state_dict()["stage"]) == 1
