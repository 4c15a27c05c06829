"""Sampling and evaluation compute a bounded number of rows at a time."""

import pytest
import torch

import flowmaps as fm
from flowmaps import evaluate, experiments
from flowmaps.arguments import memory
from flowmaps.cli import main
from flowmaps.evaluate import run as evaluation
from flowmaps.experiments import sampling
from flowmaps.networks import MLP

QUIET = {"batch_size": 16, "progress_bar": False, "trackers": (), "sample_every": 0}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A class-conditional run on images, with jumps and with random steps."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    return experiments.train("digits", method="meanflow", steps=2, width=8, depth=1, out=out, **QUIET)


@pytest.fixture
def rows(monkeypatch):
    """The numbers of rows that networks see."""
    seen, forward = [], MLP.forward

    def noted(self, x, *rest, **condition):
        seen.append(len(x))
        return forward(self, x, *rest, **condition)

    monkeypatch.setattr(MLP, "forward", noted)
    return seen


@pytest.mark.parametrize("step", ["jump", "euler", "restart", "ancestral"])
def test_many_samples_are_drawn_in_batches_with_the_numbers_of_one(digits, rows, monkeypatch, step):
    monkeypatch.setattr(sampling, "MOST_ROWS", 10_000)
    options = {"n": 300, "steps": 2, "step": step, "seed": 5}
    whole = experiments.sample(digits, **options)
    assert set(rows) == {300}
    rows.clear()
    monkeypatch.setattr(sampling, "MOST_ROWS", 64)
    parts = experiments.sample(digits, **options)
    assert set(rows) == {64, 300 % 64}
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


def test_the_batch_is_bounded_by_itself(digits, rows):
    experiments.sample(digits, n=20_000)
    assert max(rows) * 64 <= memory.VALUES and len(rows) == 3


def test_samples_beyond_the_memory_are_refused_before_any_work(digits, monkeypatch, capsys):
    monkeypatch.setattr(memory, "available", lambda: 10**6)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: pytest.fail("noise was drawn"))
    message = "100,000 samples take 25.6 MB of memory, and 1.0 MB are free: draw fewer samples, `n`"
    with pytest.raises(ValueError, match=message):
        experiments.sample(digits, n=100_000)
    assert main(["sample", str(digits), "-n", "100000", "-o", "x.npy"]) == 2
    assert "draw fewer samples, --n" in capsys.readouterr().err


def test_many_samples_say_their_size_first(digits, monkeypatch):
    said = []
    monkeypatch.setattr(memory, "LARGE", 10_000)
    experiments.sample(digits, n=100, say=said.append)
    assert said == ["100 samples take 0.0 MB of memory"]


@pytest.mark.parametrize("n", [10**12, 10**20])
def test_no_number_of_samples_ends_in_a_memory_error(digits, n):
    with pytest.raises(ValueError, match="GB of memory, and"):
        experiments.sample(digits, n=n)


def test_a_picture_that_is_too_large_is_refused_before_any_work(digits, tmp_path, rows):
    message = "a picture of 2,000,000 images of 8 x 8 pixels is too large.*1,048,576 images at most, or write an array"
    with pytest.raises(ValueError, match=message):
        experiments.sample(digits, n=2_000_000, out=tmp_path / "x.png")
    assert not rows


def test_evaluation_computes_a_bounded_number_of_rows(rows, monkeypatch):
    monkeypatch.setattr(memory, "VALUES", 64 * 32)
    data, flow = fm.data.load("digits"), fm.FlowMap(MLP((1, 8, 8), 8, 1))
    pixels = evaluate.Features("four pixels", lambda x: x.flatten(1)[:, 20:24])
    result = evaluate.evaluate(flow, data, n=64, draws=2, jumps=(1,), ode_steps=(), features=pixels)
    assert max(rows) == 32 == result["batch_size"]


def test_an_evaluation_beyond_the_memory_is_refused_before_any_work(rows, monkeypatch):
    data, flow = fm.data.load("digits"), fm.FlowMap(MLP((1, 8, 8), 8, 1))
    monkeypatch.setattr(memory, "available", lambda: 10**6)
    with pytest.raises(
        ValueError, match="this evaluation keeps rows of .* MB of memory, and 1.0 MB are free: evaluate"
    ):
        evaluate.evaluate(flow, data)
    assert rows in ([], [1])  # one row, to count the operations of the network


def test_a_large_evaluation_says_its_size(monkeypatch):
    monkeypatch.setattr(memory, "LARGE", 10**5)
    flow = fm.FlowMap(MLP(2, 8, 1))
    with pytest.warns(UserWarning, match=r"this evaluation keeps rows of .* MB of memory"):
        evaluation.evaluate(flow, fm.data.load("gaussian"), n=64, draws=2, jumps=(1,), ode_steps=())


class Broken(torch.nn.Module):
    """A network whose samples are not finite in some rows, from two jumps on."""

    def forward(self, x, s, t):
        value = torch.zeros_like(x)
        value[::7] = torch.where(s[::7, None] < 1, torch.nan, 0.0)
        return value


def test_samples_that_are_not_finite_have_no_measures():
    data = fm.data.load("gaussian")
    with pytest.warns(
        UserWarning, match=r"\d+ of \d+ samples of jump in 2 steps hold NaN .*its measures are not known"
    ):
        found = evaluation.evaluate(fm.FlowMap(Broken()), data, n=64, draws=2, jumps=(1, 2), ode_steps=())
    one, two = found["rows"]
    keys = [key for key in one if key not in ("sampler", "steps", "seconds_per_sample", "network_calls", "samples")]
    assert len(keys) >= 6
    assert all(one[key] is not None for key in keys) and all(two[key] is None for key in keys)
