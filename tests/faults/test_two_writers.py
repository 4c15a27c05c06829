"""Two processes that write into one folder: one of them does, and the others are told which."""

import itertools
import json
import os
import signal
from contextlib import ExitStack

import pytest
import torch

import flowmaps as fm
from flowmaps import experiments
from flowmaps.experiments import evaluation
from flowmaps.experiments.run_folder import EVALUATIONS
from flowmaps.files import temporary_name
from flowmaps.runs import checkpoint, lock
from flowmaps.training import read_config, read_metrics, train
from tests.faults.children import DATA, QUIET, SERVER, child, flow, go_on, same, train_and_tell

BUSY = r"run is in use: process {} on {} has been training into it for \d+ s\. Wait for it to end, or choose another"


def told(process):
    """The message about a process that trains."""
    return BUSY.format(process.pid, os.uname().nodename)


def race(connection, folder, rounds, barrier, lr, resume):
    """Start together with the others in each round; tell the rounds in which this process trained, and the refusals."""
    trained, refused = [], []
    for number in range(rounds):
        barrier.wait()
        try:
            options = {"resume": resume, "lr": None if resume else lr}
            list(train_small(folder / str(number), **options))
            trained.append(number)
        except OSError as error:
            refused.append(f"{type(error).__name__}: {error}")
        barrier.wait()
    connection.send((trained, refused))


def train_small(out, lr=None, **options):
    plan = {"steps": 6, "checkpoint_every": 1, "keep": 1, "schedule": fm.training.constant, **QUIET, "log_every": 1}
    return train(flow(), fm.methods.flow_matching(), DATA, out=out, lr=lr or 1e-3, **{**plan, **options})


@pytest.mark.slow
@pytest.mark.parametrize("resume", [False, True])
def test_of_runs_that_start_together_exactly_one_trains(resume, tmp_path):
    count, rounds = 3, 40
    for number in range(rounds if resume else 0):
        list(itertools.islice(train_small(tmp_path / str(number)), 2))
    barrier = SERVER.Barrier(count)
    with ExitStack() as stack:
        rates = [1e-3 * (1 + index) for index in range(count)]
        parts = [child(race, tmp_path, rounds, barrier, rate, resume) for rate in rates]
        connections = [stack.enter_context(part)[1] for part in parts]
        answers = [connection.recv() for connection in connections]
    check_race(tmp_path, rounds, rates, answers, resume)


def check_race(folder, rounds, rates, answers, resume):
    """Each run is the one of a single process: its configuration, its weights and its metrics."""
    refusals = [text for _, refused in answers for text in refused]
    if not resume:  # a resumed run that is complete may be resumed again, and takes no steps
        assert sorted(number for trained, _ in answers for number in trained) == list(range(rounds))
        assert len(refusals) == (len(rates) - 1) * rounds
    assert any("is in use" in text for text in refusals)
    assert [text for text in refusals if "is in use" not in text and "there is a run" not in text] == []
    alone = {rate: list(train_small(None, lr=rate, keep=3))[-1].ema for rate in rates}
    for number in range(rounds):
        run = folder / str(number)
        rate = read_config(run)["training"]["lr"]
        assert resume or number in answers[rates.index(rate)][0]
        assert same(fm.load(run), alone[rate])
        assert [row["step"] for row in read_metrics(run)] == [1, 2, 3, 4, 5, 6]
        assert not [path for path in run.rglob(".*")]


@pytest.mark.slow
def test_a_second_run_is_refused_at_once_and_the_first_goes_on(tmp_path):
    with child(train_and_tell, tmp_path / "run", steps=10**6) as (process, steps):
        first = steps.recv()
        config = (tmp_path / "run" / "config.json").read_bytes()
        for resume in (False, True):
            with pytest.raises(BlockingIOError, match=told(process)):
                train(
                    flow(), fm.methods.shortcut(), DATA, out=tmp_path / "run", resume=resume, steps=9, lr=1.0, **QUIET
                )
        with pytest.raises(BlockingIOError, match=told(process)):
            experiments.train("no such data", out=tmp_path / "run")
        assert [steps.recv() for _ in range(20)] == list(range(first + 1, first + 21))
        process.terminate()
        process.join(timeout=60)
        assert process.exitcode == 143
    assert (tmp_path / "run" / "config.json").read_bytes() == config
    assert checkpoint.latest(tmp_path / "run" / "checkpoints")[1]["step"] >= first + 20
    assert not (tmp_path / "run" / ".lock").exists()


def test_the_lock_of_a_killed_run_is_taken_over(tmp_path):
    run = tmp_path / "run"
    with child(train_and_tell, run, steps=10**6) as (process, steps):
        while steps.recv() < 5:
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert json.loads((run / ".lock").read_text())["pid"] == process.pid
    next(train(flow(), fm.methods.shortcut(), DATA, out=run, resume=True, steps=10**6, **PLAN))
    assert not (run / ".lock").exists()


PLAN = {"checkpoint_every": 2, "schedule": fm.training.constant, **QUIET}


