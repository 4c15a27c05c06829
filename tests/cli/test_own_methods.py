"""A method of your own at the command line and in a comparison, without a row of the landscape."""

import functools
import sys

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps.cli import main
from flowmaps.cli.own_method import method_named
from flowmaps.experiments import comparison_runs
from flowmaps.recipes.rows import row_of, rows_of

TINY = ["--batch-size", "16", "--width", "8", "--depth", "1", "--no-progress-bar", "--trackers", "--sample-every", "0"]
MODULE = """
from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import flowmaps as fm
from flowmaps.consistency import diffusion, lagrangian
from flowmaps.derivative import detached, stop

if TYPE_CHECKING:
    from nowhere import Share


def steady(diagonal: Share = 0.75):
    rule = partial(lagrangian, derivative=detached, slope=stop, target=stop)
    flat = fm.Term(diffusion, share=diagonal, times=fm.times.uniform_diagonal())
    return fm.Method(flat, fm.Term(rule, fm.velocity.averaged(0.9), share=1 - diagonal), name="steady")


def taught(teacher):
    return fm.methods.lmd(teacher=teacher)


def wrong():
    return 3


half = fm.methods.lsd(diagonal=0.5)
half.name = "half"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a module of a user, as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in sys.modules if name.startswith("own_methods")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "own_methods.py").write_text(MODULE)
    (tmp_path / "own_methods_broken.py").write_text("1 / 0\n")
    return tmp_path


def train(method, *more, out="run"):
    return main(["train", "checkerboard", "--method", method, "--steps", "2", "--out", out, *TINY, *more])


def test_a_run_of_an_own_method_is_sampled_without_its_module(folder):
    assert train("own_methods:steady", "--method-args", "diagonal=0.5") == 0
    config = fm.training.read_config("run")
    assert config["method"]["name"] == "steady" and config["method"]["terms"][0]["arguments"]["share"] == 0.5
    (folder / "own_methods.py").unlink()
    del sys.modules["own_methods"]
    assert main(["sample", "run", "-n", "3", "-o", "x.npy"]) == 0
    assert np.load("x.npy").shape == (3, 2) and "own_methods" not in sys.modules


def test_it_goes_on_by_the_same_module_and_not_by_a_changed_one(folder, capsys):
    assert train("own_methods:steady") == 0 and train("own_methods:steady", "--resume") == 0
    del sys.modules["own_methods"]
    (folder / "own_methods.py").write_text(MODULE.replace("averaged(0.9)", "averaged(0.95)"))
    capsys.readouterr()
    assert train("own_methods:steady", "--resume") == 2
    assert "another configuration" in capsys.readouterr().err


def test_an_own_method_that_learns_from_a_teacher(capsys):
    assert train("imf", out="teacher") == 0
    assert train("own_methods:taught") == 2 and "--teacher RUN" in capsys.readouterr().err
    assert train("own_methods:taught", "--teacher", "teacher") == 0


def test_a_method_object_of_a_module():
    assert train("own_methods:half") == 0
    assert fm.training.read_config("run")["method"]["name"] == "half"


def test_explain_shows_an_own_method(capsys):
    assert main(["explain", "own_methods:steady", "--method-args", "diagonal=0.5"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("steady\n") and "nan" not in text and "50%" in text


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("own_method:steady", "there is no module own_method in .* (did you mean own_methods"),
        ("own_methods:stedy", "has no function or Method 'stedy' (did you mean steady?)"),
        ("own_methods:", "has no function or Method ''"),
        ("own_methods.py:steady", "such as own_methods:steady"),
        ("../own_methods:steady", "such as my_module:steady"),
        ("own_methods_broken:steady", "cannot be imported, ZeroDivisionError: division by zero"),
        ("own_methods:wrong", "wrong must return a Method, made of terms as in fm.methods, got 3"),
        ("own_methods:steady --method-args diagnal=1", "steady has no argument 'diagnal' (did you mean diagonal?)"),
        ("json:loads", "loads needs the argument 's': give it by --method-args"),
        ("stedy", "a function of your own by its module"),
    ],
)
def test_a_word_that_is_no_method_is_refused(word, message, capsys):
    method, *more = word.split()
    assert train(method, *more) == 2
    text = capsys.readouterr().err
    assert all(part in text for part in message.split(" .* ")) and "Traceback" not in text


def test_a_file_cannot_take_the_place_of_a_library(folder):
    (folder / "textwrap.py").write_text("raise SystemExit('a file of this folder ran')\n")
    with pytest.raises(ValueError, match="no function or Method"):
        method_named("textwrap:steady")


def test_no_name_in_python_or_in_a_file_imports_a_module(folder):
    with pytest.raises(ValueError, match="import the function and give it instead of its name"):
        fm.experiments.train("checkerboard", method="own_methods:steady", steps=1)
    assert "own_methods" not in sys.modules


@pytest.fixture
def quick(monkeypatch):
    """Evaluations of few samples."""
    monkeypatch.setattr("flowmaps.evaluate.run.map_error", lambda *_, **__: {})
    monkeypatch.setattr("flowmaps.evaluate.by_kind.DENSITY_SAMPLES", 256)
    monkeypatch.setattr("flowmaps.evaluate.by_kind.LEAST_DENSITY", 256)
    monkeypatch.setattr(comparison_runs, "evaluate", functools.partial(fm.evaluate.evaluate, n=64, draws=2))
    monkeypatch.setattr("flowmaps.experiments.comparison.comparison_report", lambda *_: None)


SMALL = {"steps": 2, "batch_size": 16, "width": 8, "depth": 1, "progress_bar": False}


@pytest.mark.slow
def test_a_comparison_trains_the_given_objects(quick):
    half, whole = fm.methods.lsd(diagonal=0.5), fm.methods.lsd(diagonal=0.875)
    before = [weight.clone() for weight in half.state_dict().values()]
    table = fm.experiments.compare("checkerboard", {"half": half, "whole": whole, "usual": "lsd"}, out="c", **SMALL)
    shares = {name: run.config["method"]["terms"][0]["arguments"]["share"] for name, run in table.runs.items()}
    assert shares == {"half": 0.5, "whole": 0.875, "usual": 0.75}
    assert all(torch.equal(a, b) for a, b in zip(before, half.state_dict().values(), strict=True))
    with pytest.raises(ValueError, match="trained by another method of this name.*share.*0.5.*0.75"):
        fm.experiments.compare("checkerboard", {"half": fm.methods.lsd(diagonal=0.75)}, out="c", **SMALL)
    again = fm.experiments.compare("checkerboard", {"half": fm.methods.lsd(diagonal=0.5)}, out="c", **SMALL)
    assert list(again.runs) == ["half"]


def test_a_comparison_of_functions_at_the_command_line(quick, capsys):
    arguments = ["compare", "checkerboard", "--methods", "imf,own_methods:steady", "--steps", "2", "--out", "c"]
    assert main([*arguments, *TINY[:-4]]) == 0
    text = capsys.readouterr().out
    assert "steady" in text and "nan" not in text


def test_rows_of_own_methods():
    partial = functools.partial(fm.methods.lsd, diagonal=0.5)
    assert row_of(partial).name == "lsd" and row_of(partial).build is partial
    assert row_of(fm.methods.lsd) is row_of("lsd")
    ends = fm.methods.ct()
    assert row_of(ends).only_target == 0.0 and row_of(ends).build() is not ends
    with pytest.raises(ValueError, match="two methods have the name lsd"):
        rows_of([fm.methods.lsd(), fm.methods.lsd(diagonal=0.5)])
    for name in ("teacher", "a/b", "..", ""):
        with pytest.raises(ValueError, match="cannot be one"):
            rows_of({name: "lsd"})
    with pytest.raises(ValueError, match="cannot be one"):
        rows_of([lambda: fm.methods.lsd()])
