"""Moving pictures of runs: their states are those of the samplers, and runs without one are refused before sampling."""

import shutil

import pytest
import torch

import flowmaps as fm
from flowmaps import experiments
from flowmaps.cli import main
from flowmaps.data import load
from flowmaps.experiments.sample_files import lines_of
from flowmaps.runs.folder import read_config
from flowmaps.runs.snapshots import kept_steps

FEW = {"width": 8, "depth": 1, "batch_size": 8, "progress_bar": False, "trackers": (), "sample_every": 0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of points with three checkpoints, and runs of a table, of words and of series with one."""
    root = tmp_path_factory.mktemp("runs")
    table = [",".join("abcdefghi"), *(",".join(str((at * k) % 7) for k in range(1, 10)) for at in range(40))]
    (root / "table.csv").write_text("\n".join(table))
    (root / "words.txt").write_text("yes\nnoo\n" * 20)
    sets = {
        "table": load(root / "table.csv"),
        "words": fm.data.text(str(root / "words.txt"), 4, rows="lines"),
        "series": torch.randn(40, 12),
    }
    points = {"steps": 3, "checkpoint_every": 1, "keep": 3, "lr": 0.1, **FEW}
    experiments.train(
        fm.data.as_data(torch.randn(40, 2) + 5, standardise=True), out=root / "points", method="lsd", **points
    )
    for name, data in sets.items():
        experiments.train(data, out=root / name, steps=1, **FEW)
    return root


@pytest.fixture
def drawn(monkeypatch):
    """The arguments of the moving pictures, which are not drawn."""
    found = []
    monkeypatch.setattr("flowmaps.figures.animate", lambda films, path, **told: found.append((films, path, told)))
    return found


def test_the_frames_are_the_states_of_the_sampler(runs, drawn, tmp_path):
    x = experiments.sample(runs / "points", animate=tmp_path / "a.gif", n=7, steps=3, seed=4)
    flow = fm.load(runs / "points")
    states = fm.trajectory(flow, fm.noise(flow, 7, seed=4), 3)
    [(films, path, told)] = drawn
    assert path == tmp_path / "a.gif" and told["captions"] == {
        "3 jumps": ["t = 1.00", "t = 0.67", "t = 0.33", "t = 0.00"]
    }
    assert flow.units is not None
    states[0] = flow.units.restored(states[0])  # all frames have the units of the data
    assert torch.allclose(torch.stack(films["3 jumps"]), torch.stack(states)) and torch.equal(x, films["3 jumps"][-1])
    assert torch.equal(x, experiments.sample(runs / "points", n=7, steps=3, seed=4))


def test_snapshots_are_the_weights_of_each_checkpoint(runs, drawn, tmp_path):
    x = experiments.sample(runs / "points", animate=tmp_path / "a.gif", snapshots=True, n=7, ema=False)
    [(films, _, told)] = drawn
    assert told["captions"] == {"1 jump": [f"training step {step}" for step in (1, 2, 3)]}
    assert torch.equal(films["1 jump"][-1], x) and torch.equal(x, experiments.sample(runs / "points", n=7, ema=False))
    earlier = tmp_path / "earlier"
    shutil.copytree(runs / "points", earlier)
    shutil.rmtree(earlier / "checkpoints" / "step_00000003")
    second = experiments.sample(earlier, n=7, ema=False)
    assert torch.equal(films["1 jump"][1], second) and not torch.allclose(second, x)


def test_particles_are_shown_before_they_are_resampled(runs, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("flowmaps.experiments.steered_sampling.keep", lambda *_: None)
    told = {"reward": lambda x: x[:, 0], "steps": 4, "particles": 6, "method": "tds", "seed": 2}
    result = experiments.steer(runs / "points", animate=tmp_path / "a.gif", **told)
    [(films, _, kept)] = drawn
    [states], [lines] = films.values(), kept["captions"].values()
    flow = fm.load(runs / "points")
    *states, last = states
    assert torch.equal(last, result.x) and lines.pop() == "t = 0.00, resampled"
    assert torch.allclose(states[0], flow.units.restored(fm.noise(flow, 6, seed=2))) and len(states) == 5
    assert lines[0].startswith("t = 1.00, ") and lines[-1].startswith("t = 0.00, ") and "of 6 effective" in lines[2]
    assert all((row == states[-1]).all(1).any() for row in result.x)  # the samples are drawn from the last particles
    with pytest.raises(ValueError, match="shows particles, and tilt has none: take the method particles, tds or fmtt"):
        experiments.steer(runs / "points", animate=tmp_path / "a.gif", reward=told["reward"], method="tilt")


def test_texts_and_series_have_moving_pictures(runs, drawn, tmp_path):
    texts = experiments.sample(runs / "words", animate=tmp_path / "a.gif", steps=2)
    experiments.sample(runs / "series", animate=tmp_path / "a.gif", steps=2)
    (words, *_), (series, *_) = drawn
    [lines], [rows] = words.values(), series.values()
    assert [len(state) for state in lines] == [12] * 3 and all(isinstance(line, str) for line in lines[0])
    assert lines[-1] == lines_of(texts, read_config(runs / "words")) and rows[0].shape == (15, 12)


def test_what_has_no_moving_picture_is_refused_before_sampling(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("flowmaps.sampling.sample_", lambda *_, **__: pytest.fail("sampled"))

    def refused(run, *arguments):
        capsys.readouterr()
        assert main(["sample", str(runs / run), *arguments]) == 2
        return capsys.readouterr().err

    film = ["--animate", str(tmp_path / "a.gif")]
    assert "the rows of this run are vectors of shape (9,)" in refused("table", *film)
    keeps = refused("series", *film, "--snapshots")
    assert "keeps one, of step 1" in keeps and "--checkpoint-every 100 --keep 50" in keeps
    assert "as .gif or .mp4, got out.webm" in refused("points", "--animate", "out.webm")
    assert "give the file of one, --animate" in refused("points", "--snapshots")
    assert "at most 500 frames: take fewer --steps" in refused("points", *film, "--steps", "500")
    assert "room for 60 samples" in refused("words", *film, "-n", "61")
    steered = refused("points", *film, "--snapshots", "--reward", "math:exp")
    assert "--snapshots is for samples without steering" in steered
    assert not list(tmp_path.iterdir()) and kept_steps(runs / "points") == [1, 2, 3]
