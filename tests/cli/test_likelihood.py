"""Log-densities on the command line: the table, JSON, the command in the record, and refusals."""

import json
import shlex

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps.cli import main
from flowmaps.experiments import likelihood
from flowmaps.runs.likelihood_record import read_likelihood_record

TINY = ["--steps", "2", "--batch-size", "16", "--width", "8", "--depth", "1", "--no-progress-bar", "--trackers"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on digits with labels."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", "digits", "--out", str(out), "--sample-every", "0", *TINY]) == 0
    return out


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with images in a wrong range, of a wrong size, and with a value that is not finite."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).random((30, 1, 8, 8)).astype(np.float32) * 2 - 1
    np.save("noise.npy", x)
    np.save("bytes.npy", 127.5 * (x + 1))
    np.save("small.npy", x[:, :, :4, :4])
    np.save("nan.npy", np.where(x > 0.99, np.nan, x))
    return tmp_path


def command(*arguments):
    return main(["likelihood", *map(str, arguments)])


def test_a_table_with_a_part_for_each_estimator(run, capsys):
    assert command(run, "noise.npy", "--by", "bound:4", "bound:8", "-n", 6, "--label", 3, "--seed", 1) == 0
    text = capsys.readouterr().out
    lines = [line.split() for line in text.splitlines()]
    table = likelihood(run, "noise.npy", by=["bound:4", "bound:8"], n=6, label=3, seed=1)
    assert text.startswith("log p(x | class 3) of digits, weights of step 2\n") and "bits per dimension" in text
    for row in table.rows:
        cells = next(line for line in lines if line[:2] == [row.rows, row.by])
        assert cells[2:5] == ["6", f"{row.nats:.4g}", f"{row.stderr:.4g}"] and f"{row.passes}" in cells
    assert len(table.rows) == 8 and all(note in text for note in table.notes) and "50% is chance" in text


def test_json_and_the_command_that_made_it(run, capsys):
    words = ["--by", "bound:4", "-n", "5", "--no-labels", "--seed", "2"]
    assert command(run, *words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    record = read_likelihood_record(run)
    assert found["rows"] == record["rows"] and found["notes"] == record["notes"] and found["levels"] == 17
    assert set(found["accuracy"]) == {"bound:4"} and found["rows"][0]["passes"] == 40
    line = shlex.split(record["command"])
    assert line[:3] == ["flowmaps", "likelihood", str(run)] and "--no-labels" in line and "--json" not in line
    assert main(line[1:]) == 0
    again = read_likelihood_record(run)
    assert again["values"] == record["values"] and again["command"] == record["command"]


def test_options_of_another_data_set(tmp_path, capsys):
    out = tmp_path / "points"
    assert main(["train", "gaussian", "--out", str(out), "--sample-every", "0", *TINY]) == 0
    capsys.readouterr()
    assert command(out, "two_moons", "--data-args", "labels=True", "-n", 4, "--by", "ode:2") == 0
    said = capsys.readouterr().out
    assert "nats per value" in said and "two_moons" in said and "bits per dimension" not in said


WRONG = [
    ("--by od", "unknown estimator 'od' (did you mean ode?)"),
    ("--by ode:0", "ode takes its number of steps after a colon"),
    ("--by bound:5", "must be even, got 5"),
    ("--by jumps:2", "trained on jumps from noise to data"),
    ("--by ode jumps:2", "trained on jumps from noise to data"),
    ("--by joint:2", "joint"),
    ("-n 0", "n must be at least 1"),
    ("--seed -1", "seed"),
    ("--start 0.7", "start must be in [0, 0.5]"),
    ("--label 10", "--label must be at least 0 and below the number of classes, 10"),
    ("--label 3 --no-labels", "--label gives all rows a class, and --no-labels none"),
    ("--guidance 2", "does not know the null class"),
    ("--guidance-interval 0.2:0.8", "--guidance-interval applies to guidance"),
    ("--data-args n=3", "--data-args are options of another data set, and there is none"),
    ("noise.npy", "give one class for all rows, --label, or leave the classes out, --no-labels"),
    ("none.npy", "there is no file or folder none.npy"),
    ("checkerbord", 'unknown data set "checkerbord" (did you mean checkerboard?)'),
    ("small.npy --no-labels", "rows of small.npy have shape (1, 4, 4)"),
    ("bytes.npy --no-labels", "must lie in [-1, 1], and their values reach from"),
    ("nan.npy --no-labels", "nan.npy must be finite"),
    ("photos --label 1", "rows of photos have shape (3, 16, 16)"),
    ("noise.npy --label 1 --data-args nothing=3", 'takes no option "nothing"'),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_wrong_options_are_refused_before_anything_is_computed(arguments, said, run, capsys, monkeypatch):
    def computed(*_, **__):
        raise AssertionError("a log-density was computed")

    monkeypatch.setattr("flowmaps.experiments.likelihood_estimate.log_prob", computed)
    assert command(run, *arguments.split()) == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text and said in " ".join(text.split()), text


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert command(tmp_path / "none") == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_rows_outside_of_the_range_are_warned_of_beside_the_table(tmp_path, capsys):
    out = tmp_path / "points"
    assert main(["train", "gaussian", "--out", str(out), "--sample-every", "0", *TINY]) == 0
    np.save("far.npy", np.random.default_rng(0).standard_normal((30, 2)).astype(np.float32) * 1000)
    assert command(out, "far.npy", "-n", 5, "--by", "ode:2") == 0
    found = capsys.readouterr()
    assert "warning: 5 of 5 rows of far.npy have values outside of the range" in found.err
    assert "rows of far.npy have values outside" in found.out


@pytest.mark.slow
def test_jumps_of_a_map_of_both_directions(tmp_path, capsys):
    out = tmp_path / "both"
    flow = fm.FlowMap(fm.networks.MLP(2, 16, 2))
    method = fm.methods.lsd(times=fm.times.both_directions(fm.times.uniform_triangle()))
    quiet = {"progress_bar": False, "trackers": (), "sample_every": 0}
    torch.manual_seed(0)
    for _ in fm.train(flow, method, "gaussian", steps=300, out=out, batch_size=64, **quiet):
        pass
    assert command(out, "--by", "jumps:4", "ode:10", "-n", 16, "--json") == 0
    found = json.loads(capsys.readouterr().out)["rows"]
    assert {row["by"] for row in found} == {"jumps:4", "ode:10"} and found[0]["passes"] == 12
