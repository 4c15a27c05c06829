"""Reading a run while training writes and removes its checkpoints."""

import shutil
import warnings

import pytest

import flowmaps as fm
from flowmaps import experiments
from flowmaps.files import checksum
from flowmaps.runs import checkpoint, checkpoint_reading, loading
from tests.faults.children import child, go_on, train_and_tell

MOMENTS = {
    "listed": (checkpoint_reading, "complete"),
    "state is read": (checkpoint_reading, "read_json"),
    "file is compared": (checkpoint_reading, "checksum"),
    "header is read": (loading, "part_shapes"),
    "weights are read": (checkpoint_reading, "read_part"),
}


def replaced(checkpoints):
    """The work of a writer with keep=1: a checkpoint of the next step, then the old one is removed."""
    [old] = checkpoint.complete(checkpoints)
    step = int(old.name.removeprefix("step_")) + 2
    models = {name: checkpoint.read_model(old, name) for name in checkpoint.MODELS}
    taken = checkpoint.snapshot(step, models, [], {"seconds": 0.0, "average_updates": step})
    checkpoint.write(checkpoints, taken, keep=1)
    return step


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_reader_that_loses_its_checkpoint_takes_the_newest_again(moment, times, tmp_path, monkeypatch):
    run, steps = tmp_path / "run", []
    list(go_on(run, steps=2))

    module, name = MOMENTS[moment]
    before = getattr(module, name)

    def inside(*args, **options):
        """Replace the checkpoint at the first calls: after it was listed, or before it is read."""
        found = before(*args, **options) if name == "complete" else None
        if len(steps) < times:
            steps.append(None)
            with monkeypatch.context() as undone:
                undone.setattr(module, name, before)
                steps[-1] = replaced(run / "checkpoints")
        return found or before(*args, **options)

    monkeypatch.setattr(module, name, inside)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow = fm.load(run)
    assert flow is not None and steps[-1] == 2 + 2 * times
    assert checkpoint.newest(run / "checkpoints") == steps[-1]


def test_checkpoints_that_are_replaced_faster_than_they_are_read_are_said(tmp_path, monkeypatch):
    run = tmp_path / "run"
    list(go_on(run, steps=2))

    def removed(path):
        replaced(run / "checkpoints")
        return checksum(path)

    monkeypatch.setattr(checkpoint_reading, "checksum", removed)
    with pytest.raises(OSError, match=r"step_\d+ was replaced while it was read: keep more checkpoints \(keep=\)"):
        fm.load(run)
    assert checkpoint.newest(run / "checkpoints") == 2 + 2 * checkpoint_reading.READS


def test_damage_beside_a_writer_is_still_damage(tmp_path):
    run = tmp_path / "run"
    list(go_on(run, steps=4))
    (run / "checkpoints" / "step_00000004" / "ema.safetensors").write_bytes(b"cut")
    with pytest.warns(UserWarning, match="step_00000004 is damaged"):
        fm.load(run)
    shutil.rmtree(run / "checkpoints" / "step_00000002")
    with pytest.raises(ValueError, match="no checkpoint in .* is valid"):
        fm.load(run)


@pytest.mark.slow
def test_loading_sampling_and_resuming_elsewhere_beside_a_writer_with_keep_1(tmp_path):
    run, seen = tmp_path / "run", set()
    with child(train_and_tell, run, steps=10**6, checkpoint_every=1, keep=1) as (process, told):
        while told.recv() < 3:
            pass
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(1000):  # a slow machine needs more readings until the writer was seen at work
                assert fm.load(run) is not None and experiments.sample(run, n=2).isfinite().all()
                seen.add(checkpoint.latest(run / "checkpoints")[1]["step"])
                assert process.is_alive()
                if len(seen) > 20:
                    break
    assert len(seen) > 20
