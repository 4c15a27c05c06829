"""The lock of a folder: who holds it, who may take it over, and what is left."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from flowmaps.runs import lock as module
from flowmaps.runs import owner
from flowmaps.runs.lock import FolderLock, check_free
from tests.faults.children import SERVER, child, children, train_and_tell
from tests.faults.test_full_disk import file_size


def lock_of(**changed):
    """The content of a lock of this process, with changes."""
    return json.dumps({**owner.identity(), "doing": "training into it", "time": time.time(), **changed})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_lock_names_its_process_and_is_removed_with_its_folder(tmp_path):
    folder = tmp_path / "above" / "run"
    with FolderLock(folder, "training into it"):
        assert names(folder) == [".lock"]
        held = json.loads((folder / ".lock").read_text())
        assert held["pid"] == os.getpid() and held["host"] == os.uname().nodename and held["start"] > 0
        for attempt in (lambda: FolderLock(folder, "x"), lambda: check_free(folder)):
            with pytest.raises(BlockingIOError, match=r"run is in use: this process has been training .* for \d+ s"):
                attempt()
        FolderLock(folder, "evaluating it", ".other.lock").release()
    assert not folder.exists()
    check_free(folder)


def test_a_folder_that_was_there_or_was_written_into_stays(tmp_path):
    FolderLock(tmp_path, "training into it").release()
    assert names(tmp_path) == []
    with FolderLock(tmp_path / "run", "training into it"):
        (tmp_path / "run" / "config.json").write_text("{}")
    assert names(tmp_path / "run") == ["config.json"]


def test_a_lock_that_is_forgotten_is_released(tmp_path):
    held = FolderLock(tmp_path, "training into it")
    del held
    gc.collect()
    assert names(tmp_path) == []


@pytest.mark.slow
def test_a_lock_is_released_when_the_interpreter_ends(tmp_path):
    code = f"from flowmaps.runs.lock import FolderLock\nheld = FolderLock({str(tmp_path)!r}, 'x')\nraise KeyError"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 1
    assert names(tmp_path) == []


def test_a_forked_process_does_not_release_the_lock(tmp_path):
    with FolderLock(tmp_path, "training into it") as held:
        pid = os.fork()
        if pid == 0:
            held.release()
            os._exit(0)
        os.waitpid(pid, 0)
        assert names(tmp_path) == [".lock"]


def hold(connection, folder):
    """Hold a lock until told to go."""
    with FolderLock(folder, "training into it"):
        connection.send(os.getpid())
        connection.recv()


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [False, True])
def test_the_message_names_a_living_process_also_when_it_is_stopped(stopped, tmp_path):
    with child(hold, tmp_path) as (process, told):
        pid = told.recv()
        if stopped:
            os.kill(pid, signal.SIGSTOP)
            while owner._stat(pid)[0] != "T":
                time.sleep(0.001)
        state = r" \(stopped by a signal\)" if stopped else ""
        host = os.uname().nodename
        pattern = rf"is in use: process {pid} on {host}{state} has been training into it for \d+ s\. Wait .*--out"
        with pytest.raises(BlockingIOError, match=pattern):
            FolderLock(tmp_path, "training into it")
        process.kill()
        process.join()
    FolderLock(tmp_path, "training into it").release()


def test_a_process_that_has_ended_but_was_not_waited_for_holds_nothing(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        state, start = owner._stat(process.pid)
        assert state == "Z"
        (tmp_path / ".lock").write_text(lock_of(pid=process.pid, start=start))
        check_free(tmp_path)


def test_another_process_of_the_same_number_is_not_the_owner(tmp_path):
    parent = os.getppid()
    start = owner._stat(parent)[1]
    (tmp_path / ".lock").write_text(lock_of(pid=parent, start=start))
    with pytest.raises(BlockingIOError, match=f"process {parent} on"):
        FolderLock(tmp_path, "training into it")
    (tmp_path / ".lock").write_text(lock_of(pid=parent, start=start - 1))
    FolderLock(tmp_path, "training into it").release()


@pytest.mark.parametrize(
    "text", [lock_of(machine="another", host="node7", pid=12), lock_of(machine="after a restart"), "", "[" * 1000, "7"]
)
def test_a_lock_of_another_machine_is_stale_when_it_is_not_refreshed(text, tmp_path):
    path = tmp_path / ".lock"
    path.write_text(text)
    with pytest.raises(
        BlockingIOError, match=rf"sign of life \d s ago.* remove {path}, or wait .* after 5 min"
    ) as said:
        FolderLock(tmp_path, "training into it")
    assert ("process 12 on node7" in str(said.value)) == ("node7" in text)
    past = time.time() - owner.ABANDONED - 10
    os.utime(path, (past, past))
    with FolderLock(tmp_path, "training into it"):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_lock_is_refreshed_while_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "REFRESH", 0.01)
    with FolderLock(tmp_path, "training into it"):
        os.utime(tmp_path / ".lock", (0, 0))
        while not (tmp_path / ".lock").stat().st_mtime:
            time.sleep(0.01)


def test_control_characters_of_a_lock_are_not_printed(tmp_path):
    (tmp_path / ".lock").write_text(lock_of(machine="x", host="\x1b[2Jhost\n", doing=["\x07"]))
    with pytest.raises(BlockingIOError) as error:
        check_free(tmp_path)
    assert str(error.value).isprintable()


def test_a_lock_that_is_a_pipe_or_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "mine").write_text("mine")
    for make in (os.mkfifo, lambda path: os.symlink(tmp_path / "mine", path)):
        make(tmp_path / "run" / ".lock")
        os.utime(tmp_path / "mine", (0, 0))
        FolderLock(tmp_path / "run", "training into it").release()
    assert (tmp_path / "mine").read_text() == "mine" and names(tmp_path / "run") == []


def test_what_killed_processes_left_beside_the_lock_is_removed(tmp_path):
    (tmp_path / "..lock.999999999-0123abcd.tmp").write_text("cut")
    (tmp_path / ".lock.notes").write_text("mine")
    with FolderLock(tmp_path, "training into it"):
        assert names(tmp_path) == [".lock", ".lock.notes"]


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with FolderLock(tmp_path, "training into it"):
        with pytest.raises(BlockingIOError, match="this process"):
            FolderLock(tmp_path, "training into it")
    assert names(tmp_path) == []


def test_a_lock_that_was_lost_is_noticed(tmp_path):
    with FolderLock(tmp_path, "training into it") as held:
        held.check()
        (tmp_path / ".lock").write_text(lock_of(pid=7, host="node7"))
        with pytest.raises(BlockingIOError, match=r"was taken over by process 7 on node7, so this process stops"):
            held.check()
        held.release()
        assert names(tmp_path) == [".lock"]  # it belongs to another process
        (tmp_path / ".lock").unlink()
        with pytest.raises(BlockingIOError, match="was removed"):
            held.check()


@pytest.mark.slow
def test_a_folder_in_use_is_refused_on_all_processes(tmp_path):
    with FolderLock(tmp_path / "run", "training into it"), children(2, train_and_tell, tmp_path / "run") as both:
        for process, told in both:
            assert f"run is in use: process {os.getpid()} on" in told.recv()
            process.join(timeout=60)
            assert process.exitcode == 1


def test_a_lock_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match=r"\.lock could not be written: File too large"), file_size(10):
        FolderLock(tmp_path / "run", "training into it")
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="file"):
            FolderLock(folder, "training into it")


def scramble(connection, folder, rounds, barrier):
    """Take the lock of each round together with the others; tell in which rounds that worked."""
    won = []
    for number in range(rounds):
        barrier.wait()
        try:
            held = FolderLock(folder / str(number), "training into it")
            won.append(number)
        except BlockingIOError:
            held = None
        barrier.wait()
        if held is not None:
            held.release()
    connection.send(won)


@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.slow
def test_of_processes_that_come_together_one_gets_the_lock(stale, tmp_path):
    count, rounds = 4, 50
    barrier = SERVER.Barrier(count)
    for number in range(rounds if stale else 0):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / ".lock").write_text(lock_of(pid=os.getppid(), start=1))
    with ExitStack() as stack:
        told = [stack.enter_context(child(scramble, tmp_path, rounds, barrier))[1] for _ in range(count)]
        won = [one.recv() for one in told]
    assert sorted(number for each in won for number in each) == list(range(rounds))
    assert len([each for each in won if each]) > 1
    assert all(names(folder) == [] for folder in tmp_path.iterdir())
