"""Files that `fm.save` wrote, at every door of the experiments: they serve as flow maps, or a sentence says why not."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

import flowmaps as fm
from flowmaps import experiments
from flowmaps.cli import main
from flowmaps.data import transforms
from flowmaps.trained import TrainedSpec

KEPT = {"steps": 2, "batch_size": 8, "progress_bar": False, "trackers": (), "sample_every": 0}


def flow(classes=None, seed=0, **known):
    torch.manual_seed(seed)
    made = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, classes=classes)).eval()
    conditions = () if classes is None else ("label",)
    made.trained = TrainedSpec(down=True, conditions=conditions, classes=classes, shape=(2,), **known)
    return made


@pytest.fixture
def file(tmp_path):
    fm.save(flow(), tmp_path / "flow.safetensors")
    return tmp_path / "flow.safetensors"


def train(out, **settings):
    return experiments.train("two_moons", out=out, labels=False, **KEPT, **settings)


ROLES = {
    "start": {"method": "imf"},
    "teacher": {"method": "lmd", "width": 8, "depth": 1},
    "reflow": {"method": "rectified_meanflow", "couplings": 64, "width": 8, "depth": 1},
}


@pytest.mark.parametrize("role", ROLES)
def test_a_file_serves_as_its_flow_map_does(role, file, tmp_path):
    """The same run from the file, as a path and as a text, and from the flow map in Python."""
    runs = [train(tmp_path / str(k), **ROLES[role], **{role: one}) for k, one in enumerate((file, str(file), flow()))]
    first, *others = (fm.load(run, ema=False).state_dict() for run in runs)
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)
    notes = json.loads((tmp_path / "0" / "config.json").read_text())["notes"]
    assert notes.get(role) == (str(file) if role != "start" else None)


@pytest.mark.parametrize("role", ROLES)
def test_the_command_takes_it(role, file, tmp_path, capsys):
    options = [f"--{role}", str(file), "--out", str(tmp_path / "run"), "--steps", "2", "--batch-size", "8"]
    options += ["--no-labels", "--no-progress-bar", "--sample-every", "0"]
    for name, value in ROLES[role].items():
        options += [f"--{name}", str(value)]
    assert main(["train", "two_moons", *options]) == 0, capsys.readouterr().err
    assert fm.load(tmp_path / "run").trained is not None


def test_a_file_in_the_units_of_a_table_gives_them_on(tmp_path):
    made = flow()
    made.units = fm.Units((5.0, -3.0), (2.0, 0.5))
    fm.save(made, tmp_path / "flow.safetensors")
    rows = torch.randn(200, 2) * torch.tensor([2.0, 0.5]) + torch.tensor([5.0, -3.0])
    data = fm.data.as_data(rows, standardise=False)
    run = experiments.train(
        data, method="lmd", teacher=tmp_path / "flow.safetensors", out=tmp_path / "run", width=8, depth=1, **KEPT
    )
    assert run.flow.units == made.units


def test_an_export_takes_it(tmp_path):
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    images = fm.FlowMap(fm.networks.UNet((1, 8, 8), width=8, multipliers=(1,), blocks=1)).eval()
    fm.save(images, tmp_path / "flow.safetensors")
    assert (experiments.export(tmp_path / "flow.safetensors", tmp_path / "out").folder / "model_index.json").is_file()


DOORS = {
    "sample": lambda file, out: experiments.sample(file),
    "evaluate": lambda file, out: experiments.evaluate(file),
    "report": lambda file, out: experiments.report(file),
    "reference": lambda file, out: experiments.evaluate(train(out, method="imf", width=8), reference=file, quick=True),
    "compare": lambda file, out: experiments.compare("two_moons", ["lmd"], steps=2, teacher=file, out=out),
    "distill": lambda file, out: experiments.distill(file, method="lmd", out=out, **KEPT),
}


@pytest.mark.parametrize("door", DOORS)
def test_the_other_doors_say_what_they_need(door, file, tmp_path):
    with pytest.raises(ValueError, match=r"flow.safetensors is a file, and .*(run folder).*(teacher|--teacher)"):
        DOORS[door](file, tmp_path / "out")


@pytest.mark.parametrize("command", ["sample", "evaluate", "report", "distill"])
def test_so_do_the_commands(command, file, capsys):
    assert main([command, str(file)]) == 2
    assert "is a file, and" in capsys.readouterr().err


def test_a_file_of_other_tensors_is_no_model(tmp_path):
    save_file({"x": torch.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="holds tensors without the description of a flow map"):
        train(tmp_path / "run", method="imf", start=tmp_path / "x.safetensors")
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(ValueError, match=r"x\.txt"):
        train(tmp_path / "run", method="imf", start=tmp_path / "x.txt")
    with pytest.raises(FileNotFoundError, match="nothing is not a run folder: there is no such folder"):
        train(tmp_path / "run", method="imf", start=tmp_path / "nothing")


def named(names, classes=2):
    x, label = torch.randn(40, 2), torch.arange(40) % classes
    data = fm.data.as_data((x, label))
    return replace(data, class_names=None if names is None else tuple(names))


def test_classes_keep_the_numbers_of_a_teacher_that_is_a_flow_map(tmp_path):
    """A flow map knows how many classes it has, not their names: numbers serve as names, other names are refused."""
    fm.save(flow(classes=12), tmp_path / "flow.safetensors")
    settings = {"method": "lmd", "width": 8, "depth": 1, **KEPT}
    for k, teacher in enumerate((flow(classes=12), tmp_path / "flow.safetensors")):
        run = experiments.train(named(["3", "7"]), teacher=teacher, out=tmp_path / f"run{k}", **settings)
        about = run.config["data"]
        assert (about["classes"], about["class_names"][3], about["class_names"][7]) == (12, "3", "7")
        with pytest.raises(ValueError, match="cannot be matched with the classes of the flow map: cat, dog"):
            experiments.train(named(["cat", "dog"]), teacher=teacher, out=tmp_path / "x", **settings)
        with pytest.raises(ValueError, match="the flow map has 12 classes, and tensor 14"):
            experiments.train(named(None, 14), teacher=teacher, out=tmp_path / "x", **settings)


def test_a_guided_teacher_compares_with_its_own_null_class(tmp_path):
    """Data with two of twelve classes: the null class is the teacher's number 12, and not its class 2."""
    teacher = flow(classes=12, dropped=("label",))
    settings = {"method": "lmd", "width": 8, "depth": 1, "guidance": 2.0, **KEPT}
    run = experiments.train(named(None), teacher=teacher, out=tmp_path / "run", **settings)
    assert run.flow.guidance.null == {"label": 12} and run.config["data"]["classes"] == 12
    with pytest.raises(ValueError, match="the null class, which the teacher does not know"):
        experiments.train(named(None), teacher=flow(classes=12), out=tmp_path / "x", **settings)


def test_so_does_a_guided_run(tmp_path):
    data = transforms.transformed(named(None, 12), transforms.LabelDropout(0.3, 12))
    run = experiments.train(data, method="flow_matching", width=8, depth=1, out=tmp_path / "teacher", **KEPT)
    settings = {"method": "lmd", "width": 8, "depth": 1, "guidance": 2.0, **KEPT}
    student = experiments.train(named(None), teacher=run, out=tmp_path / "run", **settings)
    assert student.flow.guidance.null == {"label": 12}
