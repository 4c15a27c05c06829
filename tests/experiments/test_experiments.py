"""Experiments from Python: the defaults, the numbers and the files of the commands, without a shell."""

import dataclasses
import functools
import inspect
import json
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps import experiments
from flowmaps.cli import COMMANDS, main
from flowmaps.cli.options import Sample
from flowmaps.cli.tables import as_options
from flowmaps.experiments import comparison_runs
from flowmaps.experiments.comparison import METHODS
from flowmaps.experiments.sampling import STEP_NAMES
from flowmaps.experiments.trained_run import LEARNING, settings_of_training
from flowmaps.experiments.training_setup import STEPS
from flowmaps.recipes.rows import row_of, rows_of

TINY = {"width": 8, "depth": 1, "batch_size": 16, "progress_bar": False}
QUIET = {"trackers": (), "sample_every": 0}
TYPED = ["--width", "8", "--depth", "1", "--batch-size", "16", "--no-progress-bar", "--trackers", "--sample-every", "0"]
PRINTED = {"debug", "json"}
"""Options that decide what is printed."""


def train(data, out, **arguments):
    return experiments.train(data, out=out, **{"steps": 3, **TINY, **QUIET, **arguments})


def same(one, other):
    """Whether two runs have the same weights, averaged and not."""
    pairs = [(fm.load(one, ema=ema).state_dict(), fm.load(other, ema=ema).state_dict()) for ema in (True, False)]
    return all(torch.equal(mine[name], theirs[name]) for mine, theirs in pairs for name in mine)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A velocity of digits that knows the null class."""
    return train("digits", tmp_path_factory.mktemp("runs") / "plain", method="flow_matching", label_dropout=0.2)


def test_experiments_are_public_and_have_the_names_of_commands():
    names = {kind.__name__.lower() for kind in COMMANDS} - {"methods"}
    assert names <= set(experiments.__all__) and experiments is fm.experiments
    assert all(callable(getattr(experiments, name)) for name in experiments.__all__)
    with pytest.raises(AttributeError, match="no attribute 'sing'"):
        _ = experiments.sing


@pytest.mark.parametrize("name", ["train", "distill", "compare", "sample", "plan", "explain", "export"])
def test_the_defaults_are_those_of_the_command(name):
    function = getattr(experiments, name)
    command = next(kind for kind in COMMANDS if kind.__name__.lower() == name)
    own = {key: item.default for key, item in inspect.signature(function).parameters.items()}
    known = (settings_of_training() if "settings" in own else {}) | own
    known |= {"train": {"steps": STEPS}, "compare": {"methods": ",".join(METHODS)}}.get(name, {})
    # these are read or used by the command itself: a time as a text, the hours and the memory of a GPU, a file
    command_alone = {"compare": {"budget"}, "plan": {"rate", "memory"}, "sample": {"out"}, "explain": {"out"}}.get(
        name, set()
    )
    for field in dataclasses.fields(command):
        if field.name in PRINTED | command_alone | {"standardise"}:  # an option of the data, `data_args`
            continue
        if field.default is dataclasses.MISSING or known[field.name] is inspect.Parameter.empty:
            assert field.name in own
        else:
            assert (known[field.name] or None) == (field.default or None), field.name


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ({}, {}),
        ({"method_args": {"diagonal": 0.5}}, {"diagonal": 0.5}),
        ({"method_args": {"power": 0.5}}, {"power": 0.5}),
    ],
)
def test_without_a_method_the_data_choose_it(tmp_path, arguments, settings):
    """Its arguments replace those settings alone; the name of a method has the settings of its paper."""
    method = fm.recipes.method_for(fm.data.load("digits"), **settings)
    chosen, given, paper = (
        fm.training.read_config(train("digits", tmp_path / name, **options))
        for name, options in (("chosen", arguments), ("given", {"method": method}), ("paper", {"method": "imf"}))
    )
    assert chosen["method"] == given["method"] != paper["method"] and chosen["method"]["name"] == "imf"
    assert "Stable" in chosen["training"]["schedule"]["type"] and "Stable" not in paper["training"]["schedule"]["type"]


def test_points_have_their_own_method(tmp_path):
    found = fm.training.read_config(train("checkerboard", tmp_path / "run", method_args={"diagonal": 0.5}))
    assert (
        found["method"]
        == train("checkerboard", tmp_path / "same", method=fm.methods.lsd(diagonal=0.5)).config["method"]
    )
    assert "Stable" in found["training"]["schedule"]["type"]
    with pytest.raises(ValueError, match="lsd has no argument 'power'"):
        train("checkerboard", tmp_path / "no", method_args={"power": 0.5})
    assert not (tmp_path / "no").exists()
    names = {shape: fm.recipes.method_name(fm.data.as_data(torch.rand(9, *shape))) for shape in ((3,), (4,), (1, 8, 8))}
    assert list(names.values()) == ["lsd", "imf", "imf"]


def test_training_gives_the_weights_of_the_command(tmp_path):
    run = train("checkerboard", tmp_path / "python", method="lsd", method_args={"diagonal": 0.5})
    typed = ["train", "checkerboard", "--steps", "3", "--method", "lsd", "--method-args", "diagonal=0.5", *TYPED]
    assert main([*typed, "--out", str(tmp_path / "shell")]) == 0
    assert same(run, tmp_path / "shell")
    configs = [fm.training.read_config(folder) for folder in (run, tmp_path / "shell")]
    assert configs[0] == configs[1]
    assert run.steps == 3 and run.state.step == 3 and run.config["training"]["steps"] == 3
    assert isinstance(run.flow, fm.FlowMap) and run.folder == tmp_path / "python"


def test_a_method_is_named_or_given_and_so_is_the_data(tmp_path):
    data = fm.data.load("checkerboard")
    runs = [
        train(data, tmp_path / "name", method="meanflow"),
        train("checkerboard", tmp_path / "function", method=fm.methods.meanflow),
        train(data, tmp_path / "row", method=row_of("meanflow")),
        train(data, tmp_path / "method", method=fm.methods.meanflow()),
    ]
    assert all(same(runs[0], run) for run in runs[1:])
    assert rows_of(["ct", fm.methods.ct]) == [row_of("ct")]
    mine = train(torch.randn(64, 3), tmp_path / "tensor", method="ect")
    assert mine.flow.only_target == 0.0


def test_a_complete_run_is_said_and_resumes(tmp_path):
    said = []
    assert train("checkerboard", tmp_path / "run", say=said.append).steps == 3
    assert "imf on checkerboard: a network of" in said[0] and len(said) == 1
    assert train("checkerboard", tmp_path / "run", resume=True).steps == 0
    with pytest.raises(FileExistsError):
        train("checkerboard", tmp_path / "run")


def test_nothing_is_printed(tmp_path, capsys):
    run = train("checkerboard", tmp_path / "run")
    experiments.sample(run, n=2)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_samples_are_those_of_the_command(plain, tmp_path):
    x = experiments.sample(plain, n=6, steps=2, guidance=3, guidance_interval=(0.0, 0.5), seed=4)
    typed = ["-n", "6", "--steps", "2", "--guidance", "3", "--guidance-interval", "0:0.5", "--seed", "4"]
    assert main(["sample", str(plain.folder), *typed, "-o", str(tmp_path / "x.npy")]) == 0
    assert np.array_equal(np.load(tmp_path / "x.npy"), x)
    said = []
    again = experiments.sample(plain, n=6, step=fm.steps.euler, out=tmp_path / "x.png", say=said.append)
    assert again.shape == (6, 1, 8, 8) and (tmp_path / "x.png").stat().st_size > 500
    assert said == [f"6 samples of digits, weights of step 3, 1 x euler: {tmp_path / 'x.png'}"]
    with pytest.raises(ValueError, match="it needs `guidance`"):
        experiments.sample(plain, guidance_interval=(0, 1))
    with pytest.raises(ValueError, match=r"unknown step 'jmp' \(did you mean jump\?\); known are auto, jump"):
        experiments.sample(plain, step="jmp")
    assert STEP_NAMES == get_args(get_type_hints(Sample)["step"])[1:]  # the command line offers the same


@pytest.mark.parametrize(("guidance", "text"), [(2.0, "2"), ((1, 8), "1:8")])
def test_a_guided_run_is_the_one_of_the_command(guidance, text, tmp_path):
    run = train("digits", tmp_path / "python", guidance=guidance, guidance_interval=(0.2, 0.8))
    typed = ["train", "digits", "--steps", "3", "--guidance", text, "--guidance-interval", "0.2:0.8", *TYPED]
    assert main([*typed, "--out", str(tmp_path / "shell")]) == 0
    assert same(run, tmp_path / "shell")
    assert run.flow.guidance.scale == guidance and run.config["notes"]["guidance"] == text
    assert run.config == fm.training.read_config(tmp_path / "shell")
    assert experiments.sample(run, n=2, guidance=2).isfinite().all()


def test_a_distillation_from_a_run_and_from_a_flow_map(plain, tmp_path):
    taught = {"method": "ayf_emd", "guidance": 3}
    run = train("digits", tmp_path / "folder", teacher=plain, start=plain, **taught)
    teacher = plain.flow
    other = train("digits", tmp_path / "memory", teacher=teacher, start=teacher, **taught)
    assert same(run, other) and run.config["notes"]["teacher"] == str(plain.folder)
    assert "teacher" not in other.config["notes"]
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), plain.flow.parameters(), strict=True))
    assert run.flow.guidance.scale == other.flow.guidance.scale == 3.0


def test_distill_is_the_command(plain, tmp_path):
    quiet = {"steps": 2, "batch_size": 4, "progress_bar": False, **QUIET}
    run = experiments.distill(plain, guidance=2, out=tmp_path / "python", **quiet)
    typed = ["--steps", "2", "--batch-size", "4", "--no-progress-bar", "--trackers", "--sample-every", "0"]
    command = ["distill", str(plain.folder), "--guidance", "2", "--out", str(tmp_path / "shell"), *typed]
    assert main(command) == 0
    assert same(run, tmp_path / "shell") and run.config == fm.training.read_config(tmp_path / "shell")
    cost = experiments.distill(plain, guidance=2, dry_run=True, **quiet)
    assert isinstance(cost, experiments.DryRun) and cost.batch_size == 4 and cost.total > 0
    assert ["trained weights", f"{cost.trained:,}"] in cost.table()


@pytest.mark.slow
def test_a_comparison_without_a_shell(tmp_path, monkeypatch):
    monkeypatch.setattr("flowmaps.evaluate.run.map_error", lambda *_, **__: {})
    monkeypatch.setattr(comparison_runs, "evaluate", functools.partial(fm.evaluate.evaluate, n=64, draws=2))
    names = ["meanflow", fm.methods.ct]
    result = experiments.compare("checkerboard", names, steps=3, out=tmp_path / "both", **TINY)
    assert [row[0] for row in result.rows] == ["meanflow", "ct"] and result.columns[:2] == ["method", "1 jump"]
    assert result.markdown == (tmp_path / "both" / "table.md").read_text() == result._repr_markdown_()
    assert result.document == json.loads((tmp_path / "both" / "table.json").read_text())
    assert result.page.is_file() and set(result.runs) == {"meanflow", "ct"}
    assert result.runs["ct"].flow.only_target == 0.0
    typed = ["compare", "checkerboard", "--methods", "meanflow,ct", "--steps", "3", "--out", str(tmp_path / "both")]
    assert main([*typed, *TYPED[:7]]) == 0  # the same comparison, of which all is there
    with pytest.raises(ValueError, match=r"choose another folder \(`out`\)"):
        experiments.compare("checkerboard", names, steps=4, out=tmp_path / "both", **TINY)


def test_a_plan_is_an_estimate():
    recipe = fm.recipes.find("imagenet256-dit-b4-meanflow").reduced()
    estimate = experiments.plan(recipe, gpus=2, batch_size=4, method="psd", method_args={"diagonal": 0.5})
    assert estimate.recipe.row.name == "psd" and estimate.rows == 2 and estimate.hours(1e12) > 0
    with pytest.raises(ValueError, match="did you mean diagonal"):
        experiments.plan(recipe, method="psd", method_args={"diagonale": 0.5})


def test_an_export_says_its_files(tmp_path):
    pytest.importorskip("diffusers")
    run = train("checkerboard", tmp_path / "run")
    said = []
    files = experiments.export(run, tmp_path / "out", program=True, say=said.append)
    assert files.folder == tmp_path / "out" and files.program.is_file() and files.onnx is None
    assert len(said) == 2 and "trust_remote_code=True" in said[0]
    with pytest.raises(ValueError, match="`adapter_only` writes no network"):
        experiments.export(run, tmp_path / "no", adapter_only=True, onnx=True)


def test_arguments_that_cannot_be(tmp_path, plain):
    out = tmp_path / "no"
    for arguments, error, message in (
        ({"stepps": 3}, TypeError, r"unexpected keyword argument 'stepps' \(did you mean steps"),
        ({"method": "meanflwo"}, ValueError, "did you mean meanflow"),
        ({"method_args": {"diagonale": 1}}, ValueError, "did you mean diagonal"),
        ({"steps": 3, "seconds": 1.0}, ValueError, "training has one length"),
        ({"guidance": 2}, ValueError, "checkerboard has no class labels"),
        ({"guidance": (3, 1)}, ValueError, "checkerboard has no class labels"),
        ({"reduced": True}, ValueError, "`reduced` is for recipes"),
        ({"method": "lmd"}, ValueError, "`teacher=RUN`"),
        ({"method": fm.methods.imf(), "method_args": {"diagonal": 0.5}}, ValueError, "is already a method"),
        ({"recipe": "cifar10-unet-meanflow", "width": 8}, ValueError, "`width` does not apply"),
    ):
        with pytest.raises(error, match=message):
            experiments.train("checkerboard", out=out, **arguments)
    with pytest.raises(ValueError, match="`guidance` is a positive scale, .* got 3:1"):
        experiments.train("digits", out=out, guidance=(3, 1))
    with pytest.raises(ValueError, match="`data_args` are for a data set that is given by name"):
        experiments.train(fm.data.load("digits"), out=out, data_args={"n": 3})
    with pytest.raises(TypeError, match="unexpected keyword argument 'accumulate'"):
        experiments.compare("checkerboard", out=out, accumulate=2)
    with pytest.raises(ValueError, match="at least one name"):
        experiments.compare("checkerboard", [], out=out)
    assert "accumulate" not in LEARNING and not out.exists()


def test_a_recipe_from_python(tmp_path):
    rows = torch.rand(24, 3, 32, 32) * 2 - 1
    recipe = {"recipe": "cifar10-unet-meanflow", "reduced": True, "progress_bar": False, **QUIET}
    run = experiments.train(rows, out=tmp_path / "run", lr=1e-3, **recipe)
    training = run.config["training"]
    assert run.steps == 3 and training["batch_size"] == 8 and training["ema"] == 0.9999 and training["lr"] == 1e-3
    assert run.config["notes"] == {"recipe": "cifar10-unet-meanflow"} and run.config["method"]["name"] == "meanflow"


def test_messages_name_options_on_the_command_line():
    text = "`guidance_interval` needs `guidance`; `labels=False`, `teacher=RUN`, `other=3` and `hf auth login`"
    expected = "--guidance-interval needs --guidance; --no-labels, --teacher RUN, `other=3` and `hf auth login`"
    assert as_options(text, ["guidance_interval", "guidance", "labels", "teacher"]) == expected
