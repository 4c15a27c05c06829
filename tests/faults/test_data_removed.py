"""Data that goes away while a run reads it."""

import numpy as np
import pytest
import torch
from PIL import Image

import flowmaps as fm
from flowmaps.data import arrays, pictures
from tests.faults.children import same
from tests.training.support import QUIET

PLAN = {**QUIET, "batch_size": 8, "steps": 12, "checkpoint_every": 2}


def images():
    torch.manual_seed(0)
    return fm.FlowMap(fm.networks.MLP((1, 4, 4), width=8, depth=1)), fm.methods.flow_matching()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Images that are read from disk for every batch, as those of a large folder are."""
    monkeypatch.setattr(pictures, "IN_MEMORY", 0)
    place = tmp_path / "images"
    place.mkdir()
    for index in range(24):
        pixels = np.random.default_rng(index).integers(0, 256, (4, 4), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{index:02d}.png")
    return place


def test_an_image_that_is_gone_is_named_and_the_run_goes_on_when_it_is_back(folder, tmp_path):
    data, run = fm.data.load(str(folder)), tmp_path / "run"
    training = fm.train(*images(), data, out=run, **PLAN)
    assert [next(training).step for _ in range(5)][-1] == 5
    away = folder.rename(tmp_path / "away")
    message = (
        rf"the batch of step \d+ cannot be read: .*{folder}.*\.png.*; the checkpoint of step \d+ is kept\. "
        "Restore the file, then go on with --resume"
    )
    with pytest.raises(OSError, match=message):
        list(training)
    away.rename(folder)
    *_, state = fm.train(*images(), fm.data.load(str(folder)), out=run, resume=True, **PLAN)
    *_, whole = fm.train(*images(), data, **PLAN)
    assert state.step == 12 and same(state.flow, whole.flow)


def test_an_array_that_is_removed_stays_readable_until_the_run_ends(tmp_path, monkeypatch):
    """The file is mapped: the system keeps what is mapped. A new start says what is missing."""
    monkeypatch.setattr(arrays, "IN_MEMORY", 0)
    file = tmp_path / "rows.npy"
    np.save(file, np.random.default_rng(0).standard_normal((40, 2)).astype(np.float32))
    content = file.read_bytes()

    def small():
        torch.manual_seed(0)
        return fm.FlowMap(fm.networks.MLP(2, width=8, depth=1)), fm.methods.flow_matching()

    training = fm.train(*small(), fm.data.load(str(file)), out=tmp_path / "run", **PLAN)
    assert next(training).step == 1
    file.unlink()
    assert next(training).step == 2
    training.close()
    with pytest.raises((ValueError, OSError), match=r"rows\.npy"):
        fm.data.load(str(file))
    file.write_bytes(content)
    *_, state = fm.train(*small(), fm.data.load(str(file)), out=tmp_path / "run", resume=True, **PLAN)
    *_, whole = fm.train(*small(), fm.data.load(str(file)), **PLAN)
    assert state.step == 12 and same(state.flow, whole.flow)
