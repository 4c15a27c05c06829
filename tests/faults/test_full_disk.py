"""A disk that is full while a checkpoint is written: the one before stays, and the message says how much is missing."""

import resource
import threading
from contextlib import ExitStack, contextmanager

import pytest

import flowmaps as fm
from flowmaps.training import checkpoint
from flowmaps.training.files import save_tensors
from tests.faults.children import flow, go_on, same

MESSAGE = (
    r"the checkpoint of step 4 could not be written to .*: .*(File too large|No space left on device).*"
    r"It needs \d+\.\d MB, \d+\.\d MB are free; step_00000002 is kept\. Make room, .*--resume"
)


@contextmanager
def file_size(limit):
    """No file can grow beyond `limit` bytes, which fails as a full disk does, in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def left(run):
    """The names in the folder of checkpoints."""
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_a_write_that_does_not_fit_ends_the_run_and_keeps_the_checkpoint_before(tmp_path):
    run, steps = tmp_path / "run", []
    with pytest.raises(OSError, match=MESSAGE), ExitStack() as stack:
        for state in go_on(run, steps=20):
            steps.append(state.step)
            if state.step == 3:
                stack.enter_context(file_size(1000))
    assert steps == [1, 2, 3, 4, 5], "what failed behind step 4 is known when step 6 is to be saved"
    assert left(run) == ["step_00000002"]
    *_, state = go_on(run, steps=20)
    *_, whole = go_on(None, steps=20)
    assert same(state.flow, whole.flow) and same(state.ema, whole.ema)


@pytest.mark.parametrize("last", [4, 5], ids=["at the end", "when the loop is left"])
def test_a_write_that_fails_last_is_raised_too(last, tmp_path, monkeypatch):
    def full(path, tensors):
        if "00000004" in str(path):
            raise OSError(28, "No space left on device", str(path))
        save_tensors(path, tensors)

    monkeypatch.setattr(checkpoint, "save_tensors", full)
    run = go_on(tmp_path / "run", steps=4 if last == 4 else 20)
    with pytest.raises(OSError, match=MESSAGE):
        for state in run:
            if state.step == last:
                run.close()
    assert left(tmp_path / "run") == ["step_00000002"]


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
