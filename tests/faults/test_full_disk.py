"""A disk that is full: the content before stays, and the message names the file and says how much is free."""

import itertools
import resource
from contextlib import contextmanager

import pytest
import torch

import flowmaps as fm
from flowmaps import experiments, export, figures
from flowmaps.data import caching
from flowmaps.evaluate.features import Classifier, save_classifier
from flowmaps.figures.densities import densities
from flowmaps.figures.steered import steered
from flowmaps.files import append_text, save_tensors
from flowmaps.runs import checkpoint
from flowmaps.runs.folder import Run
from flowmaps.runs.likelihood_record import write_likelihood_record
from flowmaps.runs.records import write_evaluation
from flowmaps.runs.steering_record import write_steered_record
from flowmaps.training import logging, read_metrics
from flowmaps.training.pictures import draw
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


FLOW = fm.FlowMap(fm.networks.MLP((2,), width=32, depth=1))
LOSSES = [{"step": step, "loss": 1 / step, "terms": {"imf": 1 / step}} for step in range(1, 50)]
PIXELS = torch.rand(4, 1, 8, 8)
WRITES = {
    "config.json": lambda path: Run(path.parent).begin({"notes": "x" * 2000}),
    "metrics.jsonl": lambda path: append_text(path, "x" * 2000),
    "step_00000002.png": lambda path: draw(path, FLOW, fm.methods.imf(), fm.data.load("two_moons"), labels=False),
    "evaluation.json": lambda path: write_evaluation(path, {"rows": ["x" * 2000]}),
    "steered.json": lambda path: write_steered_record(path.parent, {"target": "x" * 2000}, False),
    "likelihood.json": lambda path: write_likelihood_record(path.parent, {"data": "x" * 2000}),
    "likelihood.png": lambda path: densities({"ode": {"held-out": [1.0, 2.0]}}, path),
    "steered.png": lambda path: steered(PIXELS, PIXELS[0], PIXELS[1], path=path),
    "classifier.safetensors": lambda path: save_classifier(Classifier((1, 4, 4), 2), path),
    "rows-00000.safetensors": lambda path: caching.save(path, {"x0": torch.zeros(400, 2)}, "made 0:400"),
    "cache.json": lambda path: caching._write(path.parent, {"made": "x" * 2000}),
    "samples.npy": lambda path: experiments.sample(path.with_name("run"), n=400, out=path),
    "samples.png": lambda path: experiments.sample(path.with_name("run"), n=400, out=path),
    "one_step.pt2": lambda path: export.to_program(FLOW, path, torch.randn(2, 2)),
    "one_step.onnx": lambda path: export.to_onnx(FLOW, path, torch.randn(2, 2)),
    "exported": lambda path: experiments.export(path.with_name("run"), path),
    "imf.png": lambda path: experiments.explain("imf").draw(path),
    "losses.svg": lambda path: figures.loss_curves(LOSSES, path),
}


def content(path):
    """The content of a file, or of the files of a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files if file.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("there", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("name", WRITES)
def test_a_write_that_does_not_fit_names_the_file_and_keeps_what_was_there(name, there, tmp_path):
    path = tmp_path / name
    if name in ("samples.npy", "samples.png", "exported"):
        list(go_on(tmp_path / "run", steps=2))
    if there and name.startswith("one_step"):
        path.write_bytes(b"a sampler of another flow map")  # to export a second one takes seconds
    elif there:
        WRITES[name](path)
    names, before = sorted(item.name for item in tmp_path.iterdir()), content(path) if there else None
    kept = "the old content is kept" if there else "nothing of it is kept"
    message = rf"{path} could not be written: .*; {kept} \(\d+\.\d MB are free\). Free some space, then try again"
    with pytest.raises(OSError, match=message), file_size(500):
        WRITES[name](path)
    assert sorted(item.name for item in tmp_path.iterdir()) == names
    assert before is None or content(path) == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the thread of tensorboard
@pytest.mark.parametrize("trackers", [(), ("tensorboard",)])
def test_metrics_that_do_not_fit_are_named_and_the_rows_before_stay_whole(trackers, tmp_path, monkeypatch):
    run = tmp_path / "run"
    if trackers:  # so that the metrics, which are as large, do not come first
        monkeypatch.setattr(logging, "append_text", lambda path, text: None)
    name = "tensorboard" if trackers else r"metrics\.jsonl"
    with pytest.raises(OSError, match=rf"{name} could not be written: File too large; the old content is kept"):
        with file_size(12_000):
            for _ in go_on(run, log_every=1, checkpoint_every=1000, trackers=trackers):
                pass
    rows = read_metrics(run)
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1)) and (trackers or len(rows) > 10)
    assert trackers or (run / "metrics.jsonl").read_bytes().endswith(b"}\n")
    assert not (run / ".lock").exists()
