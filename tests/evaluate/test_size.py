"""The size of an evaluation follows the network and the caller, and its messages say how long it takes."""

import math

import pytest
import torch
from torch import nn

from flowmaps import FlowMap, exact
from flowmaps.data import as_data
from flowmaps.evaluate import evaluate, size
from flowmaps.evaluate.size import FULL, QUICK, duration, size_of
from flowmaps.networks import MLP

POINTS = as_data(exact.Gaussian(torch.zeros(2, dtype=torch.float64), 1.0))
VECTORS = as_data(torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)))


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 1, 3, padding=1))

    def forward(self, x, s, t):
        return self.layers(x)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.MultiheadAttention(2, 1, batch_first=True)

    def forward(self, x, s, t):
        return self.layer(x, x, x)[0]


CASES = {
    "mlp": (MLP(2, width=64, depth=2), POINTS),
    "convolutions": (Convolutions(), as_data("digits")),
    "attention": (Attention(), as_data(torch.randn(500, 8, 2))),
}


@pytest.mark.parametrize("name", CASES)
def test_a_large_network_evaluates_fewer_samples(name, monkeypatch):
    network, data = CASES[name]
    flow = FlowMap(network)
    assert size_of(flow, data, False) == FULL
    calls = size.operations(flow, data, False)
    assert calls > 0
    steps = sum(FULL.jumps) + sum(FULL.ode_steps)
    for share, draws in ((0.6, 4), (0.1, 4), (1e-9, 4)):
        monkeypatch.setitem(size.MOST_OPERATIONS, "cpu", share * calls * steps * FULL.n * FULL.draws)
        found = size_of(flow, data, False)
        assert found.fewer and found.draws >= draws and size.LEAST_ROWS <= found.n <= FULL.n
        assert share < 1e-3 or found.n * found.draws <= share * FULL.n * FULL.draws


def test_a_size_that_is_asked_for_is_kept(monkeypatch):
    monkeypatch.setitem(size.MOST_OPERATIONS, "cpu", 1.0)
    flow = FlowMap(MLP(2, width=8, depth=1))
    assert size_of(flow, POINTS, False, n=2048).n == 2048
    assert size_of(flow, POINTS, False, draws=8).draws == 8
    assert not size_of(flow, POINTS, False, n=1000, draws=3).fewer


def test_quick_chooses_what_the_caller_leaves_open():
    flow = FlowMap(MLP(2, width=8, depth=1))
    assert size_of(flow, POINTS, False, quick=True) == QUICK
    found = size_of(flow, POINTS, False, quick=True, jumps=(2,), n=64)
    assert (found.jumps, found.ode_steps, found.n, found.draws) == ((2,), QUICK.ode_steps, 64, QUICK.draws)


def test_fewer_samples_have_larger_errors_and_a_floor_of_their_own(monkeypatch):
    flow = FlowMap(MLP(3, width=16, depth=1))
    options = {"jumps": (1,), "ode_steps": (), "labels": False}
    whole = evaluate(flow, VECTORS, **options)
    steps = size.operations(flow, VECTORS, False)
    monkeypatch.setitem(size.MOST_OPERATIONS, "cpu", steps * 4 * 64)
    fewer = evaluate(flow, VECTORS, **options)
    assert fewer["samples"] * fewer["draws"] < whole["samples"] * whole["draws"]
    assert fewer["floor_stderr"] > whole["floor_stderr"] and fewer["rows"][0]["stderr"] > whole["rows"][0]["stderr"]
    errors = fewer["rows"][0]["stderr"], whole["rows"][0]["stderr"]
    assert abs(fewer["rows"][0]["distance"] - whole["rows"][0]["distance"]) < 5 * math.hypot(*errors)
    again = evaluate(flow, VECTORS, **options, n=fewer["samples"], draws=fewer["draws"])
    assert again["floor"] == fewer["floor"] and again["rows"][0]["distance"] == fewer["rows"][0]["distance"]


def test_an_evaluation_says_its_time_and_how_far_it_is(monkeypatch):
    monkeypatch.setattr(size, "PERIOD", 0.0)
    said = []
    flow = FlowMap(MLP(3, width=16, depth=1))
    options = {"jumps": (1, 2), "ode_steps": (3,), "n": 64, "draws": 2, "labels": False}
    loud = evaluate(flow, VECTORS, **options, say=said.append)
    assert said[0] == "Measuring 3 samplers, 2 draws of 64 rows: a few seconds on cpu"
    shares = [int(line.removeprefix("Measuring ").partition("%")[0]) for line in said[1:]]
    assert shares == sorted(shares) and 0 < shares[0] < 50 < shares[-1] <= 99
    assert all(line.endswith(" left") for line in said[1:])
    quiet = evaluate(flow, VECTORS, **options)
    assert [row["distance"] for row in loud["rows"]] == [row["distance"] for row in quiet["rows"]]
    assert [row["network_calls"] for row in loud["rows"]] == [1, 2, 3]


def test_a_reduced_evaluation_says_how_to_have_it_whole(monkeypatch):
    monkeypatch.setitem(size.MOST_OPERATIONS, "cpu", 1.0)
    said = []
    evaluate(FlowMap(MLP(3, width=8, depth=1)), VECTORS, jumps=(1,), ode_steps=(), labels=False, say=said.append)
    assert "4 draws of 64 instead of 8 of 2048, as the network is large; n=2048 measures all" in said[0]
    assert said[1].startswith("Measuring 1 samplers, 4 draws of 64 rows: ")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(3, "a few seconds"), (42, "about 40 seconds"), (170, "about 3 minutes"), (9000, "about 2.5 hours")],
)
def test_times_in_words(seconds, expected):
    assert duration(seconds) == expected
