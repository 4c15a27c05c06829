"""Methods of score differences: costs, where gradients go, turns, resuming, a term beside a method, measured gates."""

import copy
import inspect
import json
import math

import pytest
import torch

import flowmaps as fm
from flowmaps.experiments import explain
from flowmaps.method.several import Several
from flowmaps.methods import DISTRIBUTIONAL
from flowmaps.velocity import Discriminator
from tests.methods.test_distributional import RING, distance
from tests.methods.test_landscape import Wide, flow_and_method, passes
from tests.training.support import GAUSSIAN, QUIET

NAMES = ("dmd", "dmd2", "f_distill", "sid", "moment_matching")
ROWS = {row.name: row for row in DISTRIBUTIONAL if row.name in NAMES}
EACH = pytest.mark.parametrize("name", NAMES)


def small():
    return fm.networks.ConcatMLP(2, width=8, depth=1, classes=3)


def turns_of(method):
    """(share of the steps, method) of each turn."""
    return list(zip(method.shares, method.methods, strict=True)) if isinstance(method, Several) else [(1.0, method)]


@EACH
def test_costs_are_the_mean_of_what_is_counted_in_each_turn(name):
    flow, method = flow_and_method(ROWS[name], Wide())
    counted = sum(share * passes(part, flow) for share, part in turns_of(method))
    assert counted == pytest.approx(ROWS[name].cost, abs=0.06) and ROWS[name].cost == ROWS[name].shared


@EACH
def test_a_row_says_what_its_function_does(name):
    """With labels, in float32: every turn has its loss, and only the networks that it trains get a gradient."""
    row = ROWS[name]
    torch.manual_seed(0)
    flow, method = flow_and_method(row, small())
    for weight in (*flow.parameters(), *method.parameters()):
        weight.data += 0.1 * torch.randn_like(weight)
    assert method.name == name and method.data_free == row.data_free
    assert row.reference.split(", ")[-1] in " ".join(inspect.getdoc(row.build).split())
    assert row.paper.title in row.bibtex and json.dumps(explain(name).as_dict()) and "sampled" not in row.as_dict()
    beside = [weight for auxiliary in method.auxiliaries for weight in auxiliary.parameters()]
    for _, part in turns_of(method):
        loss = part.loss(flow, torch.randn(32, 2), torch.arange(32) % 3)
        for key, term in loss.terms.items():
            assert math.isfinite(term.value.item()) and term.value.item() > 0, key
            moved = [
                grad is not None and bool(grad.any())
                for weights in (list(flow.parameters()), beside)
                for grad in [flattened(torch.autograd.grad(term.value, weights, retain_graph=True, allow_unused=True))]
            ]
            assert moved == ([True, False] if key == row.rule else [False, True]), key


def flattened(gradients):
    found = [gradient.flatten() for gradient in gradients if gradient is not None]
    return torch.cat(found) if found else None


@EACH
def test_a_teacher_is_needed_and_has_a_velocity(name):
    with pytest.raises(TypeError, match="needs teacher="):
        ROWS[name].build()
    partial_map = fm.FlowMap(small(), only_source=1.0)
    flow, _ = flow_and_method(ROWS[name], small())
    with pytest.raises(ValueError, match="partial flow map"):
        for _, part in reversed(turns_of(ROWS[name].build(partial_map))):
            part.loss(flow, torch.randn(8, 2), torch.arange(8) % 3)


def test_a_discriminator_of_dmd2_is_trained_in_the_turn_of_the_generator():
    critic = fm.networks.Critic(2, width=8, depth=1, classes=3)
    flow, teacher = fm.FlowMap(small(), only_target=0.0), fm.FlowMap(small())
    method = fm.methods.dmd2(teacher, steps=2, updates=1, adversary=Discriminator(critic))
    method.follow(flow)
    losses = [method.loss(flow, torch.randn(16, 2), torch.arange(16) % 3) for _ in range(2)]
    assert [list(loss.terms) for loss in losses] == [["auxiliary"], ["distribution", "adversarial", "discriminator"]]
    assert set(losses[1].terms["adversarial"].s.tolist()) <= {0.5, 1.0} and not method.data_free
    losses[1].value.backward()
    assert all(weight.grad is not None for weight in critic.parameters())


