"""Checkpoints of several processes: written in shards or whole, read by any number of processes, in either way."""

import os
import pickle
import resource

import pytest
import torch

import flowmaps as fm
from flowmaps.files import load_tensors
from flowmaps.runs import checkpoint
from flowmaps.training import train
from tests.faults.children import children
from tests.training.support import GAUSSIAN, QUIET, chasing, linear_flow

pytestmark = pytest.mark.slow

CLOSE = {"rtol": 0, "atol": 1e-10}
STEPS = 12


def with_average():
    return fm.methods.shortcut(ema=0.9)


def segment(connection, out, method, until, shard):
    """Train in float64 from where the run is to a step, and leave it there."""
    resume = (out / "config.json").is_file()
    plan = {**QUIET, "steps": STEPS, "lr": 1e-2, "checkpoint_every": 100, "shard": shard}
    run = train(linear_flow().double(), method(), GAUSSIAN, out=out, resume=resume, **plan)
    for state in run:
        if state.step == until < STEPS:
            break
    run.close()


def go(out, method, until, count=1, shard=False):
    """A segment by `count` processes."""
    if count == 1:
        return segment(None, out, method, until, shard)
    with children(count, segment, out, method, until, shard) as all_of_them:
        for process, _ in all_of_them:
            process.join(timeout=60)
            assert process.exitcode == 0


def last(out):
    return checkpoint.complete(out / "checkpoints")[-1]


def content(path):
    """Everything that a checkpoint holds, read by this process alone."""
    tensors = {
        f"{name}.{key}": value for name in checkpoint.MODELS for key, value in checkpoint.read_model(path, name).items()
    }
    for index, optimizer in enumerate(checkpoint.read_optimizers(path)):
        for weight, entries in optimizer["state"].items():
            tensors |= {f"optimizer.{index}.{weight}.{key}": value for key, value in entries.items()}
    return tensors


def assert_close(one, other, **tolerance):
    assert one.keys() == other.keys() and len(one) > 10
    for name, value in one.items():
        assert value.dtype == other[name].dtype
        torch.testing.assert_close(value, other[name], **tolerance, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("method", [chasing, with_average])
def test_a_run_goes_on_with_another_number_of_processes_in_shards_or_whole(method, tmp_path):
    run, whole = tmp_path / "run", tmp_path / "whole"
    turns = [(1, False), (2, True), (4, True), (2, True), (2, False), (1, False)]
    for turn, (count, shard) in enumerate(turns, 1):
        go(run, method, 2 * turn, count, shard)
        go(whole, method, 2 * turn)
        assert last(run).name == last(whole).name == f"step_{2 * turn:08d}"
        assert (last(run) / "shards").is_dir() == shard
        assert_close(content(last(run)), content(last(whole)), **CLOSE)
        for key, value in fm.load(run, linear_flow()).state_dict().items():
            assert torch.equal(value, checkpoint.read_model(last(run), "ema")[key])
    assert len(checkpoint.read_optimizers(last(run))) == (2 if method is chasing else 1)


def test_shards_are_shares_and_hold_no_pickle(tmp_path):
    go(tmp_path / "run", chasing, 2, 2, True)
    files = {file.relative_to(last(tmp_path / "run")).as_posix() for file in last(tmp_path / "run").rglob("*.*")}
    shards = {f"shards/shard-0000{k}-model-00001-of-00001.safetensors" for k in (1, 2)}
    assert files == {"state.json", "optimizer.json", *shards}
    parts = [load_tensors(last(tmp_path / "run") / name) for name in sorted(shards)]
    assert [part["flow.network.linear.weight"].shape for part in parts] == [(1, 4), (1, 4)]


def test_a_stopped_run_in_shards_goes_on_bit_for_bit(tmp_path):
    for until in (3, STEPS):
        go(tmp_path / "halves", chasing, until, 2, True)
    go(tmp_path / "whole", chasing, STEPS, 2, True)
    assert_close(content(last(tmp_path / "halves")), content(last(tmp_path / "whole")), rtol=0, atol=0)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """A run with checkpoints of steps 1 and 2, written in shards by two processes."""
    run = tmp_path_factory.mktemp("sharded") / "run"
    for until in (1, 2):
        go(run, chasing, until, 2, True)
    return run


@pytest.mark.parametrize("process", [1, 2])
def test_a_damaged_shard_is_passed_over(process, sharded):
    [shard] = (last(sharded) / "shards").glob(f"shard-0000{process}-*")
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.warns(
        UserWarning, match=rf"step_00000002 is damaged: shards/{shard.name} .*going back to step_00000001"
    ):
        flow = fm.load(sharded, linear_flow())
    shard.write_bytes(data)
    before = checkpoint.read_model(sharded / "checkpoints" / "step_00000001", "ema")
    assert all(torch.equal(value, before[name]) for name, value in flow.state_dict().items())


def test_nothing_is_unpickled(sharded, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a pickle was loaded")

    for module, name in [(pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")]:
        monkeypatch.setattr(module, name, refuse)
    assert len(content(last(sharded))) > 10 and fm.load(sharded, linear_flow())


def test_a_folder_that_only_some_processes_see_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_write_parts", lambda *_: {"shards/shard-00002": "written on another machine"})
    with pytest.raises(OSError, match="shards/shard-00002 is missing: the run folder must be visible to all"):
        checkpoint.write(tmp_path, checkpoint.snapshot(1, {}, [], {}), keep=1)
    assert list(tmp_path.iterdir()) == []


def with_a_full_disk(connection, *arguments):
    """As `segment`, where no file of the second process can grow beyond 100 bytes."""
    if os.environ["RANK"] == "1":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
    try:
        segment(connection, *arguments)
    except OSError as error:
        connection.send(str(error))


def test_a_process_that_cannot_write_its_shard_ends_all_with_the_reason(tmp_path):
    run = tmp_path / "run"
    go(run, chasing, 2, 2, True)
    with children(2, with_a_full_disk, run, chasing, 4, True) as all_of_them:
        for process, told in all_of_them:
            message = told.recv()
            assert "the checkpoint of step 4 could not be written" in message and "process 1: " in message
            assert "File too large" in message and "the checkpoint of step 2 is kept" in message
            process.join(timeout=60)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_00000002"]
