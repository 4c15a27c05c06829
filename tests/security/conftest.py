"""A run that a stranger may have changed, and a stranger's module that writes a marker if it runs."""

import json
import shutil
import sys

import pytest

import flowmaps as fm
from flowmaps.runs import outline
from tests.security.support import Stranger


@pytest.fixture(autouse=True)
def _few_parts(monkeypatch):
    """Refuse networks of more than 2000 parts, not 20,000, whose weights have fewer, because counting takes long."""
    monkeypatch.setattr(outline, "FEW", 2000)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A small run on points with labels, with the null class, so that it can be sampled, guided, and distilled."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    fm.experiments.train(
        "two_moons", data_args={"labels": True}, method="imf", steps=2, out=folder, network="mlp", width=8, depth=2,
        batch_size=16, label_dropout=0.1, progress_bar=False, trackers=(), sample_every=0,
    )  # fmt: skip
    return folder


@pytest.fixture
def stranger(trained, tmp_path, monkeypatch):
    """A copy of the run, with files that would write a marker if anything imported, unpickled or executed them."""
    run, marker = tmp_path / "run", tmp_path / "marker"
    shutil.copytree(trained, run)
    touch = f"open({str(marker)!r}, 'w').close()\n"
    (run / "pipe").mkdir()
    for name in ("evil.py", "pipe/pipeline.py", "pipe/modeling_evil.py"):
        (run / name).write_text(f"{touch}\nclass Network:\n    def __init__(self, *a, **k):\n        {touch}")
    index = {"_class_name": ["pipeline", "Network"], "unet": ["modeling_evil", "Network"]}
    (run / "pipe" / "model_index.json").write_text(json.dumps(index))
    monkeypatch.chdir(run)
    monkeypatch.syspath_prepend(str(run))
    yield Stranger(run, marker)
    assert not marker.exists() and not {"evil", "pipeline", "modeling_evil"} & sys.modules.keys()