def test_a_stopped_run_of_dmd2_continues_inside_a_cycle(tmp_path):
    """Two levels and five updates, stopped in the middle of a cycle of six steps, goes on bit for bit."""
    torch.manual_seed(0)
    start = fm.FlowMap(fm.networks.ConcatMLP(2, width=8, depth=1), only_target=0.0)
    runs = []
    for stops in ((14,), (4, 8, 14)):
        for k, stop in enumerate(stops):
            options = {"steps": 14, "out": tmp_path / str(len(stops)), "checkpoint_every": 4, "resume": k > 0}
            method = fm.methods.dmd2(GAUSSIAN, steps=2)
            for state in fm.train(copy.deepcopy(start), method, GAUSSIAN, **QUIET, **options):
                if state.step == stop:
                    break
        runs.append((state.flow.state_dict(), method.state_dict()))
    for one, other in zip(*runs, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_term_beside_a_method_has_its_share_and_its_gradient():
    """lsd with DMD, imf with drifting: the added loss has `strength` times the gradient of the first loss."""
    torch.manual_seed(0)
    teacher = fm.FlowMap(small())
    for base, term in (
        (fm.methods.lsd(), fm.methods.dmd(teacher).terms[0]),
        (fm.methods.imf(), fm.methods.drifting(group=16).terms[0]),
    ):
        method, flow = fm.methods.with_term(base, term, 0.5, strength=0.3), fm.FlowMap(small())
        assert sum(one.share for one in method.terms) == pytest.approx(1) and method.terms[-1].share == 0.5
        assert [one.share for one in method.terms[:-1]] == [one.share / 2 for one in base.terms]
        method.follow(flow)
        for weight in (*flow.parameters(), *method.parameters()):
            weight.data += 0.3 * torch.randn_like(weight)
        loss = method.loss(flow, torch.randn(64, 2), torch.arange(64) % 3)
        first, added = next(iter(loss.terms.values())), loss.terms["distribution"]
        last = [weight for weight in flow.parameters() if weight.ndim > 1][-1]
        sizes = [torch.autograd.grad(one.value, last, retain_graph=True)[0].norm() for one in (first, added)]
        factor = method.terms[-1].balance["distribution"](first, added, flow)
        assert torch.allclose(factor * sizes[1], 0.3 * sizes[0], rtol=1e-4)
        loss.value.backward()


def test_a_term_that_cannot_be_added_is_refused():
    term, base = fm.methods.drifting(group=8).terms[0], fm.methods.lsd()
    turns = fm.Turns((1, base), (1, fm.methods.imf()))
    for arguments, error, message in (
        ((turns, term), ValueError, "made of several methods, one for each turn"),
        ((fm.Stages((1, base)), term), ValueError, "one for each stage"),
        ((base, term, 1.0), ValueError, "inside"),
        ((base, base), TypeError, "a Term is added to a Method"),
        ((fm.methods.drifting(), term), ValueError, "has a term 'distribution' already"),
    ):
        with pytest.raises(error, match=message):
            fm.methods.with_term(*arguments)


def test_bounds_of_ratios_are_in_order():
    with pytest.raises(ValueError, match="least and the largest ratio"):
        fm.methods.f_distill(GAUSSIAN, bounds=(2.0, 1.0))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        fm.methods.dmd2(GAUSSIAN, steps=0)


@pytest.mark.slow
def test_dmd_makes_the_ring_in_one_jump_from_a_trained_flow():
    """Flow matching, then DMD with a fast network beside the flow.

    Energy distance of 10,000 samples, whose standard error is .0006: measured .009, where 50 Euler steps of the teacher
    have .006; one Euler step of the teacher is a control with 1.2.
    """
    teacher = trained(fm.FlowMap(fm.networks.MLP(2, width=128, depth=3)), fm.methods.flow_matching(), 1000, 2e-3)
    flow = fm.student(teacher.requires_grad_(False))
    before, flow.only_source, flow.only_target = distance(flow), 1.0, 0.0
    after = distance(trained(flow, fm.methods.dmd(teacher), 900, 1e-3, beside=5e-3))
    assert after <= 0.015 < 0.2 < before


def trained(flow, method, steps, lr, beside=0.0):
    """The flow after AdamW with rates that fall to zero, batches of 256; `beside` is the rate of the second network.

    Two networks that follow one another have no momentum.
    """
    torch.manual_seed(0)
    method.follow(flow)
    groups = [{"params": flow.parameters(), "lr": lr}, {"params": method.parameters(), "lr": beside}]
    optimizer = torch.optim.AdamW([group for group in groups if group["lr"]], betas=(0.0 if beside else 0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(steps):
        loss = method.loss(flow, RING.sample(256).float()).value
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return flow.eval()
