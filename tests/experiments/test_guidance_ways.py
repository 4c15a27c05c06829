"""A run is guided once, whichever way its guidance came in: Python, a recipe, the shell, a guided teacher."""

import pytest
import torch

import flowmaps as fm
from flowmaps.cli import main
from flowmaps.data.transforms import GuidanceScales, LabelDropout, transformed
from flowmaps.experiments.guided_run import at_scale, baked_scale, trained_scales
from flowmaps.guidance import ClassifierFree
from flowmaps.training import read_config, train

NULL = {"label": 10}
SMALL = "--network mlp --width 8 --depth 1 --batch-size 16 --steps 2 --sample-every 0 --no-progress-bar".split()
QUIET = {"steps": 2, "progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 16}
DIGITS = fm.data.load("digits")
DROPPED = transformed(DIGITS, LabelDropout(0.1, 10))


def network():
    torch.manual_seed(0)
    return fm.networks.MLP((1, 8, 8), width=8, depth=1, classes=10)


def python(out):
    method = fm.guidance.guided(fm.methods.meanflow(), fm.guidance.meanflow(2.0, null=NULL, interval=(0.0, 0.5)))
    list(train(fm.FlowMap(network()), method, DROPPED, out=out, **QUIET))
    return (0.0, 0.5)


def teacher(out):
    guided = fm.guidance.classifier_free(fm.FlowMap(network()), 2.0, null=NULL)
    list(train(fm.FlowMap(network()), fm.methods.lmd(guided), DROPPED, out=out, **QUIET))
    return (0.0, 1.0)


def shell(out):
    assert main(["train", "digits", *SMALL, "--guidance", "2", "--out", str(out)]) == 0
    return (0.0, 1.0)


@pytest.mark.parametrize("way", [python, teacher, shell])
def test_a_fixed_scale_is_not_put_on_top_of_itself(way, tmp_path):
    interval = way(tmp_path / "run")
    flow, config = fm.load(tmp_path / "run"), read_config(tmp_path / "run")
    assert flow.guidance.scale == 2.0 and flow.guidance.interval == interval and flow.guidance.null == NULL
    assert baked_scale(flow) == 2.0 and at_scale(flow, config, 2.0) == (flow, {})
    with pytest.raises(ValueError, match="baked into this run"):
        at_scale(flow, config, 3.0)
    with pytest.warns(UserWarning, match="baked in already"):
        fm.guidance.classifier_free(flow, 2.0, null=NULL)


def test_the_command_line_refuses_another_scale_for_a_run_from_python(tmp_path, capsys):
    python(tmp_path / "run")
    out = ["--out", str(tmp_path / "x.png"), "-n", "4"]
    assert main(["sample", str(tmp_path / "run"), "--guidance", "2", *out]) == 0
    assert main(["sample", str(tmp_path / "run"), "--guidance", "3", *out]) == 2
    assert "baked into this run" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["python", "shell"])
def test_a_range_is_remembered(way, tmp_path):
    out = tmp_path / "run"
    if way == "python":
        data = transformed(DROPPED, GuidanceScales(1.0, 3.0, null=NULL))
        method = fm.guidance.guided(fm.methods.imf(), fm.guidance.imf(null=NULL))
        flow = fm.FlowMap(network())
        told = fm.students.student(flow, told=("guidance",), tame=False)
        list(train(flow.around(told.network), method, data, out=out, **QUIET))
    else:
        assert main(["train", "digits", *SMALL, "--guidance", "1:3", "--out", str(out)]) == 0
    flow, config = fm.load(out), read_config(out)
    assert flow.guidance == fm.GuidanceSpec((1.0, 3.0), null=NULL) and trained_scales(flow) == (1.0, 3.0)
    followed, condition = at_scale(flow, config, 2.0)
    assert followed is flow and condition["guidance"] == torch.tensor([2.0])


def test_a_recipe_says_what_it_learned(tmp_path):
    guided = [recipe for recipe in fm.recipes.RECIPES.values() if recipe.guidance is not None]
    assert guided
    recipe = guided[0].reduced()
    data = fm.data.as_data((torch.randn(40, *recipe.flow().network.shape), torch.arange(40) % 1000))
    list(train(recipe.flow(), recipe.build(), recipe.prepare(data), out=tmp_path / "run", labels=True, **QUIET))
    assert fm.load(tmp_path / "run").guidance is not None


def test_an_unguided_run_is_guided_by_its_velocity(tmp_path):
    list(train(fm.FlowMap(network()), fm.methods.meanflow(), DROPPED, out=tmp_path / "run", **QUIET))
    flow, config = fm.load(tmp_path / "run"), read_config(tmp_path / "run")
    assert flow.guidance is None and baked_scale(flow) is None
    assert isinstance(at_scale(flow, config, 2.0)[0], ClassifierFree)
