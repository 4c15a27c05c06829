"""Checkpoints that are truncated, have a bit flipped, or hold a pickle with code."""

import hashlib
import json
import pickle
import shutil
import warnings
from pathlib import Path

import pytest
import torch

import flowmaps as fm
from flowmaps.runs import checkpoint
from tests.faults.children import go_on, same

FILES = ["flow.safetensors", "ema.safetensors", "method.safetensors", "optimizer.safetensors"]
FILES += ["optimizer.json", "state.json"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with the checkpoints of steps 2 and 4, and its last state."""
    run = tmp_path_factory.mktemp("finished") / "run"
    *_, state = go_on(run, steps=4)
    assert sorted(path.name for path in (run / "checkpoints" / "step_00000004").iterdir()) == sorted(FILES)
    return run, state


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


def truncated(data):
    return data[: len(data) // 2]


def flipped(data):
    at = 2 * len(data) // 3
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("harm", [truncated, flipped])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_the_run_goes_on_from_the_checkpoint_before(name, harm, run, finished):
    file = run / "checkpoints" / "step_00000004" / name
    file.write_bytes(harm(file.read_bytes()))
    with pytest.warns(UserWarning, match=f"step_00000004 is damaged: {name} .*going back to step_00000002"):
        steps = list(go_on(run, steps=4))
    assert [state.step for state in steps] == [3, 4] and same(steps[-1].flow, finished[1].flow)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(fm.load(run), finished[1].ema)


def flips(file, every=7, start=0, stop=None):
    """Flip bits of a file, one at a time, from byte `start` to byte `stop`; the file is whole again at the end."""
    whole = file.read_bytes()
    for bit in range(8 * start, 8 * (len(whole) if stop is None else stop), every):
        file.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])
        yield bit
    file.write_bytes(whole)


def test_every_flipped_bit_of_the_state_is_seen(run):
    """Those that change no value leave the same state."""
    file = run / "checkpoints" / "step_00000004" / "state.json"
    state = checkpoint.read_state(file.parent)
    for _ in flips(file):
        try:
            assert checkpoint.read_state(file.parent) == state
        except ValueError as error:
            assert "is damaged" in str(error)


def test_a_damaged_checkpoint_takes_no_place_among_those_kept(run):
    file = run / "checkpoints" / "step_00000004" / "flow.safetensors"
    file.write_bytes(truncated(file.read_bytes()))
    with pytest.warns(UserWarning, match="going back to step_00000002"):
        training = go_on(run, steps=4, checkpoint_every=1, keep=1)
    assert next(training).step == 3
    training.close()
    with pytest.warns(UserWarning, match="going back to step_00000003"):
        [state] = go_on(run, steps=4, checkpoint_every=1, keep=1)
    assert state.step == 4 and checkpoint.complete(run / "checkpoints") == [file.parent]


class Bomb:
    """A pickle that would leave a file behind if it was ever loaded."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def vouch(path):
    """Write the checksums of what lies in a checkpoint now, as one could who plants files there."""
    state = json.loads((path / "state.json").read_text())
    state["files"] = {name: checkpoint.checksum(path / name) for name in state["files"]}
    del state["checksum"]
    text = json.dumps(state, sort_keys=True).encode()
    (path / "state.json").write_text(json.dumps({**state, "checksum": hashlib.sha256(text).hexdigest()}))


@pytest.mark.parametrize("dump", [torch.save, lambda bomb, path: path.write_bytes(pickle.dumps(bomb))])
@pytest.mark.parametrize("name", ["flow.safetensors", "ema.safetensors", "optimizer.safetensors"])
def test_a_pickle_under_the_name_of_weights_does_not_run(name, dump, run, tmp_path):
    path = run / "checkpoints" / "step_00000004"
    dump(Bomb(tmp_path / "ran"), path / name)
    with pytest.warns(UserWarning, match=f"step_00000004 is damaged: {name} has changed since it was written"):
        assert checkpoint.latest(path.parent)[1]["step"] == 2
    vouch(path)
    with pytest.raises(ValueError, match=f"{name} is a pickle, which may hold code; it was not opened: restore"):
        if name == "ema.safetensors":
            fm.load(run)
        else:
            go_on(run, steps=4)
    assert not (tmp_path / "ran").exists()


def test_pickles_beside_the_files_are_named_and_not_opened(run, finished, tmp_path):
    path = run / "checkpoints" / "step_00000004"
    for name in (".metadata", "model.pt", "optimizer.pkl"):
        (path / name).write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.warns(UserWarning, match=r"holds \.metadata, model\.pt, optimizer\.pkl, which training did not write"):
        assert same(fm.load(run), finished[1].ema)
    with pytest.warns(UserWarning, match="not opened"):
        assert list(go_on(run, steps=4)) == []
    assert not (tmp_path / "ran").exists()


def test_a_folder_of_shards_with_a_pickle_or_a_stranger_is_refused(run, tmp_path):
    """A shard is only read where it was listed: here they are planted in a checkpoint that was written whole."""
    path = run / "checkpoints" / "step_00000004"
    (path / "shards").mkdir()
    (path / "shards" / ".metadata").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    shutil.copy(path / "ema.safetensors", path / "shards" / "shard-00001-model-00001-of-00001.safetensors")
    with pytest.warns(UserWarning, match=r"shards/\.metadata, shards/shard-00001.* written by training: remove"):
        fm.load(run)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_for_a_config_or_metrics_is_refused(run, tmp_path):
    for name, message in [("metrics.jsonl", "is damaged|decode"), ("config.json", "cannot be read|decode")]:
        torch.save(Bomb(tmp_path / "ran"), run / name)
        with pytest.raises(ValueError, match=message):
            go_on(run, steps=4)
    assert not (tmp_path / "ran").exists()
