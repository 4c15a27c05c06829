"""Checkpoints are written behind the running training, which waits for them when it ends."""

import threading

import pytest

import flowmaps as fm
from flowmaps.files import save_tensors
from flowmaps.runs import checkpoint
from flowmaps.training.job import Job
from tests.faults.children import flow, go_on, same


def test_training_does_not_wait_for_a_write_and_has_one_at_a_time(tmp_path, monkeypatch):
    """The write of step 2 ends when step 3 is reached: had training waited for it, it would wait for ever."""
    passed, at_work, most = threading.Event(), [], []

    def slow(path, tensors):
        at_work.append(path)
        most.append(len({item.parent for item in at_work}))
        assert passed.wait(timeout=60)
        save_tensors(path, tensors)
        at_work.remove(path)

    monkeypatch.setattr(checkpoint, "save_tensors", slow)
    for state in go_on(tmp_path / "run", steps=8):
        if state.step == 3:
            passed.set()
    assert max(most) == 1
    *_, whole = go_on(None, steps=8)
    assert same(fm.load(tmp_path / "run"), whole.ema)


def test_what_is_written_is_a_copy(tmp_path):
    one = flow()
    taken = checkpoint.snapshot(1, {"flow": one.state_dict()}, [], {})
    for weight in one.parameters():
        weight.data.zero_()
    path = checkpoint.write(tmp_path, taken, keep=1)
    assert all(value.equal(checkpoint.read_model(path, "flow")[name]) for name, value in flow().state_dict().items())


@pytest.mark.parametrize("fails", [False, True])
def test_an_error_waits_for_the_write_that_is_under_way(fails, tmp_path, monkeypatch):
    failed = threading.Event()

    def slow(path, tensors):
        assert failed.wait(timeout=60)
        if fails:
            raise OSError("no room")
        save_tensors(path, tensors)

    def read(self, batches):
        if self.learner.step == 3:
            failed.set()
            raise RuntimeError("mine")
        return next(batches)

    monkeypatch.setattr(checkpoint, "save_tensors", slow)
    monkeypatch.setattr(Job, "read", read)
    with pytest.raises(RuntimeError, match="mine") as error:
        list(go_on(tmp_path / "run"))
    names = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert names == ([] if fails else ["step_00000002"])
    assert ["no room" in note for note in getattr(error.value, "__notes__", [])] == [True] * fails
