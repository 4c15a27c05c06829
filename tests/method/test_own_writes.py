"""Networks that normalise their weights in place at each call in training, as EDM2's layers do, train as others."""

import copy
import warnings

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.method import measure
from flowmaps.methods import LANDSCAPE
from flowmaps.training import train
from flowmaps.training.schedule import constant
from flowmaps.velocity import averaged
from tests.training.support import QUIET


class Normalised(nn.Module):
    """A linear layer whose weights have rows of norm 1; `writes` says when it also stores them so."""

    def __init__(self, inputs, outputs, writes):
        super().__init__()
        self.weight, self.writes = nn.Parameter(torch.randn(outputs, inputs)), writes

    @torch.no_grad()
    def normalise(self):
        self.weight.copy_(self.weight / self.weight.norm(dim=1, keepdim=True))

    def forward(self, x):
        if self.writes == "always" or (self.writes == "in training" and self.training):
            self.normalise()
        return x @ (self.weight / self.weight.norm(dim=1, keepdim=True)).T


class Network(nn.Module):
    def __init__(self, writes="in training", dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = Normalised(4, 8, writes), Normalised(8, 2, writes)
        self.dropout = nn.Dropout(dropout)
        self.seen = []

    def forward(self, x, s, t):
        self.seen.append((self.dropout.training, self.first.training))
        h = torch.tanh(self.first(torch.cat([x, s[:, None], t[:, None]], 1)))
        return self.last(self.dropout(h))

    def normalise(self):
        for layer in (self.first, self.last):
            layer.normalise()


def data():
    return torch.randn(64, 2, generator=torch.Generator().manual_seed(1))


def weights(module):
    return [weight.detach().clone() for weight in module.parameters()]


@pytest.mark.parametrize("row", LANDSCAPE, ids=lambda row: row.name)
def test_every_method_trains_it(row):
    options = {"teacher": fm.FlowMap(Network("never"))} if row.needs_teacher else {}
    flow = fm.FlowMap(Network(), only_source=row.only_source, only_target=row.only_target)
    *_, state = train(flow, row.build(**options), data(), steps=2, **QUIET)
    assert state.loss.value.isfinite()


def self_distillation():
    return fm.Method(fm.Term(fm.consistency.lagrangian, averaged(0.9)))


@pytest.mark.parametrize("make", [fm.methods.imf, fm.methods.lsd, self_distillation])
def test_it_trains_as_a_network_that_is_normalised_between_the_steps(make):
    """The weights, and the averaged target, which is an average of normalised weights and itself not normalised."""
    ours, method = fm.FlowMap(Network()), make()
    for _ in train(ours, method, data(), steps=4, lr=0.05, **QUIET):
        pass
    plain, reference = fm.FlowMap(Network("never")), make()
    plain.network.normalise()
    for state in train(plain, reference, data(), steps=4, lr=0.05, **QUIET):
        if state.step < 4:
            plain.network.normalise()
    torch.testing.assert_close(weights(ours), weights(plain))
    torch.testing.assert_close(weights(method), weights(reference))


def own_loop(flow, method, steps=4, between=lambda: None, loss=None):
    """A training loop of a user, on the data of every step."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD([*flow.parameters(), *method.parameters()], lr=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        (loss or method.loss)(flow, data()).value.backward()
        optimizer.step()
        if step < steps - 1:
            between()


@pytest.mark.parametrize("row", LANDSCAPE, ids=lambda row: row.name)
def test_every_method_trains_it_in_a_loop_of_your_own(row):
    options = {"teacher": fm.FlowMap(Network("never"))} if row.needs_teacher else {}
    flow = fm.FlowMap(Network(), only_source=row.only_source, only_target=row.only_target)
    own_loop(flow, row.build(**options), steps=2)
    assert all(weight.isfinite().all() for weight in flow.parameters())
    assert all(part.training for part in flow.modules())


def compiled(method):
    """The loss of a method as the page about compiling writes it; the eager function stands for the compiled one."""

    def loss(flow, x0):
        with method.writing_once(flow, x0):
            method.follow(flow)
            return measure(flow, method.now(0.0), method.draw(flow, x0))

    return loss


@pytest.mark.parametrize("make", [fm.methods.imf, fm.methods.lsd, self_distillation])
@pytest.mark.parametrize("followed", [False, True])
@pytest.mark.parametrize("how", [lambda method: method.loss, compiled])
def test_a_loop_of_your_own_trains_as_with_a_network_that_is_normalised_between_the_steps(make, followed, how):
    ours, method = fm.FlowMap(Network()), make()
    if followed:  # as before an optimizer is made
        method.follow(ours)
    own_loop(ours, method, loss=how(method))
    plain, reference = fm.FlowMap(Network("never")), make()
    plain.network.normalise()
    own_loop(plain, reference, between=plain.network.normalise)
    torch.testing.assert_close(weights(ours), weights(plain))
    torch.testing.assert_close(weights(method), weights(reference))


def test_a_loop_that_goes_on_keeps_its_averaged_target():
    whole, method = fm.FlowMap(Network()), self_distillation()
    own_loop(whole, method)
    assert copy.deepcopy(method)._own_writes is None and method._own_writes is not None
    again = self_distillation()
    again.follow(whole)
    again.load_state_dict(method.state_dict())
    before = weights(again)
    again.loss(whole, data())
    moved = [float((a - b).abs().max()) for a, b in zip(before, weights(again), strict=True)]
    apart = [float((a - b).abs().max()) for a, b in zip(before, weights(whole), strict=True)]
    assert all(0 < a < 0.2 * b for a, b in zip(moved, apart, strict=True))


def test_a_loss_in_evaluation_mode_writes_nothing():
    flow, method = fm.FlowMap(Network()), fm.methods.lsd()
    before = weights(flow)
    method.loss(flow.eval(), data())
    assert not any(part.training for part in flow.modules())
    torch.testing.assert_close(weights(flow), before, rtol=0, atol=0)


def test_only_the_layers_that_write_change_their_mode():
    flow = fm.FlowMap(Network(dropout=0.5))
    for _ in train(flow, fm.methods.shortcut(), data(), steps=2, **QUIET):
        assert all(part.training for part in flow.modules())
    assert {dropping for dropping, _ in flow.network.seen} == {True}
    assert {writing for _, writing in flow.network.seen} == {True, False}
    usual = fm.FlowMap(Network("never", dropout=0.5))
    for _ in train(usual, fm.methods.shortcut(), data(), steps=2, **QUIET):
        pass
    assert set(usual.network.seen[1:]) == {(True, True)}


def test_a_resumed_run_has_the_numbers_of_an_uninterrupted_one(tmp_path):
    def run(steps, out, resume=False):
        flow, method = fm.FlowMap(Network()), self_distillation()
        settings = {**QUIET, "schedule": constant}
        for state in train(flow, method, data(), steps=4, out=out, resume=resume, **settings):
            if state.step == steps:
                break
        return weights(flow), weights(method)

    whole = run(4, tmp_path / "whole")
    run(2, tmp_path / "parts")
    torch.testing.assert_close(run(4, tmp_path / "parts", resume=True), whole, rtol=0, atol=0)


def test_a_network_that_writes_in_evaluation_too_is_announced():
    with pytest.warns(UserWarning, match=r"first.weight at each call, also in evaluation mode.*`if self.training:`"):
        for _ in train(fm.FlowMap(Network("always")), fm.methods.flow_matching(), data(), steps=2, **QUIET):
            pass
    with (
        warnings.catch_warnings(),
        pytest.raises(RuntimeError, match="writes into a tensor that its gradient needs .*`if self.training:`"),
    ):
        warnings.simplefilter("ignore")
        next(iter(train(fm.FlowMap(Network("always")), fm.methods.imf(), data(), steps=2, **QUIET)))