def test_a_run_whose_lock_was_taken_over_stops_before_it_writes(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(BlockingIOError, match=r"was taken over by process 7 on node7, so this process stops writing"):
        for state in go_on(run):
            if state.step == 3:
                lock_of = {"host": "node7", "machine": "another", "pid": 7, "start": 1}
                (run / ".lock").write_text(json.dumps(lock_of))
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_00000002"]
    assert (run / ".lock").exists(), "it belongs to the other process"


def evaluate_held(connection, run):
    """Hold the lock of an evaluation."""
    with lock.FolderLock(run, "evaluating it", EVALUATIONS):
        connection.send("held")
        connection.recv()


def test_evaluations_exclude_each_other_and_not_training(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "evaluate_flow", lambda *_, **__: {"rows": []})
    run = tmp_path / "run"
    training = go_on(run, checkpoint_every=1)
    while next(training).step < 3:
        pass
    with child(evaluate_held, run) as (process, answer):
        assert answer.recv() == "held"
        for work in (experiments.evaluate, experiments.report):
            with pytest.raises(BlockingIOError, match=rf"process {process.pid} on .* has been evaluating it"):
                work(run, data=DATA)
        answer.send("go")
        process.join(timeout=60)
    assert experiments.evaluate(run, data=DATA)["step"] == 3 and (run / "evaluation.json").is_file()
    assert next(training).step == 4, "training goes on"
    training.close()
    assert not list(run.glob(".*lock"))


def test_two_comparisons_or_exports_do_not_share_a_folder(tmp_path):
    small = {"steps": 2, "batch_size": 8, "width": 8, "depth": 1, "network": "mlp", "progress_bar": False}
    with lock.FolderLock(tmp_path / "table", "comparing methods in it"):
        with pytest.raises(BlockingIOError, match="table is in use: this process has been comparing methods in it"):
            experiments.compare("two_moons", ["imf"], out=tmp_path / "table", **small)
    with lock.FolderLock(tmp_path, "exporting to out in it", ".out.lock"):
        with pytest.raises(BlockingIOError, match="has been exporting to out in it"):
            experiments.export(fm.FlowMap(fm.networks.MLP((2,), width=8, depth=1)), tmp_path / "out")
    assert not list(tmp_path.iterdir())
    (tmp_path / ".out.999999999-0123abcd.tmp").mkdir()
    experiments.export(fm.FlowMap(fm.networks.MLP((2,), width=8, depth=1)), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_writers_never_share_a_temporary_file(tmp_path):
    with child(tell_names, tmp_path / "config.json") as (_, answer):
        theirs = answer.recv()
    ours = [temporary_name(tmp_path / "config.json").name for _ in range(100)]
    assert len({*theirs, *ours}) == 200 and all(str(os.getpid()) in name for name in ours)


def tell_names(connection, path):
    connection.send([temporary_name(path).name for _ in range(100)])


def test_what_killed_writes_left_is_removed_by_the_next_run_and_nothing_else(tmp_path):
    run = tmp_path / "run"
    list(go_on(run, steps=2))
    gone = ["config.json", "checkpoints/step_00000004", "samples/step_00000004.png", "metrics.jsonl"]
    names = [f"{name.rpartition('/')[2]}.999999999-0123abcd.tmp" for name in gone]
    left = [(run / name).with_name(f".{text}") for name, text in zip(gone, names, strict=True)]
    left += [run / ".config.json.999999999.tmp", run / "checkpoints" / ".step_00000006.tmp"]  # of version 0.1.0
    kept = [run / ".notes.tmp", run / "checkpoints" / ".mine.tmp", run / f".config.json.{os.getppid()}-0123abcd.tmp"]
    for path in (*left, *kept):
        path.parent.mkdir(exist_ok=True)
        if path.name.startswith(".step") and path.suffix == ".tmp" and "png" not in path.name:
            path.mkdir()
            (path / "flow.safetensors").write_text("cut")
        else:
            path.write_text("cut")
    assert list(go_on(run, steps=2)) == []
    assert not [path for path in left if path.exists()] and all(path.exists() for path in kept)


def free(connection, folder, rounds, barrier):
    """Train without a folder of its own, together with others."""
    os.chdir(folder)
    found = []
    for _ in range(rounds):
        barrier.wait()
        run = experiments.train(
            torch.randn(40, 2), method="flow_matching", network="mlp", width=4, depth=1, steps=1, batch_size=4,
            progress_bar=False, trackers=(), sample_every=0,
        )  # fmt: skip
        found.append(str(run.folder))
    connection.send(found)


def test_runs_without_a_folder_of_their_own_get_free_numbers(tmp_path):
    count, rounds = 3, 4
    barrier = SERVER.Barrier(count)
    with ExitStack() as stack:
        answers = [stack.enter_context(child(free, tmp_path, rounds, barrier))[1] for _ in range(count)]
        found = [name for answer in answers for name in answer.recv()]
    usual = "runs/tensor-flow_matching"
    assert sorted(found) == sorted([usual, *(f"{usual}_{number}" for number in range(2, count * rounds + 1))])
    assert all(read_config(tmp_path / name)["method"]["name"] == "flow_matching" for name in found)
