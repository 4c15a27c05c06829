"""`fm.fit`, methods by name, and a training loop that is never iterated."""

import gc
import math
import warnings

import pytest
import torch

import flowmaps as fm

QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 8}


def flow():
    torch.manual_seed(0)
    return fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))


def said(call):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
        gc.collect()
    return [str(one.message) for one in found if "iterated" in str(one.message)]


def test_fit_is_the_loop_to_its_end():
    last = fm.fit(flow(), fm.methods.lsd(), "gaussian", steps=3, **QUIET)
    *_, looped = fm.train(flow(), fm.methods.lsd(), "gaussian", steps=3, **QUIET)
    assert last.step == looped.step == 3 and last.progress == 1
    assert torch.equal(last.loss.value, looped.loss.value)
    for mine, other in zip(last.ema.parameters(), looped.ema.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_fit_of_a_finished_run_returns_its_weights(tmp_path):
    first = fm.fit(flow(), fm.methods.lsd(), "gaussian", steps=2, out=tmp_path / "run", **QUIET)
    again = fm.fit(flow(), fm.methods.lsd(), "gaussian", steps=2, out=tmp_path / "run", resume=True, **QUIET)
    assert again.step == 2 and math.isnan(again.loss.value) and "nan" in repr(again)
    for mine, other in zip(again.ema.parameters(), first.ema.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_loop_that_is_dropped_unstarted_warns(tmp_path):
    def unused(**settings):
        fm.train(flow(), fm.methods.lsd(), "gaussian", steps=2, **QUIET, **settings)

    [sentence] = said(unused)
    assert "nothing was trained" in sentence and "fm.fit" in sentence
    assert said(lambda: unused(out=tmp_path / "run")) and not (tmp_path / "run" / "config.json").exists()
    assert fm.fit(flow(), "lsd", "gaussian", steps=2, out=tmp_path / "run", **QUIET).step == 2  # the lock is free


@pytest.mark.parametrize(
    "use",
    [
        lambda loop: list(loop),
        lambda loop: next(loop),
        lambda loop: next(iter(loop)),
        lambda loop: loop.close(),
        lambda loop: [state for state in loop if state.step < 0],
    ],
)
def test_a_loop_that_is_used_or_closed_does_not(use):
    assert not said(lambda: use(fm.train(flow(), fm.methods.lsd(), "gaussian", steps=2, **QUIET)))


@pytest.mark.parametrize("method", ["imf", "meanflow", fm.methods.imf, "flow-matching"])
def test_a_method_by_its_name_or_its_function(method):
    state = fm.fit(flow(), method, "gaussian", steps=1, **QUIET)
    name = method if isinstance(method, str) else "imf"
    made = getattr(fm.methods, name.replace("-", "_"))()
    assert torch.equal(state.loss.value, fm.fit(flow(), made, "gaussian", steps=1, **QUIET).loss.value)
