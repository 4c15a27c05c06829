"""The files of steered samples: pictures, arrays, tables, the record in the run folder, and the report."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from flowmaps import experiments
from flowmaps.experiments import steer
from flowmaps.experiments.run_folder import STEERED
from flowmaps.reports import page, steering
from flowmaps.runs.lock import FolderLock
from flowmaps.runs.steering_record import read_steered_record

TINY = {"steps": 1, "width": 8, "depth": 1, "batch_size": 8, "sample_every": 0}
QUIET = {"progress_bar": False, "trackers": ()}
HALF = (torch.tensor([[0] * 8] * 4 + [[1] * 8] * 4), "held-out:0")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run on digits without labels."""
    return experiments.train(
        "digits", labels=False, out=tmp_path_factory.mktemp("runs") / "run", **TINY, **QUIET
    ).folder


@pytest.mark.slow
def test_files(digits, tmp_path):
    told = {"reward": "label:7", "steps": 3, "particles": 16, "n": 9, "seed": 1}
    out = steer(digits, out=tmp_path / "x.npy", **told)
    assert np.array_equal(np.load(tmp_path / "x.npy"), out.x.numpy()) and out.x.shape == (9, 1, 8, 8)
    for suffix in ("png", "jpg"):
        steer(digits, out=tmp_path / f"x.{suffix}", **told)
        assert Image.open(tmp_path / f"x.{suffix}").size[0] > 400


def test_points_and_tables(tmp_path):
    run = experiments.train("eight_gaussians", out=tmp_path / "points", **TINY, **QUIET).folder
    out = steer(run, reward=lambda x0: x0[:, 0], steps=5, particles=32, out=tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000 and out.x.shape == (32, 2)
    x = 1000 + 50 * np.random.default_rng(0).standard_normal((200, 3))
    np.save(tmp_path / "table.npy", x.astype(np.float32))
    run = experiments.train(tmp_path / "table.npy", out=tmp_path / "table", **TINY, **QUIET).folder
    out = steer(run, reward=lambda x0: -((x0[:, 0] - 1100) ** 2) / 200, steps=20, out=tmp_path / "x.csv")
    assert out.x[:, 0].mean() > 1060  # a reward sees the units of the data
    assert read_steered_record(run)[1] is None  # there is nothing to draw


def test_the_record_is_kept(digits):
    out = steer(digits, inpaint=HALF, steps=3, particles=16, noise=1.0, command="flowmaps sample <RUN>")
    record, picture = read_steered_record(digits)
    assert record["numbers"] == dict(out.numbers) and record["method"] == "particles" and record["particles"] == 16
    assert picture[:4] == b"\x89PNG" and record["step"] == 1 and math.isfinite(record["numbers"]["log_z"])
    found = steering.section(record, picture)
    text = page.render("steering.html.j2", steering=found)
    assert "32 of 64 pixels are known" in text and "data:image/png;base64," in text
    assert "flowmaps sample &lt;RUN&gt;" in text and "of the noise; about 1 fits" in text and "dB" in text
    assert "Weighted particles have the law" in text
    steer(digits, inpaint=HALF, method="fmrg", n=4, noise=1.0)
    assert "by itself" in page.render("steering.html.j2", steering=steering.section(*read_steered_record(digits)))


def test_a_run_that_cannot_be_written_is_sampled(digits, monkeypatch):
    """The record is no reason to lose the samples."""

    def full(*_):
        raise OSError("No space left on device")

    said = []
    monkeypatch.setattr("flowmaps.experiments.steered_files.write_steered_record", full)
    steer(digits, inpaint=HALF, steps=2, particles=4, noise=3.0, say=said.append)
    assert any("cannot be kept with the run: No space left" in line for line in said)


def test_another_process_that_keeps_its_samples_is_waited_for_by_nobody(digits):
    steer(digits, inpaint=HALF, steps=2, particles=4, noise=3.0)
    before, said = (digits / "steered.json").read_bytes(), []
    with FolderLock(digits, "keeping steered samples", STEERED):
        out = steer(digits, inpaint=HALF, steps=3, particles=4, noise=3.0, say=said.append)
    assert len(out.x) == 4 and (digits / "steered.json").read_bytes() == before
    assert any("cannot be kept with the run" in line and "keeping steered samples" in line for line in said)


@pytest.mark.slow
def test_the_report_shows_the_last_steered_samples(digits):
    steer(digits, inpaint=HALF, steps=3, particles=16, noise=1.0)
    text = experiments.report(digits, n=16, draws=2, jumps=(1,), ode_steps=(2,)).read_text()
    section = text.partition("<h2>Steering</h2>")[2].partition("</section>")[0]
    assert "32 of 64 pixels are known" in section and "data:image/png;base64," in section
