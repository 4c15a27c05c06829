"""Networks beside the flow: an optimizer of their own, a gradient of their own, a place in the checkpoint."""

import copy

import pytest
import torch

import flowmaps as fm
from flowmaps.runs import checkpoint
from flowmaps.training import train
from flowmaps.velocity import Auxiliary, Discriminator
from tests.training.support import GAUSSIAN, QUIET, Linear, chasing, linear_flow


def sgd(lr):
    return lambda weights: torch.optim.SGD(weights, lr=lr)


def helper_of(method):
    return method.auxiliaries[0].network.linear


def test_each_network_takes_the_step_of_its_own_optimizer():
    flow, method = linear_flow(), chasing(optimizer=sgd(0.3))
    plan = {"optimizer": sgd(0.5), "schedule": lambda progress: 0.2 + progress}
    terms = next(train(flow, method, GAUSSIAN, steps=10, **plan, **QUIET)).loss.terms
    before = linear_flow().network.linear.bias
    # r = W z + b - (what it follows), and r^2 averaged over 2 coordinates, so dL/db is the mean of r
    flow_step, helper_step = 0.5 * 0.2 * terms["chase"].residual.mean(0), 0.3 * 0.2 * terms["helper"].residual.mean(0)
    assert torch.allclose(flow.network.linear.bias, before - flow_step, atol=1e-6)
    assert torch.allclose(helper_of(method).bias, before - helper_step, atol=1e-6)


def test_without_one_of_its_own_it_has_another_optimizer_like_the_flows():
    made = []

    def make(weights):
        made.append({id(weight) for weight in weights})
        return torch.optim.SGD(weights, lr=0.1)

    flow, method = linear_flow(), chasing()
    next(train(flow, method, GAUSSIAN, steps=10, optimizer=make, **QUIET))
    assert made == [{id(w) for w in flow.parameters()}, {id(w) for w in method.parameters()}]


def test_learned_weights_of_the_method_stay_with_the_flow():
    made = []

    def make(weights):
        made.append(len(weights))
        return torch.optim.SGD(weights, lr=0.1)

    method = fm.Method(fm.Term(fm.consistency.diffusion, weight=fm.weight.learned(16)), *chasing().terms)
    flow = linear_flow()
    next(train(flow, method, GAUSSIAN, steps=10, optimizer=make, **QUIET))
    learned = len(list(method.terms[0].weight.parameters()))
    assert learned > 0 and made == [len(list(flow.parameters())) + learned, len(list(flow.parameters()))]


def test_gradients_are_clipped_apart():
    flow, method = linear_flow(), chasing(start=linear_flow(seed=1), optimizer=sgd(0.25))
    starts = [copy.deepcopy(part) for part in (flow.network.linear, helper_of(method))]
    next(train(flow, method, GAUSSIAN, steps=10, optimizer=sgd(0.5), schedule=fm.training.constant, clip=1e-3, **QUIET))
    for start, end, rate in zip(starts, (flow.network.linear, helper_of(method)), (0.5, 0.25), strict=True):
        pairs = zip(start.parameters(), end.parameters(), strict=True)
        moved = [(b - a).detach().flatten() for a, b in pairs]
        # float32 weights of order 1 hold a step of 5e-4 to four digits
        assert float(torch.cat(moved).norm()) == pytest.approx(rate * 1e-3, rel=1e-3)


def test_the_checkpoint_holds_both_optimizers(tmp_path):
    flow, method = linear_flow(), chasing(optimizer=lambda w: torch.optim.Adam(w, lr=0.01, betas=(0.5, 0.75)))
    list(train(flow, method, GAUSSIAN, steps=3, out=tmp_path / "run", **QUIET))
    one, other = checkpoint.read_optimizers(tmp_path / "run" / "checkpoints" / "step_00000003")
    assert one["param_groups"][0]["betas"] == (0.9, 0.95) and other["param_groups"][0]["betas"] == (0.5, 0.75)
    assert one["state"][0]["step"] == other["state"][0]["step"] == 3
    weights = checkpoint.read_model(tmp_path / "run" / "checkpoints" / "step_00000003", "method")
    assert any(torch.equal(value, helper_of(method).weight) for value in weights.values())


def test_a_shared_weight_is_refused():
    flow, other = linear_flow(), Linear()
    with pytest.raises(ValueError, match="shares a weight with the flow or another one"):
        train(flow, chasing(Discriminator(flow.network)), GAUSSIAN, steps=1, **QUIET)
    method = fm.Method(*chasing(Discriminator(other)).terms, *chasing(Discriminator(other)).terms)
    with pytest.raises(ValueError, match="shares a weight"):
        train(flow, method, GAUSSIAN, steps=1, **QUIET)


def test_one_network_in_two_terms_has_one_optimizer():
    helper, made = Auxiliary(), []

    def make(weights):
        made.append(len(weights))
        return torch.optim.SGD(weights, lr=0.1)

    method = fm.Method(*chasing(helper).terms, *chasing(helper).terms)
    next(train(linear_flow(), method, GAUSSIAN, steps=2, optimizer=make, **QUIET))
    assert made == [2, 2]
