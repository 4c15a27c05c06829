"""Links in a run folder: they are read through, replaced and removed, and nothing behind them is changed or removed."""

import itertools
import os

import pytest

import flowmaps as fm
from flowmaps import experiments
from flowmaps.files import remove, remove_leftovers
from flowmaps.runs import checkpoint
from flowmaps.runs.likelihood_record import write_likelihood_record
from flowmaps.runs.steering_record import write_steered_record
from flowmaps.training import read_metrics
from tests.faults.children import go_on, same


def moved(path, place):
    """Move a file or folder to another place, and leave a link."""
    place.mkdir(exist_ok=True)
    target = path.rename(place / path.name)
    os.symlink(target, path, target_is_directory=target.is_dir())
    return target


def content(folder):
    """The content of every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("keep", [1, 2])
def test_old_checkpoints_that_are_links_count_and_only_the_links_are_removed(keep, tmp_path):
    run, archive = tmp_path / "run", tmp_path / "archive"
    list(itertools.islice(go_on(run), 5))
    for path in checkpoint.complete(run / "checkpoints"):
        moved(path, archive)
    before = content(archive)
    *_, state = itertools.islice(go_on(run, keep=keep), 5)
    assert state.step == 10, "it goes on from a link"
    kept = ["step_00000008", "step_00000010"][-keep:]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == kept
    assert content(archive) == before and len(before) > 10


def test_a_link_in_the_place_of_a_checkpoint_is_replaced(tmp_path):
    run, archive = tmp_path / "run", tmp_path / "archive"
    list(go_on(run, steps=4))
    models = {name: checkpoint.read_model(run / "checkpoints" / "step_00000004", name) for name in checkpoint.MODELS}
    moved(run / "checkpoints" / "step_00000004", archive)
    os.symlink(tmp_path / "gone", run / "checkpoints" / "step_00000006")
    before = content(archive)
    for step in (4, 6):
        taken = checkpoint.snapshot(step, models, [], {"seconds": 0.0, "average_updates": step})
        assert not checkpoint.write(run / "checkpoints", taken, keep=5).is_symlink()
    assert content(archive) == before and checkpoint.newest(run / "checkpoints") == 6


def test_leftovers_that_are_links_are_removed_and_not_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for name in (".step_00000002.tmp", ".step_00000004.999999999-0123abcd.tmp", "step_00000006"):
        os.symlink(tmp_path / "mine", tmp_path / name, target_is_directory=True)
    remove_leftovers(tmp_path, "step_*")
    remove(tmp_path / "step_00000006")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "name",
    ["evaluation.json", "steered.json", "likelihood.json", "report.html", "classifier.safetensors", "samples.npy"],
)
def test_a_file_that_is_a_link_is_replaced_and_not_written_through(name, tmp_path, monkeypatch):
    run = tmp_path / "run"
    list(go_on(run, steps=2))
    (tmp_path / "mine").write_text("mine")
    os.symlink(tmp_path / "mine", run / name)
    write = {
        "evaluation.json": lambda path: fm.files.write_json(path, {}),
        "steered.json": lambda path: write_steered_record(run, {}, False),
        "likelihood.json": lambda path: write_likelihood_record(run, {}),
        "report.html": lambda path: fm.files.write_text(path, "page"),
        "classifier.safetensors": lambda path: fm.evaluate.features.save_classifier(CLASSIFIER, path),
        "samples.npy": lambda path: experiments.sample(run, n=2, out=path),
    }
    write[name](run / name)
    assert (tmp_path / "mine").read_text() == "mine" and not (run / name).is_symlink() and (run / name).is_file()


CLASSIFIER = fm.evaluate.features.Classifier((1, 4, 4), 2)


def test_a_pointer_to_the_latest_run_works_and_shares_its_lock(tmp_path):
    run, latest = tmp_path / "runs" / "first", tmp_path / "runs" / "latest"
    training = go_on(run)
    next(training)
    os.symlink("first", latest, target_is_directory=True)
    with pytest.raises(BlockingIOError, match="latest is in use: this process has been training into it"):
        go_on(latest)
    training.close()
    *_, state = itertools.islice(go_on(latest), 3)
    *_, whole = itertools.islice(go_on(None), 4)
    assert same(fm.load(latest), whole.ema) and state.step == 4 and latest.is_symlink()
    assert [row["step"] for row in read_metrics(latest)] == [1, 2]
    os.symlink(tmp_path / "gone", tmp_path / "runs" / "nowhere")
    with pytest.raises(OSError, match="nowhere"):
        go_on(tmp_path / "runs" / "nowhere")


def test_an_export_into_a_link_replaces_the_link(tmp_path):
    flow = fm.FlowMap(fm.networks.MLP((2,), width=8, depth=1))
    experiments.export(flow, tmp_path / "first")
    os.symlink("first", tmp_path / "current", target_is_directory=True)
    before = content(tmp_path / "first")
    experiments.export(flow, tmp_path / "current")
    assert content(tmp_path / "first") == before and not (tmp_path / "current").is_symlink()
    assert content(tmp_path / "current").keys() == before.keys()
