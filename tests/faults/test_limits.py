"""Requests beyond the memory, and inputs from which nothing can be learned: each is said before any work."""

import copy
import re

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps import cli, experiments
from flowmaps.arguments import memory
from flowmaps.cli import main
from flowmaps.evaluate import energy_distance
from flowmaps.runs.records import metrics_line, thinned_metrics

QUIET = {"batch_size": 16, "progress_bar": False, "trackers": (), "sample_every": 0}


@pytest.fixture
def run(tmp_path):
    return experiments.train("gaussian", method="imf", steps=1, width=8, depth=1, out=tmp_path / "run", **QUIET)


def test_samples_beyond_the_free_memory_are_refused_before_they_are_drawn(run, tmp_path, capsys):
    out = tmp_path / "samples.npy"
    assert main(["sample", str(run), "-n", str(10**12), "-o", str(out)]) == 2
    said = capsys.readouterr().err
    assert re.search(r"samples take 8,000.0 GB of memory, and .* GB are free: draw fewer samples, --n", said)
    assert not out.exists()


def test_large_samples_and_evaluations_say_their_size_first(run, monkeypatch):
    said = []
    monkeypatch.setattr(memory, "LARGE", 1000)
    experiments.sample(run, n=500, say=said.append)
    assert said == ["500 samples take 0.0 MB of memory"]
    with pytest.warns(UserWarning, match="this evaluation keeps rows of .* MB of memory"):
        experiments.evaluate(run, n=64, draws=2, jumps=(1,), ode_steps=())


def test_a_machine_out_of_memory_is_one_sentence_with_the_options_that_need_less(monkeypatch, capsys):
    monkeypatch.setattr(cli, "run", lambda options: torch.empty(2**60, dtype=torch.uint8))
    assert main(["train", "digits"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: the machine is out of memory: try a smaller --batch-size") and said.count("\n") == 1


@pytest.mark.slow
def test_curves_of_a_long_run_are_made_of_a_bounded_number_of_rows(run):
    row = {"loss": 1.0, "terms": {"imf": 1.0}, "lr": 0.1, "steps_per_second": None, "seconds": 0.5}
    with (run.folder / "metrics.jsonl").open("w") as file:
        file.writelines(metrics_line({"step": step, **row}) for step in range(1, 30_001))
    found = thinned_metrics(run)
    assert len(found) <= 4096 and (found[0]["step"], found[-1]["step"]) == (1, 30_000)


def test_an_unexpected_error_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(cli, "run", lambda options: {}["lost"])
    assert main(["methods"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: unexpected KeyError: 'lost'. ") and said.count("\n") == 1


def test_data_without_variation_are_refused(tmp_path, capsys):
    np.save(tmp_path / "rows.npy", np.ones((50, 3), np.float32))
    out = tmp_path / "run"
    assert main(["train", str(tmp_path / "rows.npy"), "--out", str(out), "--steps", "2"]) == 2
    assert "all values of" in (said := capsys.readouterr().err) and "give data that vary" in said
    assert not (out / "checkpoints").exists()


def test_a_teacher_that_is_the_student_is_refused(tmp_path):
    flow, teacher = (fm.FlowMap(fm.networks.MLP(2, width=8, depth=1)) for _ in range(2))
    for shared in (flow, fm.FlowMap(flow.network)):
        with pytest.raises(ValueError, match="learn from"):
            next(fm.train(flow, fm.methods.lmd(teacher=shared), torch.randn(64, 2), steps=1, **QUIET))
    for other in (teacher, copy.deepcopy(flow)):
        assert next(fm.train(flow, fm.methods.lmd(teacher=other), torch.randn(64, 2), steps=1, **QUIET)).step == 1


def test_a_teacher_that_writes_into_its_input_is_refused():
    class Writes:
        path = fm.path.linear

        def velocity(self, x, t):
            return x.mul_(2)

    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
    with pytest.raises(ValueError, match=r"the teacher writes into its input x.*x\.clone\(\)"):
        next(fm.train(flow, fm.methods.lmd(teacher=Writes()), torch.randn(64, 2), steps=1, **QUIET))


def test_samples_that_are_not_finite_have_no_distance(run):
    with pytest.raises(ValueError, match="must be finite, and 8 of its 8 rows hold NaN"):
        energy_distance(torch.randn(8, 2), torch.full((8, 2), torch.nan))
    flow = fm.load(run)
    torch.nn.init.constant_(flow.network.output.bias, torch.inf)
    with pytest.warns(UserWarning, match="samples of jump in 1 steps? hold NaN .*its measures are not known"):
        found = fm.evaluate.evaluate(flow, fm.data.load("gaussian"), n=64, draws=2, jumps=(1,), ode_steps=())
    assert found["rows"][0]["distance"] is None
