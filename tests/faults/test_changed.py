"""Runs that are resumed with other data, labels, teachers or optimizers than the ones they began with."""

import itertools
import json
import os
import shutil
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

import flowmaps as fm
from flowmaps.data import pictures
from flowmaps.experiments import comparison
from flowmaps.runs import checkpoint
from tests.faults.children import same
from tests.training.support import QUIET, chasing, linear_flow

PLAN = {**QUIET, "batch_size": 8, "steps": 6, "checkpoint_every": 2}


def flow_for(data, seed=0):
    torch.manual_seed(seed)
    data = fm.data.as_data(data)
    return fm.FlowMap(fm.networks.MLP(data.shape, width=8, depth=1, classes=data.classes))


def half(data, out, method=fm.methods.flow_matching, **options):
    """Train half of a run, and stop."""
    training = fm.train(flow_for(data), method(), data, out=out, **{**PLAN, **options})
    list(itertools.islice(training, 3))
    training.close()


def rest(data, out, method=fm.methods.flow_matching, **options):
    """Resume the run."""
    return list(fm.train(flow_for(data), method(), data, out=out, resume=True, **{**PLAN, **options}))


def rows(seed=0, n=40):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, generator=generator), torch.randint(3, (n,), generator=generator)


def swapped(label):
    """The labels with two different ones exchanged."""
    first = int((label != label[0]).nonzero()[0])
    order = torch.arange(len(label))
    order[[0, first]] = order[[first, 0]]
    return label[order]


