"""Layers and optimizers that people bring: copies, complex weights, closures, optimizers without a learning rate."""

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.training import train
from flowmaps.velocity import averaged
from tests.training.support import QUIET, linear_flow

parametrizations = nn.utils.parametrizations


class Network(nn.Module):
    def __init__(self, layer=lambda one: one, keeps=False):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = layer(nn.Linear(4, 8)), nn.Linear(8, 2)
        self.keeps, self.kept = keeps, {}

    def forward(self, x, s, t):
        h = torch.tanh(self.first(torch.cat([x, s[:, None], t[:, None]], 1)))
        if self.keeps:
            self.kept["hidden"] = [h]
        return self.last(h)


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.last = nn.Parameter(torch.randn(4, 8, dtype=torch.cfloat)), nn.Linear(8, 2)

    def forward(self, x, s, t):
        h = torch.cat([x, s[:, None], t[:, None]], 1).to(self.weight.dtype) @ self.weight
        return self.last(h.real * h.imag)


def averaging():
    return fm.Method(fm.Term(fm.consistency.lagrangian, averaged(0.9)))


NETWORKS = {
    "old weight_norm": lambda: Network(nn.utils.weight_norm),
    "old spectral_norm": lambda: Network(nn.utils.spectral_norm),
    "weight_norm": lambda: Network(parametrizations.weight_norm),
    "spectral_norm": lambda: Network(parametrizations.spectral_norm),
    "a kept activation": lambda: Network(keeps=True),
    "complex weights": Complex,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("make", [fm.methods.imf, averaging])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_was_called_already_is_copied_and_trained(name, make):
    """The average of the weights is a copy: with decay 0 it computes the same, and it does not share its weights."""
    flow = fm.FlowMap(NETWORKS[name]())
    x = torch.randn(3, 2)
    flow.velocity(x, 0.5)
    before = [weight.detach().clone() for weight in flow.parameters()]
    *_, state = train(flow, make(), torch.randn(64, 2), steps=3, ema=0.0, **QUIET)
    assert any(not torch.equal(old, new) for old, new in zip(before, flow.parameters(), strict=True))
    torch.testing.assert_close(state.ema.velocity(x, 0.5), flow.eval().velocity(x, 0.5))
    assert not {id(weight) for weight in flow.parameters()} & {id(weight) for weight in state.ema.parameters()}


class Plain(torch.optim.Optimizer):
    """Gradient descent whose step length is its own affair."""

    def __init__(self, weights):
        super().__init__(weights, {})

    @torch.no_grad()
    def step(self, closure=None):
        for weight in (weight for settings in self.param_groups for weight in settings["params"]):
            weight -= 0.1 * weight.grad


class ScheduleFree(torch.optim.SGD):
    """An optimizer that refuses a step before `train()`, as schedule-free ones do."""

    ready = False

    def train(self):
        self.ready = True

    def step(self, closure=None):
        assert self.ready
        return super().step(closure)


class Closed(torch.optim.SGD):
    def step(self, closure):
        return super().step(closure)


@pytest.mark.parametrize("make", [Plain, ScheduleFree])
def test_an_optimizer_without_a_schedule_trains(make):
    flow = linear_flow()
    before = flow.network.linear.weight.detach().clone()
    *_, state = train(flow, fm.methods.flow_matching(), torch.randn(64, 2), steps=2, optimizer=make, **QUIET)
    assert not torch.equal(before, flow.network.linear.weight) and (state.lr == 0.0) == (make is Plain)


@pytest.mark.parametrize("make", [torch.optim.LBFGS, Closed])
def test_an_optimizer_with_a_closure_is_refused(make):
    with pytest.raises(TypeError, match=f"{make.__name__} computes the loss several times a step .*AdamW"):
        next(
            iter(train(linear_flow(), fm.methods.flow_matching(), torch.randn(64, 2), steps=2, optimizer=make, **QUIET))
        )
