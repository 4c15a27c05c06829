"""A network without a derivative in a time that it depends on is announced, once, and no other network is."""

import re
import warnings
from functools import partial

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.derivative import finite_difference, functorch
from flowmaps.training import train
from tests.training.support import QUIET

WAYS = {
    "smooth": lambda s: torch.sin(3 * s),
    "index": lambda s: TABLE[(100 * s).long()],
    "rounded": lambda s: (100 * s).round() / 100,
    "bucket": lambda s: torch.bucketize(s, torch.linspace(0, 1, 50)).to(s) / 50,
    "gates": lambda s: (s[:, None] > torch.linspace(0, 1, 50)).to(s.dtype).mean(1),
    "by hand": lambda s: torch.tensor([round(50 * float(one)) / 50 for one in s]),
    "ignored": lambda s: torch.zeros_like(s),
}
TABLE = torch.linspace(0, 1, 101).sin()


class Timed(nn.Module):
    def __init__(self, source, target, zero=False, dropout=0.5):
        super().__init__()
        torch.manual_seed(0)
        self.ways = WAYS[source], WAYS[target]
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)
        self.dropout = nn.Dropout(dropout)
        if zero:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

    def forward(self, x, s, t):
        times = [way(time)[:, None] for way, time in zip(self.ways, (s, t), strict=True)]
        return self.last(self.dropout(torch.tanh(self.first(torch.cat([x, *times], 1)))))


def announced(flow, method, **settings):
    """The times that training names, and the state at its end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        *_, state = train(flow, method, torch.randn(64, 2), steps=6, **QUIET, **settings)
    said = [str(one.message) for one in caught if "derivative there is exactly zero" in str(one.message)]
    assert all("finite_difference()" in one and "fm.networks.Fourier" in one for one in said)
    return [re.search("depends on the time (s and t|s|t),", one)[1] for one in said], state


@pytest.mark.parametrize("way", ["index", "rounded", "bucket", "gates", "by hand"])
def test_a_time_without_derivative_is_announced_once(way):
    assert announced(fm.FlowMap(Timed(way, "smooth")), fm.methods.imf())[0] == ["s"]


def test_a_network_that_starts_at_zero_is_announced_after_its_first_step():
    assert announced(fm.FlowMap(Timed("index", "index", zero=True)), fm.methods.imf())[0] == ["s"]
    assert announced(fm.FlowMap(Timed("index", "index", zero=True)), fm.methods.lsd())[0] == ["t"]


LATER = {
    "a second engine": fm.methods.imf(derivative=functorch),
    "a curriculum that ends with a derivative": fm.methods.alphaflow(),
    "a second stage": fm.Stages((1, fm.methods.flow_matching()), (1, fm.methods.meanflow())),
}


@pytest.mark.parametrize("name", LATER)
def test_every_derivative_of_the_run_counts(name):
    way = "rounded" if name == "a second engine" else "index"
    flow = fm.FlowMap(Timed(way, "smooth"))
    assert announced(flow, LATER[name])[0] == ["s"]
    assert not flow.network._forward_pre_hooks


@pytest.mark.parametrize(
    ("flow", "method"),
    [
        (fm.FlowMap(Timed("smooth", "smooth")), fm.methods.imf()),
        (fm.FlowMap(Timed("ignored", "smooth")), fm.methods.imf()),
        (fm.FlowMap(Timed("smooth", "index")), fm.methods.imf()),  # whose derivative is in s alone
        (fm.FlowMap(Timed("index", "index")), fm.methods.flow_matching()),
        (fm.FlowMap(Timed("index", "index"), only_target=0.0), fm.methods.ct()),
        (fm.FlowMap(Timed("index", "index")), fm.methods.imf(derivative=finite_difference())),
    ],
)
def test_nothing_is_said_of_other_networks(flow, method):
    assert announced(flow, method)[0] == []


def test_the_examination_changes_nothing(monkeypatch):
    """Neither the modes of the parts, nor the random numbers of training, nor its weights."""

    def trained():
        flow = fm.FlowMap(Timed("index", "smooth"))
        torch.manual_seed(3)
        state = announced(flow, fm.methods.imf())[1]
        assert all(part.training for part in flow.modules())
        return torch.cat([w.detach().flatten() for w in state.flow.parameters()]), torch.rand(3)

    examined = trained()
    monkeypatch.setattr("flowmaps.training.still_times.STEPS", (0,))
    torch.testing.assert_close(trained(), examined, rtol=0, atol=0)


@pytest.mark.slow
def test_a_compiled_loss_is_announced_too(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    flow = fm.FlowMap(Timed("rounded", "smooth", dropout=0.0))
    assert announced(flow, fm.methods.imf(), compile=True)[0] == ["s"]
