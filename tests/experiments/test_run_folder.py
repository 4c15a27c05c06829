"""The folder of an experiment: one that is given, or a free number of the usual name."""

import os
from pathlib import Path

import pytest
import torch

from flowmaps import experiments
from flowmaps.runs.lock import FolderLock
from flowmaps.training import read_config
from tests.faults.children import children

SMALL = {"network": "mlp", "width": 4, "depth": 1, "steps": 1, "batch_size": 4, "progress_bar": False}
QUIET = {"trackers": (), "sample_every": 0}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def train(**options):
    rows = torch.linspace(-1, 1, 20).reshape(10, 2)
    return experiments.train(rows, **{"method": "flow_matching", **SMALL, **QUIET, **options})


def folders():
    return sorted(path.name for path in Path("runs").iterdir()) if Path("runs").is_dir() else []


def test_each_run_gets_a_folder_that_was_free():
    assert [str(train(lr=rate).folder) for rate in (1e-3, 2e-3, 3e-3)] == [
        "runs/tensor-flow_matching", "runs/tensor-flow_matching_2", "runs/tensor-flow_matching_3",
    ]  # fmt: skip
    assert read_config("runs/tensor-flow_matching_2")["training"]["lr"] == 2e-3


def test_a_run_that_fails_at_once_leaves_no_folder():
    with pytest.raises(ValueError, match="lr must be positive"):
        train(lr=-1.0)
    assert folders() == []
    with pytest.raises(BlockingIOError, match="other is in use"), FolderLock("other", "training into it"):
        train(out="other")
    assert folders() == []


def test_a_file_in_the_way_of_the_folders_is_an_error(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(OSError, match="runs"):
        train()


def test_resuming_without_a_folder_takes_the_only_run_and_asks_among_several():
    with pytest.raises(FileNotFoundError, match="runs/tensor-flow_matching is not a run folder"):
        train(resume=True)
    assert folders() == []
    first = train(steps=2)
    assert train(steps=2, resume=True).folder == first.folder
    train()
    with pytest.raises(ValueError, match=r"several runs .*flow_matching, .*flow_matching_2: choose one \(--out\)"):
        train(resume=True)


def test_a_comparison_goes_on_in_its_folder_and_another_one_gets_a_number(monkeypatch):
    monkeypatch.setattr("flowmaps.experiments.comparison.ComparisonRuns.documents", lambda *_: [{"methods": {}}])
    monkeypatch.setattr("flowmaps.experiments.comparison.ComparisonResult.markdown", "table")
    monkeypatch.setattr("flowmaps.experiments.comparison.comparison_report", lambda *_: None)

    def compare(**options):
        return experiments.compare("two_moons", ["imf"], **{**SMALL, **options}).folder.name

    assert [compare(), compare(), compare(lr=0.5), compare(lr=0.5), compare()] == [
        "two_moons-compare", "two_moons-compare", "two_moons-compare_2", "two_moons-compare_2", "two_moons-compare",
    ]  # fmt: skip
    with FolderLock("runs/two_moons-compare", "comparing methods in it"):
        assert compare() == "two_moons-compare_3"
    with pytest.raises(ValueError, match="another configuration"):
        compare(lr=0.7, out="runs/two_moons-compare")
    with pytest.raises(
        ValueError, match="network.* must be auto, mlp, dit, unet, transformer or autoregressive, got .nonsense"
    ):
        compare(network="nonsense", out=None)
    assert len(folders()) == 3


def train_and_say(connection, folder):
    os.chdir(folder)
    connection.send([str(train(batch_size=8, steps=2).folder) for _ in range(2)])


@pytest.mark.slow
def test_several_processes_train_into_the_folder_of_the_first(tmp_path):
    with children(2, train_and_say, tmp_path) as both:
        answers = [told.recv() for _, told in both]
    assert answers[0] == answers[1] == ["runs/tensor-flow_matching", "runs/tensor-flow_matching_2"]
    assert folders() == ["tensor-flow_matching", "tensor-flow_matching_2"]
