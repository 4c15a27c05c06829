"""The command line, from arguments to files and exit codes."""

import functools
import json
import os
import signal
import threading
import time

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps.cli import main
from flowmaps.cli.arguments import data_arguments, function, literal, method_arguments, seconds_of
from flowmaps.cli.tables import print_evaluation
from flowmaps.experiments import evaluation
from flowmaps.experiments.build import make_flow
from flowmaps.recipes.rows import row_of
from flowmaps.training import read_metrics

FAST = ["--batch-size", "16", "--width", "8", "--depth", "1", "--no-progress-bar"]
NO_FILES = ["--trackers", "--sample-every", "0"]


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A run on points."""
    out = tmp_path_factory.mktemp("runs") / "board"
    assert main(["train", "checkerboard", "--steps", "4", "--out", str(out), "--sample-every", "4", *FAST]) == 0
    return out


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A class-conditional run on images."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    arguments = [
        "train",
        "digits",
        "--method",
        "meanflow",
        "--steps",
        "3",
        "--output",
        "gaussian-skip",
        "--out",
        str(out),
    ]
    assert main([*arguments, "--method-args", "diagonal=0.5", "weight=huber(0.1)", *FAST, *NO_FILES]) == 0
    return out


def refused(capsys, *arguments, code=2):
    """What a command that is refused prints, without a traceback."""
    assert main(list(arguments)) == code
    text = capsys.readouterr().err
    assert "error: " in text and "Traceback" not in text
    return text.partition("error: ")[2]


def test_train_leaves_a_run_folder(board):
    assert {p.name for p in board.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "samples",
    }
    assert (board / "samples" / "step_00000004.png").stat().st_size > 1000
    assert [row["step"] for row in read_metrics(board)] == [1, 4]
    config = json.loads((board / "config.json").read_text())
    assert config["data"]["recipe"] == {"name_or_path": "checkerboard"} and config["training"]["steps"] == 4


def test_the_trained_flow_map_loads(digits):
    flow = fm.load(digits)
    assert isinstance(flow.output, fm.GaussianSkip) and flow.output.mean.abs().sum() > 0
    x = torch.randn(3, 1, 8, 8)
    assert flow.given(label=torch.tensor([1, 2, 3]))(x, 1.0, 0.0).shape == x.shape


def test_resume_needs_the_same_options(board, capsys):
    again = ["train", "checkerboard", "--out", str(board), "--sample-every", "4", *FAST]
    assert "--resume" in refused(capsys, *again, "--steps", "4")
    assert main([*again, "--steps", "4", "--resume"]) == 0
    assert "complete" in capsys.readouterr().err
    assert "training.steps was 4 and is 9" in refused(capsys, *again, "--steps", "9", "--resume")
    assert "no such folder" in refused(capsys, *again, "--out", str(board / "other"), "--steps", "4", "--resume")


def test_start_goes_on_from_the_weights_of_another_run(board, tmp_path):
    out = tmp_path / "more"
    arguments = ["train", "checkerboard", "--steps", "1", "--lr", "1e-30", "--out", str(out), "--start", str(board)]
    assert main([*arguments, *FAST, *NO_FILES]) == 0
    one, other = fm.load(board), fm.load(out, ema=False)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(mine, theirs)


def test_distillation_from_a_run(board, tmp_path, capsys):
    arguments = ["train", "checkerboard", "--steps", "2", "--out", str(tmp_path / "run"), *FAST, *NO_FILES]
    assert "--teacher RUN" in refused(capsys, *arguments, "--method", "lmd")
    assert "takes no --teacher" in refused(capsys, *arguments, "--method", "imf", "--teacher", str(board))
    assert main([*arguments, "--method", "lmd", "--teacher", str(board)]) == 0


def test_sample_writes_arrays_and_pictures(board, digits, tmp_path):
    for name in ("one", "two"):
        arguments = ["sample", str(board), "-n", "5", "--seed", "3", "-o", str(tmp_path / f"{name}.npy")]
        assert main(arguments) == 0
    one, two = np.load(tmp_path / "one.npy"), np.load(tmp_path / "two.npy")
    noise = torch.randn(5, 2, generator=torch.Generator().manual_seed(3))
    assert np.array_equal(one, two) and np.allclose(one, fm.sample(fm.load(board), noise))
    for run, arguments in [(board, ["--step", "heun", "--steps", "2"]), (digits, ["--label", "7"]), (digits, [])]:
        assert main(["sample", str(run), "-n", "9", "-o", str(tmp_path / "deep" / "grid.png"), *arguments]) == 0
        assert (tmp_path / "deep" / "grid.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((2,), "samples.png"),
        ((1, 8, 8), "samples.png"),
        ((5,), "samples.csv"),
        ((4, 4, 4), "samples.npy"),
        ((2, 3, 4, 4), "samples.npy"),
    ],
)
def test_the_command_that_training_names_writes_samples(shape, name, tmp_path, capsys, monkeypatch):
    """And so does `sample` without a file."""
    monkeypatch.chdir(tmp_path)
    np.save("data.npy", np.random.default_rng(0).uniform(-1, 1, (40, *shape)))
    standardise = ["--data-args", "standardise=False"] if len(shape) > 1 else []
    assert main(["train", "data.npy", "--steps", "2", "--out", "run", *FAST, *NO_FILES, *standardise]) == 0
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Next:")]
    named = line.split("    ")[0].split()[2:]
    assert named == ["sample", "run", "-o", name]
    for arguments in (named, ["sample", "run"]):
        assert main(arguments) == 0 and (tmp_path / name).stat().st_size > 0
        (tmp_path / name).unlink()


def test_partial_maps_are_sampled_by_the_steps_that_they_have(tmp_path, capsys):
    run = tmp_path / "ect"
    assert main(["train", "checkerboard", "--method", "ect", "--steps", "2", "--out", str(run), *FAST, *NO_FILES]) == 0
    assert main(["sample", str(run), "--steps", "2", "-n", "5", "--seed", "3", "-o", str(tmp_path / "two.npy")]) == 0
    noise = torch.randn(5, 2, generator=torch.Generator().manual_seed(3))
    expected = fm.sample(fm.load(run), noise, 2, step=fm.steps.restart, seed=3)
    assert np.allclose(np.load(tmp_path / "two.npy"), expected)
    assert "2 x restart" in capsys.readouterr().err
    asked = ["sample", str(run), "--steps", "2", "--step", "jump", "-o", str(tmp_path / "no.npy")]
    assert "only knows the target time 0" in refused(capsys, *asked)


def test_sample_refuses(board, digits, tmp_path, capsys):
    def text(*arguments):
        return refused(capsys, "sample", *arguments)

    assert "without class labels" in text(str(board), "--label", "1", "-o", str(tmp_path / "a.npy"))
    assert "below the number of classes, 10, got 12" in text(str(digits), "--label", "12")
    assert "written as .png, .jpg, .jpeg, .webp, .npy, .csv, .tsv, .txt or .wav" in text(str(board), "-o", "a.gif")
    assert "a table of text holds points and vectors" in text(str(digits), "-o", str(tmp_path / "a.csv"))
    assert "at least 1, got 0" in text(str(board), "-n", "0")
    assert "no such folder" in text(str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    assert "no config.json" in text(str(tmp_path / "empty"))
    assert not list(tmp_path.glob("a.*"))


def test_unknown_names_are_met_with_the_closest_ones(tmp_path, capsys):
    out = ["--out", str(tmp_path / "run"), "--steps", "2"]
    assert "did you mean meanflow" in refused(capsys, "train", "checkerboard", "--method", "meanflwo", *out)
    assert "did you mean checkerboard" in refused(capsys, "train", "chekerboard", *out)
    assert "did you mean lsd" in refused(capsys, "compare", "checkerboard", "--methods", "lsdd", "--out", str(tmp_path))
    arguments = ["train", "checkerboard", *out, "--method-args"]
    assert "did you mean diagonal" in refused(capsys, *arguments, "diagonale=0.5")
    assert "did you mean adaptive" in refused(capsys, *arguments, "weight=adaptve(1)")
    assert "diagonal must be float, got 'much'" in refused(capsys, *arguments, "diagonal=much")
    assert "expected name=value" in refused(capsys, *arguments, "diagonal")
    assert "takes no option" in refused(capsys, "train", "checkerboard", *out, "--data-args", "size=3")
    assert "width must be at least 1, got 0" in refused(capsys, "train", "checkerboard", *out, "--width", "0")
    assert "is for images" in refused(capsys, "train", "checkerboard", *out, "--network", "dit")
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_it_went_wrong(tmp_path):
    with pytest.raises(ValueError, match="unknown method"):
        main(["train", "checkerboard", "--method", "none", "--out", str(tmp_path / "run"), "--debug"])


def test_methods_lists_the_landscape(capsys):
    assert main(["methods", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    m = fm.methods
    known = (*m.LANDSCAPE, *m.BEYOND, *m.DISCRETE, *m.MANIFOLDS, *m.DISTRIBUTIONAL)
    assert [row["name"] for row in rows] == [row.name for row in known]
    assert main(["methods"]) == 0
    text = capsys.readouterr().out
    assert all(row.name in text and row.reference in text for row in known)
    lines = [line.strip() for line in text.splitlines()]
    assert lines.index("eulerian") < next(i for i, line in enumerate(lines) if line.startswith("meanflow"))


@pytest.mark.parametrize("name", ["ct", "pid", "sct"])
def test_a_partial_map_knows_the_end_that_its_method_learns(name, board, tmp_path):
    row, out = row_of(name), tmp_path / name
    teacher = ["--teacher", str(board)] if row.needs_teacher else []
    command = ["train", "checkerboard", "--method", name, "--steps", "2", "--out", str(out), *teacher, *FAST, *NO_FILES]
    assert main(command) == 0
    flow = fm.load(out)
    assert (flow.only_source, flow.only_target) == (row.only_source, row.only_target) != (None, None)
    assert main(["sample", str(out), "-n", "4", "-o", str(tmp_path / "x.npy")]) == 0


def test_train_on_the_couplings_of_a_run(board, tmp_path, capsys):
    out = tmp_path / "straight"
    command = ["train", "checkerboard", "--method", "meanflow", "--steps", "2", "--out", str(out), *FAST, *NO_FILES]
    assert main([*command, "--reflow", str(board), "--couplings", "64"]) == 0
    assert "64 couplings" in capsys.readouterr().err
    assert json.loads((out / "config.json").read_text())["data"]["coupling"]["n"] == 64


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("2m", 120), ("1.5h", 5400), ("1h30m", 5400), ("0.5s", 0.5)]
)
def test_budgets(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "2 m", "m", "0s", "2d", "-3s", "1m!"])
def test_what_is_no_budget(text):
    with pytest.raises(ValueError, match="30s, 2m or 1h30m"):
        seconds_of(text)


def test_values_are_read_as_literals_and_functions_only():
    assert [literal(t) for t in ("1", "0.5", "true", "None", "(1, 2)", "word")] == [1, 0.5, True, None, (1, 2), "word"]
    assert data_arguments(["n=3", "folder=a=b"]) == {"n": 3, "folder": "a=b"}
    found = method_arguments(fm.methods.psd, ["diagonal=1", "split=midpoint"])
    assert found == {"diagonal": 1.0, "split": fm.consistency.midpoint} and isinstance(found["diagonal"], float)
    s, t = function(fm.times, "uniform_triangle(0.25, high=0.5)")(100, 0.0, torch.zeros(1))
    assert 0.25 <= t.min() and s.max() <= 0.5
    residual, times = torch.tensor([[3.0, 4.0]]), torch.ones(1)
    assert function(fm.weight, "squared") is fm.weight.squared
    assert function(fm.weight, "huber")(residual, times, times) == fm.weight.huber()(residual, times, times)
    for text in ("__import__('os').system('true')", "uniform_triangle(open('x'))", "torch", "1 +"):
        with pytest.raises(ValueError, match="function"):
            function(fm.times, text)


def test_networks_by_kind_of_data():
    def network(shape, **options):
        data = fm.data.as_data(torch.randn(20, *shape))
        return make_flow(data, "imf", width=16, depth=1, **options).network

    assert isinstance(network((2,)), fm.networks.MLP) and isinstance(network((1, 8, 8)), fm.networks.InBasis)
    assert isinstance(network((1, 8, 8), network="mlp"), fm.networks.MLP)
    assert isinstance(network((3, 32, 32)), fm.networks.GaussianEndpoint)
    assert isinstance(network((1, 8, 8), network="unet"), fm.networks.UNet)
    image = fm.data.as_data(torch.randn(20, 1, 8, 8))
    assert isinstance(make_flow(image, "imf", network="dit", depth=1).network, fm.networks.DiT)
    one, other = (make_flow(image, "imf", seed=seed) for seed in (0, 0))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGUSR1, 75)],
    ids=lambda value: str(value),
)
def test_a_stopped_command_keeps_what_it_learned(number, code, tmp_path, capsys):
    out = tmp_path / "run"
    if signal.getsignal(number) is signal.SIG_IGN:  # as for a process that a shell has put into the background
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def stop_it():
        while not (out / "metrics.jsonl").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=stop_it)
    thread.start()
    command = ["train", "checkerboard", "--steps", "1000000", "--out", str(out), *FAST, *NO_FILES]
    assert main(command) == code
    assert "--resume" in capsys.readouterr().err
    thread.join()
    assert len(list((out / "checkpoints").iterdir())) == 1
    assert fm.load(out).network.shape == (2,)


@pytest.fixture
def small_evaluation(monkeypatch):
    """The same evaluation with few samples and steps."""
    small = functools.partial(fm.evaluate.evaluate_run, n=64, draws=2, jumps=(1, 2), ode_steps=(4,))
    monkeypatch.setattr(evaluation, "evaluate", small)


def test_evaluate_takes_samplers_and_samples(board, capsys):
    """By number, or quickly; the time is said in advance, and the advice about a run of few steps is in the table."""
    assert main(["evaluate", str(board), "-n", "64", "--steps", "1", "3", "--ode-steps", "2"]) == 0
    printed = capsys.readouterr()
    kept = json.loads((board / "evaluation.json").read_text())
    assert [(row["sampler"], row["steps"]) for row in kept["rows"]] == [("jump", 1), ("jump", 3), ("euler", 2)]
    assert kept["samples"] == 64 and "Measuring 3 samplers, 8 draws of 64 rows: " in printed.err
    assert "noise against data" in printed.out
    assert main(["evaluate", str(board), "--quick"]) == 0
    kept = json.loads((board / "evaluation.json").read_text())
    assert [row["steps"] for row in kept["rows"]] == [1, 4, 16] and kept["draws"] == 4
    capsys.readouterr()
    for wrong, said in ((["-n", "1"], "n must be at least 2"), (["--steps", "0"], "steps[0] must be at least 1")):
        assert main(["evaluate", str(board), *wrong]) == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize("has_browser", [True, False])
def test_report_opens_its_page(board, capsys, monkeypatch, has_browser):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or has_browser)
    monkeypatch.setattr("flowmaps.experiments.report", lambda run, **_: run / "report.html")
    assert main(["report", str(board)]) == 0 and not opened
    assert main(["report", str(board), "--open"]) == 0
    assert opened == [(board / "report.html").resolve().as_uri()]
    printed = capsys.readouterr()
    assert printed.out.split() == [str(board / "report.html")] * 2
    assert ("no browser could be started" in printed.err) == (not has_browser)


@pytest.mark.slow
def test_evaluate_prints_the_table_that_it_keeps(board, capsys, small_evaluation):
    assert main(["evaluate", str(board), "--json"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert "Measuring" in printed.err
    assert result == json.loads((board / "evaluation.json").read_text())
    assert {(row["sampler"], row["steps"]) for row in result["rows"]} >= {("jump", 1), ("euler", 4)}
    print_evaluation(result)
    assert "jump" in (text := capsys.readouterr().out) and "data against data" in text
    print_evaluation({**result, "map_error": None, "map_error_one_jump": 0.25})
    assert "exact flow map: - over the times it knows, 0.25 from noise to data" in capsys.readouterr().out
    assert main(["evaluate", str(board), "--reference", str(board)]) == 0
    assert "this run" in (text := capsys.readouterr().out) and text.count("board") > text.count("checkerboard")
