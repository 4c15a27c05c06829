"""Methods without data: no row is ever drawn, labels come evenly, and the run is a run like any other."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.training import read_config, train
from tests.training.support import GAUSSIAN, QUIET, chasing, data_free, linear_flow


class Untouchable:
    """A source of rows that may not be asked for any."""

    size = None

    def batches(self, batch_size, seed, start, rows):
        raise AssertionError("a data-free method asked for data")

    draw = held_out = batches


def untouchable(shape=(2,), classes=None):
    return replace(fm.data.no_data(shape, classes), name="untouchable", source=Untouchable())


def test_no_row_is_drawn(tmp_path):
    flow = linear_flow(only_source=1.0)
    *_, state = train(flow, data_free(), untouchable(), steps=3, out=tmp_path / "run", **{**QUIET, "sample_every": 1})
    assert state.step == 3 and len(list((tmp_path / "run" / "samples").glob("*.png"))) == 3
    assert read_config(tmp_path / "run")["data"]["name"] == "untouchable"
    with pytest.raises(AssertionError, match="asked for data"):
        next(train(linear_flow(), chasing(), untouchable(), steps=3, **QUIET))


def test_data_of_which_only_the_shape_is_known_gives_the_same_numbers():
    runs = [
        list(train(linear_flow(), data_free(), data, steps=4, **QUIET))[-1]
        for data in (untouchable(), fm.data.no_data((2,)), GAUSSIAN)
    ]
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0].ema.parameters(), other.ema.parameters(), strict=True))


def test_it_learns_the_velocity_at_the_noise():
    flow = linear_flow()
    plan = {**QUIET, "batch_size": 512, "lr": 0.02}
    *_, state = train(flow, data_free(), fm.data.no_data((2,)), steps=400, **plan)
    x = torch.randn(256, 2)
    # E|jump - v(x, 1)|^2 over x ~ N(0, I) and all t: v is linear in x, as the network is, so it can be zero
    error = state.ema.average_velocity(x, 1.0, 0.3) - GAUSSIAN.velocity(x, 1.0)
    assert float(error.square().mean()) < 1e-2


class Labelled(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.seen = nn.Linear(4, 2), []

    def forward(self, x, s, t, label):
        self.seen.append(label)
        return self.linear(torch.cat([x, s[:, None], t[:, None]], 1))


def labels_of(start=0, **plan):
    network = Labelled()
    run = train(fm.FlowMap(network), data_free(), untouchable(classes=3), steps=9, **{**QUIET, **plan})
    list(itertools.islice(run, start + 4))
    return network.seen


def test_labels_are_even_and_a_function_of_seed_and_step():
    first, again, other = labels_of(), labels_of(), labels_of(seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    counts = torch.bincount(torch.cat(labels_of(batch_size=3000)), minlength=3).double()
    # each count is binomial with n = 12000, p = 1/3: its standard error is sqrt(n p (1 - p)) = 52
    assert float((counts - 4000).abs().max()) < 4 * 52


def test_a_resumed_run_goes_on_with_the_labels(tmp_path):
    def start():
        torch.manual_seed(1)
        flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, classes=3))
        for weight in flow.parameters():
            nn.init.normal_(weight, std=0.3)
        return flow, data_free(), fm.data.no_data((2,), 3)

    *_, whole = train(*start(), steps=8, **QUIET)
    list(itertools.islice(train(*start(), steps=8, out=tmp_path / "run", **QUIET), 5))
    *_, resumed = train(*start(), steps=8, out=tmp_path / "run", resume=True, **QUIET)
    assert all(torch.equal(a, b) for a, b in zip(whole.ema.parameters(), resumed.ema.parameters(), strict=True))
