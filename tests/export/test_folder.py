"""Exported folders: what is in them, and what is left alone. What they sample: `tests/integrations/test_export.py`."""

import json
import sys
from pathlib import Path

import pytest
import torch

import flowmaps as fm
from flowmaps import export
from flowmaps.cli import main

QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 8}


def test_a_folder_is_replaced_only_where_it_is_an_export(tmp_path):
    flow = fm.FlowMap(fm.networks.MLP(2, 8, 1, embedding=8))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="exists and is no export of flowmaps: choose another folder"):
        export.to_diffusers(flow, mine)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "thesis.txt"]
    export.to_diffusers(flow, tmp_path / "new")
    (tmp_path / "new" / "old.bin").write_text("of the last export")
    export.to_diffusers(flow, tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "README.md", *sorted(path.name for path in (tmp_path / "new").glob("flow_map*")), "model_index.json", "network",
        "scheduler",
    ]  # fmt: skip


def test_a_network_of_somebody_elses_is_refused_whole(tmp_path):
    class Mine(torch.nn.Module):
        shape = (2,)

    with pytest.raises(ValueError, match="only networks of flowmaps and of diffusers become a pipeline folder.*Mine"):
        export.to_diffusers(fm.FlowMap(Mine()), tmp_path / "mine")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with a measurement."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "eight"
    flow = fm.FlowMap(fm.networks.MLP(2, 8, 1, embedding=8))
    for _ in fm.train(flow, fm.methods.meanflow(), fm.data.load("eight_gaussians"), steps=2, out=folder, **QUIET):
        pass
    row = {"sampler": "jump", "steps": 1, "distance": 0.12345, "stderr": 0.00678, "seconds_per_sample": 2e-5,
           "network_calls": 1}  # fmt: skip
    measured = {"metric": "Energy distance", "floor": 0.001, "floor_stderr": 0.0002, "rows": [row], "step": 2,
                "samples": 64, "device": "cpu", "measures": {"distance": "Energy distance"}}  # fmt: skip
    (folder / "evaluation.json").write_text(json.dumps(measured))
    return folder


def test_the_card_says_what_is_known(run, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    import huggingface_hub

    head = huggingface_hub.ModelCard(card).data
    assert head.library_name == "diffusers" and head.license is None and "meanflow" in head.tags
    cells = " ".join(card.split())  # the columns are padded
    assert "| jump | 1 | 0.1235 ± 0.0068 | 1 | 2e-05 |" in cells and "0.001 ± 0.0002" in cells
    assert "| batch_size | 8 |" in cells and "| method | meanflow |" in cells
    assert "| schedule | training.WarmUpDecay(warmup=0.02, final=0.01) |" in cells and "| seed | 0 |" in cells
    (run / "evaluation.json").rename(run / "away.json")
    try:
        export.to_diffusers(run, tmp_path / "out")
    finally:
        (run / "away.json").rename(run / "evaluation.json")
    assert "Nothing has been measured yet" in (tmp_path / "out" / "README.md").read_text()


def test_the_use_on_the_card_runs(run, tmp_path, monkeypatch):
    import diffusers.utils.dynamic_modules_utils as modules

    monkeypatch.setattr(modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    export.to_diffusers(run, "exported")
    use = Path("exported/README.md").read_text().partition("```python\n")[2].partition("```")[0]
    names = {}
    exec(use, names)
    assert names["images"].shape == (2, 2)


def test_commands_that_cannot_be_are_refused(run, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    for arguments, said in (
        ([str(tmp_path / "no_run"), "out"], "not a run folder"),
        ([str(run), str(tmp_path / "taken")], "is no export of flowmaps"),
        ([str(run), str(tmp_path / "out"), "--push-to-hub", "name"], "OWNER/NAME, got 'name'"),
    ):
        assert main(["export", *arguments]) == 2
        assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]
