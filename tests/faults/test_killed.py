"""Kill -9 at any moment, and SIGTERM: what was saved is whole, and the run that goes on is as one never broken."""

import contextlib
import os
import random
import signal
import time
import warnings

import pytest

import flowmaps as fm
from flowmaps.runs import checkpoint
from flowmaps.training import read_metrics
from tests.faults.children import child, children, go_on, same, train_and_tell

pytestmark = pytest.mark.slow

KILLS = 20


def newest(run):
    """The step of the newest checkpoint, which must be whole, and so must all others."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = checkpoint.latest(run / "checkpoints")
    for path in checkpoint.complete(run / "checkpoints"):
        checkpoint.read_state(path)
    return 0 if found is None else found[1]["step"]


def wait_for_writing(run, process):
    """Until a checkpoint is being written."""
    while process.is_alive() and not list(run.glob("checkpoints/.step_*.tmp")):
        time.sleep(0.0005)


def test_kill_at_20_random_moments_loses_nothing_saved(tmp_path):
    run, saved, chance = tmp_path / "run", 0, random.Random(0)
    for kill in range(KILLS):
        with child(train_and_tell, run) as (process, told):
            assert told.recv() == saved + 1
            for _ in range(chance.randrange(7)):
                told.recv()
            if kill % 2:
                wait_for_writing(run, process)
            time.sleep(chance.uniform(0, 0.02))
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            assert process.exitcode == -signal.SIGKILL
        before, saved = saved, newest(run)
        assert saved >= before and saved % 2 == 0
    *_, state = go_on(run, checkpoint_every=100)
    *_, whole = go_on(None)
    assert state.step == 180 and 20 < saved < 180
    assert same(state.flow, whole.flow) and same(state.ema, whole.ema) and same(fm.load(run), whole.ema)
    assert [row["step"] for row in read_metrics(run)] == sorted({row["step"] for row in read_metrics(run)})
    assert not list(run.glob("checkpoints/.*"))


def answers(connection):
    """What a process tells until it ends."""
    told = []
    with contextlib.suppress(EOFError):
        while True:
            told.append(connection.recv())
    return told


@pytest.mark.parametrize("shard", [False, True])
def test_one_of_two_processes_killed_ends_the_other_and_leaves_a_checkpoint(shard, tmp_path):
    with children(2, train_and_tell, tmp_path / "run", shard=shard) as [(process, told), (other, _)]:
        while told.recv() < 7:
            pass
        other.kill()
        *_, last = answers(told)
        process.join(timeout=60)
        assert process.exitcode == 1
    assert "another process of this run" in last and "--resume" in last
    saved = newest(tmp_path / "run")
    assert saved >= 4 and f"step {saved} is kept" in last


def finish(connection, out, **options):
    """Train to the end."""
    list(go_on(out, **options))


def finish_both(out, **options):
    with children(2, finish, out, **options) as both:
        for process, _ in both:
            process.join(timeout=60)
            assert process.exitcode == 0


@pytest.mark.parametrize("shard", [False, True])
def test_sigterm_to_one_of_two_processes_saves_and_both_go_on_as_if_nothing_was(shard, tmp_path):
    with children(2, train_and_tell, tmp_path / "run", steps=30, shard=shard) as [(process, told), (other, _)]:
        while told.recv() < 7:
            pass
        other.terminate()
        for one in (process, other):
            one.join(timeout=60)
            assert one.exitcode == 143
    assert 7 <= newest(tmp_path / "run") < 30
    for name in ("run", "whole"):
        finish_both(tmp_path / name, steps=30, checkpoint_every=100, shard=shard)
    assert same(fm.load(tmp_path / "run"), fm.load(tmp_path / "whole"))
    assert same(fm.load(tmp_path / "run", ema=False), fm.load(tmp_path / "whole", ema=False))
