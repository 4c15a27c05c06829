"""A disk that is full while a checkpoint is written: the one before stays, and the message says how much is missing."""

import itertools
import resource
from contextlib import contextmanager

import pytest

from flowmaps.files import save_tensors
from flowmaps.runs import checkpoint
from tests.faults.children import go_on, same

MESSAGE = (
    r"the checkpoint of step 4 could not be written to .*: .*(File too large|No space left on device).*"
    r"It needs \d+\.\d MB, \d+\.\d MB are free; the checkpoint of step 2 is kept\. Make room, .*--resume"
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
    run = tmp_path / "run"
    list(itertools.islice(go_on(run, steps=20), 2))
    with pytest.raises(OSError, match=MESSAGE), file_size(1000):
        for state in go_on(run, steps=20):
            assert state.step < 6, "what failed behind step 4 is known when step 6 is to be saved"
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
