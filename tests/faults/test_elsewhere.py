"""A run that goes on under another clock, other seeds of the process, in another folder: the numbers are the same."""

import itertools
import os
import random
import time

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps.training import read_metrics
from tests.faults.children import child, go_on, same

HOUR = 3600.0


def set_clocks(monkeypatch, ahead):
    """All clocks of this process, shifted."""
    for name in ("time", "perf_counter", "monotonic"):
        true = getattr(time, name)
        monkeypatch.setattr(time, name, lambda true=true: true() + ahead)


def numbers(run):
    drop = ("steps_per_second", "seconds")
    return [{key: value for key, value in row.items() if key not in drop} for row in read_metrics(run)]


def half(out):
    list(itertools.islice(go_on(out, log_every=1, steps=20), 9))


@pytest.mark.parametrize("ahead", [-1000 * HOUR, 1000 * HOUR])
def test_another_clock_changes_no_number_and_no_speed(ahead, tmp_path, monkeypatch):
    *_, whole = go_on(tmp_path / "whole", log_every=1, steps=20)
    half(tmp_path / "run")
    set_clocks(monkeypatch, ahead)
    *_, state = go_on(tmp_path / "run", log_every=1, steps=20)
    assert same(state.flow, whole.flow) and same(state.ema, whole.ema)
    assert numbers(tmp_path / "run") == numbers(tmp_path / "whole")
    rows = read_metrics(tmp_path / "run")
    spent = [row["seconds"] for row in rows]
    assert spent == sorted(spent) and 0 <= spent[0] and spent[-1] < HOUR
    assert all(row["steps_per_second"] is None or row["steps_per_second"] > 0 for row in rows)


def test_a_clock_that_is_set_back_in_the_middle_of_a_run(tmp_path, monkeypatch):
    """Time is taken from a clock that no one can set; the time of day could go back by an hour at every look."""
    looks = itertools.count()
    monkeypatch.setattr(time, "time", lambda: 1e9 - HOUR * next(looks))
    *_, state = go_on(tmp_path / "run", log_every=1, steps=20)
    *_, whole = go_on(None, steps=20)
    assert same(state.flow, whole.flow) and 0 <= state.seconds < HOUR
    assert all((row["steps_per_second"] or 1) > 0 for row in read_metrics(tmp_path / "run"))


def test_other_seeds_of_the_process_change_no_number(tmp_path):
    *_, whole = go_on(None, steps=20)
    half(tmp_path / "run")
    random.seed(7), np.random.seed(7)
    training = go_on(tmp_path / "run", steps=20)
    torch.manual_seed(7)
    for state in training:
        random.seed(state.step), np.random.seed(state.step), torch.manual_seed(state.step)
    assert same(state.flow, whole.flow) and same(state.ema, whole.ema)


def finish_with_other_hashes(connection, run):
    """Finish a run in a process that orders the hashes of strings in its own way, and tell one of them."""
    list(go_on(run, steps=20))
    connection.send(hash("flow"))


@pytest.mark.slow
def test_another_order_of_hashes_changes_no_number(tmp_path):
    """Processes forked from one server share its seed of hashes, which is not that of this process."""
    *_, whole = go_on(None, steps=20)
    half(tmp_path / "run")
    with child(finish_with_other_hashes, tmp_path / "run") as (process, told):
        assert told.recv() != hash("flow") or "PYTHONHASHSEED" in os.environ
    assert same(fm.load(tmp_path / "run"), whole.ema)


def test_another_seed_by_argument_is_refused_by_name(tmp_path):
    half(tmp_path / "run")
    with pytest.raises(ValueError, match=r"training\.seed was 0 and is 1\. Use the original arguments"):
        go_on(tmp_path / "run", steps=20, seed=1)


def test_a_run_that_was_moved_goes_on(tmp_path):
    *_, whole = go_on(None, steps=20)
    half(tmp_path / "run")
    (tmp_path / "far" / "away").mkdir(parents=True)
    moved = (tmp_path / "run").rename(tmp_path / "far" / "away" / "moved")
    *_, state = go_on(moved, steps=20)
    assert same(state.flow, whole.flow) and same(fm.load(moved), whole.ema) and not (tmp_path / "run").exists()
