"""Signals of schedulers and terminals, a process that is stopped, and a launcher that is killed."""

import os
import re
import signal
import subprocess
import sys
import time
import warnings

import pytest

import flowmaps as fm
from flowmaps.runs import checkpoint
from tests.faults.children import child, children, go_on, same, train_and_tell
from tests.faults.test_killed import answers, finish, newest

CODES = {signal.SIGHUP: 129, signal.SIGUSR1: 75}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
@pytest.mark.slow
def test_sighup_and_sigusr1_save_like_sigterm_and_have_their_exit_codes(number, count, tmp_path):
    run = tmp_path / "run"
    with children(count, train_and_tell, run, steps=30, checkpoint_every=100) as [*others, (process, told)]:
        while told.recv() < 7:
            pass
        os.kill(process.pid, number)
        for one in (process, *(other for other, _ in others)):
            one.join(timeout=60)
            assert one.exitcode == CODES[number]
    saved = newest(run)
    assert 7 <= saved < 30 and not (run / ".lock").exists()
    *_, state = go_on(run, steps=30, checkpoint_every=100)
    *_, whole = go_on(None, steps=30)
    assert state.step == 30 and (count > 1 or same(state.flow, whole.flow))


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stopped_process_is_noticed_after_the_timeout(stopped, tmp_path):
    with children(2, train_and_tell, tmp_path / "run", steps=10**6, timeout=6.0) as both:
        (process, told), (other, _) = both[1 - stopped], both[stopped]
        while told.recv() < 7:
            pass
        os.kill(other.pid, signal.SIGSTOP)
        *_, last = answers(told)
        process.join(timeout=60)
        assert process.exitcode == 1
    saved = newest(tmp_path / "run")
    assert re.search(r"another process of this run has not answered for 6 s \(--timeout\); the checkpoint of", last)
    assert f"step {saved} is kept. It may be stopped or stuck: look at it, then start all" in last and saved >= 4


def start_and_tell(connection, count, out):
    """Start a process that trains, or several, as a launcher does; tell their numbers."""
    with children(count, finish, out, steps=10**6) as started:
        connection.send([process.pid for process, _ in started])
        connection.recv()


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_processes_end_with_their_launcher_and_save(count, tmp_path):
    run = tmp_path / "run"
    with child(start_and_tell, count, run) as (launcher, told):
        started = told.recv()
        wait_for_checkpoint(run)
        launcher.kill()
        launcher.join()
        saved = newest_beside(run)
    wait_until_ended(started)
    assert newest(run) > saved and not (run / ".lock").exists()


@pytest.mark.slow
def test_processes_of_torchrun_end_with_it_and_save(tmp_path):
    run = tmp_path / "run"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "flowmaps"]
    train = ["train", "two_moons", "--method", "shortcut", "--steps", "1000000", "--width", "8", "--depth", "1"]
    quiet = ["--no-progress-bar", "--sample-every", "0", "--checkpoint-every", "10", "--trackers", "--out", str(run)]
    with subprocess.Popen([*launch, *train, *quiet], start_new_session=True) as launcher:
        wait_for_checkpoint(run)
        started = descendants(launcher.pid)
        launcher.kill()
        launcher.wait()
        saved = newest_beside(run)
    assert len(started) >= 2
    wait_until_ended(started)
    assert newest(run) > saved and fm.load(run) is not None and not (run / ".lock").exists()


def wait_for_checkpoint(run):
    while not checkpoint.complete(run / "checkpoints"):
        time.sleep(0.01)


def newest_beside(run):
    """The step of the newest checkpoint while others are written."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return checkpoint.latest(run / "checkpoints")[1]["step"]


def descendants(pid):
    """The numbers of the processes that a process has started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return [int(number) for number in found]


def wait_until_ended(numbers):
    """Until no process with one of these numbers runs. After a minute the others are killed, and the test fails."""
    for _ in range(6000):
        left = [number for number in numbers if is_running(number)]
        if not left:
            return
        time.sleep(0.01)
    for number in left:
        os.kill(number, signal.SIGKILL)
    raise AssertionError(f"{left} go on without their launcher")


def is_running(number):
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
