"""What a run folder refuses, survives and gives back."""

import json
import shutil

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.files import join, split
from flowmaps.runs import checkpoint
from flowmaps.training import read_config, train

QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 8, "steps": 4, "checkpoint_every": 2}
GAUSSIAN = fm.exact.Gaussian(torch.zeros(2), torch.ones(2))


class Plain(nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.linear = nn.Linear(4, width)

    def forward(self, x, s, t):
        return self.linear(torch.cat([x, s[:, None], t[:, None]], 1))


@pytest.fixture
def trained(tmp_path):
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1), output=fm.Endpoint(0.05), path=fm.path.trigonometric)
    *_, state = train(flow, fm.methods.imf(), GAUSSIAN, out=tmp_path / "run", **QUIET)
    return tmp_path / "run", state


def damage(path):
    """Cut a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_load_gives_the_averaged_weights_or_the_trained_ones(trained):
    run, state = trained
    x = torch.randn(5, 2)
    for flow, expected in [(fm.load(run), state.ema), (fm.load(run, ema=False), state.flow)]:
        assert flow.output == fm.Endpoint(0.05) and flow.path == fm.path.trigonometric and not flow.training
        assert torch.equal(flow(x, 0.9, 0.2), expected(x, 0.9, 0.2))


def test_load_keeps_the_precision(tmp_path):
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1)).double()
    *_, state = train(flow, fm.methods.lsd(), GAUSSIAN, out=tmp_path / "run", **QUIET)
    x = torch.randn(5, 2, dtype=torch.float64)
    assert torch.equal(fm.load(tmp_path / "run")(x, 1.0, 0.0), state.ema(x, 1.0, 0.0))


def test_a_network_of_yours_is_passed_to_load(tmp_path):
    *_, state = train(fm.FlowMap(Plain()), fm.methods.imf(), GAUSSIAN, out=tmp_path / "run", **QUIET)
    with pytest.raises(ValueError, match=r"network of this run .*pass network=.*Plain"):
        fm.load(tmp_path / "run")
    x = torch.randn(5, 2)
    assert torch.equal(fm.load(tmp_path / "run", Plain())(x, 1.0, 0.0), state.ema(x, 1.0, 0.0))
    with pytest.raises(ValueError, match="do not fit this network"):
        fm.load(tmp_path / "run", Plain(3))


def test_an_output_of_yours_needs_the_whole_flow_map(tmp_path):
    def output(value, x, s, t, path):
        return 2 * value

    *_, state = train(fm.FlowMap(Plain(), output), fm.methods.imf(), GAUSSIAN, out=tmp_path / "run", **QUIET)
    with pytest.raises(ValueError, match="output of this run .*a whole FlowMap as network="):
        fm.load(tmp_path / "run", Plain())
    x = torch.randn(5, 2)
    assert torch.equal(fm.load(tmp_path / "run", fm.FlowMap(Plain(), output))(x, 1.0, 0.0), state.ema(x, 1.0, 0.0))


@pytest.mark.parametrize("name", ["ema.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named_and_passed_over(trained, name):
    run, _ = trained
    damage(run / "checkpoints" / "step_00000004" / name)
    with pytest.warns(UserWarning, match=f"step_00000004 is damaged: {name} .*going back to step_00000002"):
        flow = fm.load(run)
    saved = checkpoint.read_model(run / "checkpoints" / "step_00000002", "ema")
    assert all(torch.equal(value, saved[key]) for key, value in flow.state_dict().items())


def test_a_missing_file_counts_as_damage(trained):
    run, _ = trained
    (run / "checkpoints" / "step_00000004" / "flow.safetensors").unlink()
    with pytest.warns(UserWarning, match=r"flow\.safetensors is missing"):
        fm.load(run, ema=False)


def test_no_whole_checkpoint_is_an_error(trained):
    run, _ = trained
    for path in checkpoint.complete(run / "checkpoints"):
        damage(path / "ema.safetensors")
    with pytest.raises(ValueError, match="no checkpoint in .* is valid: .*step_00000004 .*step_00000002"):
        fm.load(run)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(FileNotFoundError, match="has no checkpoint yet"):
        fm.load(run)


def test_what_is_no_run_is_refused(tmp_path, trained):
    run, _ = trained
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        fm.load(tmp_path / "none")
    (tmp_path / "other").mkdir()
    with pytest.raises(FileNotFoundError, match=r"it has no config\.json"):
        fm.load(tmp_path / "other")
    damage(run / "config.json")
    with pytest.raises(ValueError, match=r"config\.json cannot be read"):
        fm.load(run)


def test_a_folder_with_something_in_it_is_not_written_to(tmp_path, trained):
    run, _ = trained
    flow = fm.FlowMap(Plain())
    with pytest.raises(FileExistsError, match="there is a run .*--resume"):
        train(flow, fm.methods.imf(), GAUSSIAN, out=run, **QUIET)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not a run of flowmaps"):
        train(flow, fm.methods.imf(), GAUSSIAN, out=tmp_path / "notes", **QUIET)
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    list(train(flow, fm.methods.imf(), GAUSSIAN, out=tmp_path / "empty", **QUIET))
    assert read_config(tmp_path / "empty")["method"]["name"] == "imf"


def test_a_folder_whose_config_was_cut_off_is_as_good_as_empty(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.json.1234.tmp").write_text('{"format"')
    list(train(fm.FlowMap(Plain()), fm.methods.imf(), GAUSSIAN, out=tmp_path / "run", **QUIET))
    assert fm.load(tmp_path / "run", Plain()) is not None


def test_a_write_that_was_cut_off_is_no_checkpoint(trained):
    run, state = trained
    half = run / "checkpoints" / ".step_00000009.tmp"
    half.mkdir()
    (half / "flow.safetensors").write_bytes(b"half")
    (run / "checkpoints" / "step_final").mkdir()
    assert [path.name for path in checkpoint.complete(run / "checkpoints")] == ["step_00000002", "step_00000004"]
    x = torch.randn(2, 2)
    assert torch.equal(fm.load(run)(x, 1.0, 0.0), state.ema(x, 1.0, 0.0))
    models = {name: checkpoint.read_model(run / "checkpoints" / "step_00000004", name) for name in checkpoint.MODELS}
    checkpoint.write(run / "checkpoints", checkpoint.snapshot(10, models, [], {}), keep=5)
    assert not half.exists()


def test_no_pickle_in_a_run_folder(trained):
    run, _ = trained
    assert {path.suffix for path in run.rglob("*") if path.is_file()} == {".json", ".jsonl", ".safetensors"}


def test_nested_values_go_through_json_and_back():
    value = {0: {"step": torch.tensor(3.0), "betas": (0.9, 0.95), "none": None}, "groups": [{"lr": 1e-3, "on": True}]}
    tensors = {}
    back = join(json.loads(json.dumps(split(value, tensors))), tensors)
    assert torch.equal(back[0].pop("step"), value[0].pop("step")) and back == value
    with pytest.raises(TypeError, match="not function"):
        split({"state": lambda: None}, {})
