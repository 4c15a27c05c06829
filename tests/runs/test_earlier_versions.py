"""Runs that version 0.1.0 wrote, before parts of the package moved, load, sample and go on."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import flowmaps as fm
from flowmaps.data.transforms import LabelDropout, transformed
from flowmaps.training import read_config, train

RUNS = Path(__file__).parents[1] / "data" / "runs_of_0_1"
FACTS = load_file(RUNS / "facts.safetensors")
LABEL = {"label": torch.arange(4)}
SCALE = {"guidance": torch.full((4,), 2.0)}
QUIET = {"trackers": (), "progress_bar": False, "sample_every": 0, "batch_size": 16, "log_every": 1, "keep": 1}


def plain():
    torch.manual_seed(1)
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1), fm.Bounded(fm.Endpoint(), -2.0, 2.0))
    method = fm.methods.imf(times=fm.times.uniform_triangle(), weight=fm.weight.squared)
    return flow, method, fm.data.load("two_moons")


def staged():
    torch.manual_seed(2)
    data = fm.data.load("two_moons")
    output = fm.GaussianSkip.fit(data.draw(200, seed=0).x0)
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1), output, path=fm.path.trigonometric)
    return flow, fm.Stages((0.5, fm.methods.flow_matching()), (0.5, fm.methods.tvm())), data


def guided():
    torch.manual_seed(3)
    flow = fm.FlowMap(fm.networks.MLP((1, 8, 8), width=8, depth=1, classes=10))
    method = fm.guidance.guided(fm.methods.meanflow(), fm.guidance.meanflow(2.0, null={"label": 10}))
    return flow, method, transformed(fm.data.load("digits"), LabelDropout(0.2, 10))


def copy(name, tmp_path):
    """The run in a folder of its own, with the pipeline that it was distilled from where its config says."""
    shutil.copytree(RUNS / name, tmp_path / name)
    config = tmp_path / name / "config.json"
    config.write_text(config.read_text().replace('"pipeline"', json.dumps(str(RUNS / "pipeline"))))
    return tmp_path / name


@pytest.mark.parametrize(
    ("name", "shape", "condition"),
    [
        ("plain", (2,), {}),
        ("staged", (2,), {}),
        ("guided_python", (1, 8, 8), LABEL),
        ("guided_cli", (1, 8, 8), LABEL | SCALE),
        ("distilled", (1, 8, 8), LABEL | SCALE),
    ],
)
def test_they_load_and_sample(name, shape, condition, tmp_path):
    noise = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    x = fm.sample(fm.load(copy(name, tmp_path)), noise, steps=1, condition=condition or None)
    torch.testing.assert_close(x, FACTS[f"{name}/samples"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "build"), [("plain", plain), ("staged", staged), ("guided_python", guided)])
def test_they_go_on(name, build, tmp_path):
    flow, method, data = build()
    *_, state = train(flow, method, data, steps=8, out=copy(name, tmp_path), resume=True, checkpoint_every=4, **QUIET)
    assert state.step == 8
    for key, value in state.ema.state_dict().items():
        torch.testing.assert_close(value, FACTS[f"{name}/resumed/{key}"], rtol=1e-4, atol=1e-5)


def test_another_configuration_is_still_refused(tmp_path):
    flow, _, data = plain()
    with pytest.raises(ValueError, match="another configuration"):
        list(train(flow, fm.methods.lsd(), data, steps=8, out=copy("plain", tmp_path), resume=True, **QUIET))


@pytest.mark.parametrize("name", ["plain", "staged", "guided_python", "guided_cli", "distilled"])
def test_their_configuration_is_read_in_the_names_of_today(name):
    config = read_config(RUNS / name)
    assert json.loads((RUNS / name / "config.json").read_text())["format"] == 1 and config["format"] == 2
    assert "flowmaps." not in json.dumps(config) and '"path.' in json.dumps(config)


def test_a_run_is_written_in_format_2_and_one_of_a_later_version_is_refused(tmp_path):
    flow, method, data = plain()
    list(train(flow, method, data, steps=1, out=tmp_path / "run", **QUIET))
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    assert config["format"] == 2 and config == read_config(tmp_path / "run")
    assert config["flow"]["network"]["type"] == "networks.MLP" and "flowmaps." not in json.dumps(config)
    path.write_text(json.dumps({**config, "format": 3}))
    with pytest.raises(ValueError, match="has format 3, but this version of flowmaps reads at most 2"):
        read_config(tmp_path / "run")
