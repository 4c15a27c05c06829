"""Runs on tables: samples, inversions, evaluations, reports and resumed runs are in the units of the data."""

import json
import math
import sys
import warnings

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps import experiments
from flowmaps.experiments.run_data import given_data, run_data
from flowmaps.experiments.trained_run import units_of_model

N, DRAWN = 4000, 4000
MEAN, STD = np.array([5e4, 3e-2, -7.0]), np.array([2e4, 1e-3, 0.0])
SHORT = {"width": 32, "depth": 1, "batch_size": 64, "progress_bar": False, "checkpoint_every": 10**6}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    file = tmp_path_factory.mktemp("table") / "table.npy"
    np.save(file, MEAN + STD * np.random.default_rng(0).normal(size=(N, 3)))
    return file


@pytest.fixture(scope="module")
def run(table):
    plan = {"method": "flow_matching", "network": "mlp", "steps": 150, **SHORT}
    return experiments.train(str(table), out=table.parent / "run", **plan)


def near(x, tolerance=0.15):
    """Whether samples have the mean and standard deviation of the data.

    The standard error of a mean of DRAWN samples is 0.016 standard deviations; the rest of the tolerance is for the
    short training.
    """
    mean, std = x.double().mean(0), x.double().std(0)
    error = tolerance + 5 / math.sqrt(len(x))
    where = torch.from_numpy(np.where(STD > 0, STD, 1e-6))
    assert float(((mean - torch.from_numpy(MEAN)).abs() / where).max()) < error, mean
    assert float(((std - torch.from_numpy(STD)).abs() / where).max()) < error, std


def test_samples_of_a_table_have_its_mean_and_standard_deviation(run):
    near(experiments.sample(run, n=DRAWN, steps=20, step="euler"))
    flow = fm.load(run)
    noise = torch.randn(DRAWN, 3, generator=torch.Generator().manual_seed(1))
    near(fm.sample(flow, noise, 20, step=fm.steps.euler))
    near(fm.sample(flow, noise, 20, step=fm.steps.euler, batch_size=1024))
    near(fm.sample(run.state.ema, noise, 20, step=fm.steps.euler))
    near(fm.trajectory(flow, noise, 20, step=fm.steps.euler)[-1])


def test_the_units_are_in_the_config(run, table):
    units = json.loads((run.folder / "config.json").read_text())["flow"]["units"]
    raw = fm.data.load(table, standardise=False)
    x = raw.draw(raw.size).x0.double()
    assert units["type"] == "units.Units"
    assert units["arguments"]["mean"] == pytest.approx(x.mean(0).tolist(), rel=1e-6)
    assert fm.load(run).units.std[2] == 0


def test_states_come_in_and_go_out_in_the_same_units(run):
    flow = fm.load(run)
    noise = torch.randn(50, 3, generator=torch.Generator().manual_seed(2))
    noise[:, 2] = 0  # a constant feature forgets its noise
    heun = fm.steps.heun
    x = fm.sample(flow, noise, 50, step=heun)
    again = fm.sample(flow, fm.invert(flow, x, 50, step=heun), 50, step=heun)
    torch.testing.assert_close(
        again / torch.from_numpy(STD.clip(1)),
        x / torch.from_numpy(STD.clip(1)),
        atol=1e-2,
        rtol=1e-2,
        check_dtype=False,
    )
    half = fm.sample(flow, noise, times=[1.0, 0.75, 0.5], step=heun)
    whole = fm.sample(flow, noise, times=[1.0, 0.75, 0.5, 0.25, 0.0], step=heun)
    resumed = fm.sample(flow, half, times=[0.5, 0.25, 0.0], step=heun)
    torch.testing.assert_close(resumed, whole, rtol=1e-3, atol=1e-3)
    ends = fm.interpolate(flow, x[:5], x[5:10], n=3, steps=50, step=heun)
    assert ends.shape == (3, 5, 3) and ends[:, :, 0].mean() > 1e4


@pytest.mark.parametrize("batch_size", [None, 7])
def test_digits_that_the_weights_lose_come_back(batch_size):
    """States in units far from 0 have float64, and are standardised before they get the dtype of the weights."""
    torch.manual_seed(0)
    flow = fm.FlowMap(fm.networks.MLP(2, 16, 1, embedding=8))
    torch.nn.init.normal_(flow.network.output.weight, std=0.05)
    flow.units = fm.Units((1.7e9, 0.0), (30.0, 1.0))
    noise = fm.noise(flow, 20, seed=0)
    x = fm.sample(flow, noise, 20, step="heun")
    assert x.dtype == torch.float64
    torch.testing.assert_close(fm.invert(flow, x, 20, step="heun"), noise, atol=1e-3, rtol=0)
    half = fm.sample(flow, noise, times=[1.0, 0.75, 0.5])
    whole = fm.sample(flow, noise, times=[1.0, 0.75, 0.5, 0.0])
    resumed = fm.sample(flow, half, times=[0.5, 0.0], batch_size=batch_size)
    torch.testing.assert_close(resumed - 1.7e9, whole - 1.7e9, atol=1e-3, rtol=0)


def test_another_file_gets_the_classes_and_the_units_of_the_run(tmp_path):
    def table(name, order):
        rows = "".join(f"{5e4 + 100 * at},{at},{'pqr'[at % 3]}\n" for at in order)
        (tmp_path / name).write_text("a,b,label\n" + rows)
        return tmp_path / name

    data = fm.data.load(table("rows.csv", range(60)))
    run = experiments.train(data, method="flow_matching", steps=2, out=tmp_path / "run", **SHORT)
    few = table("few.csv", [at for at in range(60) if at % 3])  # without the first class
    for other in (few, fm.data.load(few), fm.data.load(few, standardise=False)):
        found = given_data(run.folder, other)
        batch, units = found.draw(30), units_of_model(run)
        assert found.units == units == run_data(run).units and found.class_names[:3] == ("p", "q", "r")
        assert batch.label.tolist() == [round(row) % 3 for row in units.restored(batch.x0)[:, 1].tolist()]