X, LABEL = rows()
CHANGED = {
    "a number": ((X, LABEL), (X + torch.eye(40, 2) * 1e-3, LABEL), r"data\.contents\.x0\.sha256 was \w+ and is \w+"),
    "the order of labels": ((X, LABEL), (X, swapped(LABEL)), r"data\.contents\.label\.sha256 was \w+ and is \w+"),
    "an array": (X.numpy(), X.numpy() + 1, r"data\.contents\.x0\.sha256"),
    "a distribution": (
        fm.exact.Gaussian(torch.zeros(2)), fm.exact.Gaussian(torch.ones(2)), r"data\.contents\.sampler.*sha256",
    ),
    "the noise of a toy": (
        fm.data.toys.spirals(noise=0.1), fm.data.toys.spirals(noise=0.2), r"noise was 0\.1 and is 0\.2",
    ),
    "batches": ([X, X + 1], [X + 2, X], r"data\.contents\.sha256"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_data_with_other_contents_is_refused_by_name(name, tmp_path):
    before, now, message = CHANGED[name]
    half(before, tmp_path / "run")
    with pytest.raises(ValueError, match=f"cannot be resumed .*{message}.* fingerprint=.off."):
        rest(now, tmp_path / "run")
    *_, state = rest(now, tmp_path / "run", fingerprint="off")
    assert state.step == 6


@pytest.fixture
def folder(tmp_path):
    """Images in two class folders."""
    for index in range(24):
        file = tmp_path / "images" / "ab"[index % 2] / f"{index:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (4, 4), dtype=np.uint8)).save(file)
    return tmp_path / "images"


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_copied_data_folder_goes_on_with_a_warning_and_a_changed_one_is_refused(
    in_memory, folder, tmp_path, monkeypatch
):
    """Neither the times of files nor their place decide; names, sizes, labels and bytes do."""
    monkeypatch.setattr(pictures, "IN_MEMORY", 2**29 if in_memory else 0)
    run, copy = tmp_path / "run", tmp_path / "copy"
    half(fm.data.load(str(folder)), run)
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    os.utime(copy / "a" / "00.png", ns=(0, 2**62))
    with pytest.warns(
        UserWarning, match=r"goes on although this has changed: .*data\.contents\.modified was \d+ and is"
    ):
        rest(fm.data.load(str(copy)), run)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rest(fm.data.load(str(folder)), run)
    changed = copy / "b" / "01.png"
    changed.rename(copy / "a" / "01.png")
    with pytest.raises(ValueError, match=r"data\.contents\.files\.sha256 was \w+ and is \w+; and 2 more"):
        rest(fm.data.load(str(copy)), run)
    (copy / "a" / "01.png").rename(changed)
    content = bytearray(changed.read_bytes())
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(changed)
    changed.write_bytes(changed.read_bytes().ljust(len(content), b"\0")[: len(content)])
    with pytest.raises(ValueError, match=r"data\.contents\.(images|files)\.sha256 was \w+ and is \w+"):
        rest(fm.data.load(str(copy)), run)


def test_a_large_array_is_compared_by_samples_or_completely(tmp_path, monkeypatch):
    monkeypatch.setattr("flowmaps.runs.contents.SMALL", 0)
    monkeypatch.setattr("flowmaps.runs.contents.IN_MEMORY", 4)
    x = rows(n=2000)[0]
    other = x.clone()
    other[fm.data.as_data(x).source.train.index[7]] = 0
    half(x, tmp_path / "samples")
    rest(other, tmp_path / "samples")
    half(x, tmp_path / "whole", fingerprint="whole")
    with pytest.raises(ValueError, match=r"data\.contents\.x0\.whole_sha256 was \w+ and is \w+"):
        rest(other, tmp_path / "whole", fingerprint="whole")
    rest(x, tmp_path / "whole", fingerprint="whole")


class Net(torch.nn.Module):
    """A teacher of somebody else's."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.linear = torch.nn.Linear(2, 2)

    def velocity(self, x, t):
        return self.linear(x)


class Around:
    """An object around a teacher."""

    def __init__(self, inner):
        self._inner = inner

    def velocity(self, x, t):
        return self._inner.velocity(x, t)


def closed(inner):
    """A velocity source that holds its teacher in a closure."""

    def source(flow, pair):
        return inner

    return fm.Method(fm.Term(fm.consistency.lagrangian, source), name="closed")


TEACHERS = {
    "flow map": lambda seed: fm.methods.lmd(teacher=linear_flow(seed)),
    "module": lambda seed: fm.methods.lmd(teacher=Net(seed)),
    "object": lambda seed: fm.methods.lmd(teacher=Around(Net(seed))),
    "guided": lambda seed: fm.methods.lmd(teacher=fm.guidance.mixture({linear_flow(seed): 0.5, linear_flow(5): 0.5})),
    "phased": lambda seed: fm.methods.progressive_distillation(teacher=linear_flow(seed)),
    "closure": lambda seed: closed(Net(seed)),
    "exact": lambda seed: fm.methods.lmd(teacher=fm.exact.Gaussian(torch.full((2,), float(seed)))),
}


@pytest.mark.parametrize("kind", TEACHERS)
def test_a_teacher_with_other_weights_is_refused(kind, tmp_path):
    half(X, tmp_path / "run", lambda: TEACHERS[kind](0))
    with pytest.raises(ValueError, match=r"method\.terms\[\d\]\..*sha256 was \w+ and is \w+"):
        rest(X, tmp_path / "run", lambda: TEACHERS[kind](1))
    rest(X, tmp_path / "run", lambda: TEACHERS[kind](0))


class Factory:
    """A function with a memory that makes optimizers."""

    def __init__(self, lr):
        self._lr = lr

    def __call__(self, weights):
        return torch.optim.SGD(weights, lr=self._lr, momentum=0.9)

    make = __call__


def by_groups(decay):
    """An optimizer with two groups."""
    return lambda weights: torch.optim.AdamW(
        [
            {"params": [w for w in weights if w.ndim < 2]},
            {"params": [w for w in weights if w.ndim > 1], "weight_decay": decay},
        ]
    )


OPTIMIZERS = {
    "partial": (lambda lr: partial(torch.optim.SGD, lr=lr, momentum=0.9), r"lr was 0\.1 and is 0\.2"),
    "lambda": (lambda lr: lambda w: torch.optim.SGD(w, lr=lr), r"lr was 0\.1 and is 0\.2"),
    "object": (Factory, r"optimizers\[0\]\.groups\[0\]\.lr was 0\.1 and is 0\.2"),
    "method": (lambda lr: Factory(lr).make, r"optimizers\[0\]\.groups\[0\]\.lr was 0\.1 and is 0\.2"),
    "betas": (lambda b: lambda w: torch.optim.Adam(w, betas=(b, 0.9)), r"b was 0\.1 and is 0\.2"),
    "decay of a group": (lambda d: by_groups(d), r"decay was 0\.1 and is 0\.2"),
    "a literal": (
        lambda v: (lambda w: torch.optim.SGD(w, lr=0.1)) if v == 0.1 else (lambda w: torch.optim.SGD(w, lr=0.2)),
        r"optimizers\[0\]\.groups\[0\]\.lr was 0\.1 and is 0\.2",
    ),
    "another class": (
        lambda v: (lambda w: torch.optim.SGD(w, lr=0.1)) if v == 0.1 else (lambda w: torch.optim.RMSprop(w, lr=0.1)),
        r"optimizers\[0\] was .*SGD and is .*RMSprop",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.filterwarnings("ignore:the run in .* goes on although")
def test_an_optimizer_with_other_options_is_refused(kind, tmp_path):
    make, message = OPTIMIZERS[kind]
    half(X, tmp_path / "run", optimizer=make(0.1))
    with pytest.raises(ValueError, match=message):
        rest(X, tmp_path / "run", optimizer=make(0.2))
    *_, state = rest(X, tmp_path / "run", optimizer=make(0.1))
    assert state.step == 6


def test_the_optimizer_of_an_auxiliary_network_is_compared_too(tmp_path):
    def method(lr):
        return lambda: chasing(optimizer=lambda weights: torch.optim.SGD(weights, lr=lr))

    half(X, tmp_path / "run", method(0.1))
    with pytest.raises(ValueError, match=r"lr was 0\.1 and is 0\.2"):
        rest(X, tmp_path / "run", method(0.2))
    rest(X, tmp_path / "run", method(0.1))


def falling(progress):
    """A schedule."""
    return 1 - 0.5 * progress


def falling_faster(progress):
    """Another schedule, under the name of the first."""
    return 1 - 0.9 * progress


falling_faster.__qualname__ = "falling"


def test_other_code_of_a_function_is_said_and_not_refused(tmp_path):
    half(X, tmp_path / "run", schedule=falling)
    with pytest.warns(
        UserWarning, match=r"although this has changed: training\.schedule\.code_sha256 was \w+ and is \w+"
    ):
        rest(X, tmp_path / "run", schedule=falling_faster)


def edit(file, **entries):
    """Change entries of a JSON object, and remove its checksum."""
    content = {**json.loads(file.read_text()), **entries}
    content.pop("checksum", None)
    file.write_text(json.dumps(content))


def test_a_later_format_is_refused_and_a_later_version_is_said(tmp_path):
    run = tmp_path / "run"
    half(X, run)
    config = json.loads((run / "config.json").read_text())
    edit(run / "config.json", versions={**config["versions"], "flowmaps": "99.0.0"})
    for read in (lambda: rest(X, run), lambda: fm.load(run)):
        with pytest.warns(UserWarning, match=r"was written by flowmaps 99\.0\.0, and this is the earlier version"):
            assert read()
    edit(run / "config.json", format=3)
    for read in (lambda: rest(X, run), lambda: fm.load(run)):
        with pytest.raises(
            ValueError, match=r"config\.json has format 3, but this version of flowmaps reads at most 2"
        ):
            read()
    edit(run / "config.json", format=2, versions=config["versions"])
    newest = checkpoint.complete(run / "checkpoints")[-1]
    state = json.loads((newest / "state.json").read_text())
    del state["checksum"]
    (newest / "state.json").write_text(json.dumps(fm.files.sealed({**state, "format": 2})))
    for read in (lambda: rest(X, run), lambda: fm.load(run)):
        with pytest.raises(ValueError, match="has format 2, but this version of flowmaps reads at most 1"):
            read()


def test_a_run_without_fingerprints_goes_on_as_before(tmp_path):
    """A folder of an earlier version has no contents in its config.json."""
    *_, whole = fm.train(flow_for(X), fm.methods.flow_matching(), X, **PLAN)
    half(X, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    del config["checksum"], config["fingerprint"], config["data"]["contents"], config["optimizers"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    *_, state = rest(X, tmp_path / "run")
    assert same(state.flow, whole.flow)


def test_a_comparison_of_other_data_or_with_another_teacher_is_refused(tmp_path):
    """Its finished runs would stand in one table with runs on other data."""
    half(X, tmp_path / "teacher")

    def begin(data):
        source, shared = fm.data.as_data(data), {"seed": 0, "progress_bar": False}
        comparison._begin(tmp_path / "out", comparison._settings(source, {"steps": 1}, tmp_path / "teacher", shared))

    begin((X, LABEL))
    begin((X.clone(), LABEL))
    with pytest.raises(ValueError, match=r"comparison\.data\.contents\.label\.sha256 was \w+ and is \w+"):
        begin((X, swapped(LABEL)))
    rest(X, tmp_path / "teacher")
    with pytest.raises(ValueError, match=r"comparison\.weights_sha256 was \w+ and is \w+"):
        begin((X, LABEL))
    (tmp_path / "out" / "comparison.json").write_text("{")
    with pytest.raises(ValueError, match=r"comparison\.json cannot be read"):
        begin((X, LABEL))