def test_an_evaluation_counts_each_feature_alike(run, table):
    small = {"n": 256, "draws": 2, "jumps": (1,), "ode_steps": (16,)}
    found = experiments.evaluate(run, **small)
    assert "of standardised rows" in found["measures"]["distance"]
    assert found["rows"][1]["distance"] < 0.05
    raw = fm.data.load(table, standardise=False)
    again = experiments.evaluate(run, data=raw, **small)
    assert again["rows"][1]["distance"] == pytest.approx(found["rows"][1]["distance"], abs=1e-6)
    direct = fm.evaluate.evaluate(fm.load(run), raw, **small)
    assert direct["rows"][1]["distance"] == pytest.approx(found["rows"][1]["distance"], abs=1e-6)


def test_a_resumed_run_keeps_its_units(table, tmp_path, monkeypatch):
    for state in fm.train(*small_flow(table), out=tmp_path / "run", steps=6, checkpoint_every=3, **quiet()):
        if state.step == 3:
            break
    before = units_of_model(tmp_path / "run")
    changed = np.load(table)
    changed[N // 2 :] += 1e5
    flow, method, data = small_flow(table)
    other = fm.data.as_data(torch.from_numpy(changed).float(), standardise=True)
    assert other.units != before
    data = fm.data.standardise.with_units(data, other.units)
    list(fm.train(flow, method, data, out=tmp_path / "run", steps=6, checkpoint_every=3, resume=True, **quiet()))
    assert units_of_model(tmp_path / "run") == before == flow.units


def small_flow(table):
    data = fm.data.load(table)
    torch.manual_seed(0)
    return fm.recipes.flow_for(data, width=16, depth=1), fm.methods.flow_matching(), data


def quiet():
    return {"progress_bar": False, "batch_size": 16}


def test_a_run_of_an_earlier_version_stays_in_raw_units(table, tmp_path, monkeypatch):
    """A run without the entry has no units: it goes on, is sampled and evaluated as it was trained."""
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["flowmaps.data.load"], "is_table", lambda data: False)
        with pytest.warns(UserWarning, match="feature 0 has mean"):
            experiments.train(str(table), method="flow_matching", steps=4, out=out, **SHORT)
    assert "units" not in json.loads((out / "config.json").read_text())["flow"]
    resumed = experiments.train(str(table), method="flow_matching", steps=4, out=out, resume=True, **SHORT)
    assert resumed.steps == 0 and fm.load(out).units is None
    found = experiments.evaluate(out, n=64, draws=2, jumps=(), ode_steps=(4,))
    assert "standardised" not in found["measures"]["distance"]


def test_a_student_and_a_continued_run_take_the_units_of_their_model(run, table, tmp_path):
    moved = tmp_path / "moved.npy"
    np.save(moved, np.load(table) * 2)
    units = units_of_model(run)
    started = experiments.train(str(moved), method="flow_matching", start=run, steps=2, out=tmp_path / "start", **SHORT)
    taught = experiments.train(str(moved), method="ayf_emd", teacher=run, steps=2, out=tmp_path / "taught", **SHORT)
    coupled = experiments.train(
        str(moved), method="flow_matching", reflow=run, couplings=64, steps=2, out=tmp_path / "coupled", **SHORT
    )
    assert units_of_model(started) == units_of_model(taught) == units_of_model(coupled) == units
    loaded = fm.load(run)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        next(fm.train(loaded, fm.methods.flow_matching(), torch.from_numpy(np.load(table)).float(), steps=1, **quiet()))
    assert loaded.units == units


def test_models_in_different_units_do_not_teach_one_student(run, table, tmp_path):
    other = fm.load(run)
    other.units = fm.Units((0.0,), (3.0,))
    with pytest.raises(ValueError, match="trained on data in different units"):
        experiments.train(
            str(table), method="flow_matching", start=other, reflow=run, steps=2, out=tmp_path / "x", **SHORT
        )


def test_standardise_false_refuses(table, tmp_path):
    found = experiments.train(
        str(table), method="flow_matching", data_args={"standardise": False}, steps=2, out=tmp_path / "raw", **SHORT
    )
    assert found.config["data"]["recipe"]["standardise"] is False and fm.load(found).units is None
    assert experiments.evaluate(found, n=64, draws=2, jumps=(), ode_steps=(2,))["rows"]
    asked = experiments.train(
        torch.randn(100, 2) * 50, method="flow_matching", data_args={"standardise": True}, steps=2,
        out=tmp_path / "asked", **SHORT,
    )  # fmt: skip
    assert len(fm.load(asked).units.std) == 2


def test_a_broken_entry_is_refused(run, tmp_path):
    from flowmaps.runs.loading import read_units

    config = json.loads((run.folder / "config.json").read_text())
    for units in (3, {"type": "networks.MLP"}, {"type": "units.Units", "arguments": {"mean": [1.0], "std": [-1.0]}}):
        config["flow"]["units"] = units
        with pytest.raises(ValueError, match="config.json cannot be used: .*units"):
            read_units(config, tmp_path / "config.json")
    config["flow"]["units"] = {"type": "units.Units", "arguments": {"mean": [1.0] * 2, "std": [1.0] * 2}}
    with pytest.raises(ValueError, match="these units have 2 features"):
        read_units(config, tmp_path / "config.json")
