"""The benchmark of guidance runs, and its tables are those of its results."""

import json
from functools import partial
from pathlib import Path

import pytest

import flowmaps as fm
from benchmarks import guided_digits as bench
from benchmarks import guided_scales as scales

RESULTS = Path(bench.__file__).parent / "results" / "guided_digits"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A few steps of small networks, few samples."""
    folder = tmp_path_factory.mktemp("guided")
    arguments = ["--seeds", "3", "--seconds", "0.05", "--runs", str(folder / "runs"), "--out", str(folder / "out")]
    classifier = fm.evaluate.train_classifier(fm.data.load("digits"), steps=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "small_images", partial(bench.small_images, width=8, depth=1))
        patch.setattr(bench, "STEPS", 2)
        patch.setattr(bench, "by_scale", partial(bench.by_scale, n=24, draws=3))
        patch.setattr(bench.fm.evaluate, "train_classifier", lambda data: classifier)
        patch.setattr(scales, "STEPS", 2)
        patch.setattr(scales, "SAMPLES", 70)
        bench.main(arguments)
        scales.main([*arguments[:2], *arguments[4:]])
        before = (folder / "out" / "3.json").stat().st_mtime_ns
        bench.report(folder / "gone", [3], folder / "out")
        assert (folder / "out" / "3.json").stat().st_mtime_ns == before, "what has a result is not measured again"
    return folder / "out"


@pytest.mark.slow
def test_each_model_is_measured_at_each_scale(out):
    rows = json.loads((out / "3.json").read_text())["rows"]
    wanted = [("distilled", 1), ("scratch", 1), ("scratch", 2), ("teacher", 2)]
    assert [(r["run"], r["steps"], r["scale"]) for r in rows] == [(*one, w) for one in wanted for w in (1.0, 2.0, 4.0)]
    assert all("to_reference" in row for row in rows)


@pytest.mark.slow
def test_tables_and_pictures_are_written(out):
    text = (out / "table.md").read_text()
    assert text.count("| from scratch") == 6 and text.count("| teacher, guided") == 3 and "held-out digits" in text
    assert (out / "seeds.md").read_text().count("distilled") == 1
    for name in ("classes.png", "by_scale.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_each_scale_is_held_against_several(out):
    assert len(json.loads((out / "scales-3.json").read_text())["scratch"][2]) == len(scales.BESIDE)
    assert (out / "scales.md").read_text().count("| from scratch") == 3


def test_means_over_seeds():
    one, other = ({"accuracy": a, "accuracy_stderr": e, "scale": 2.0} for a, e in ((0.9, 0.03), (0.7, 0.04)))
    mean = bench.merged([one, other], ["accuracy"])
    assert mean == {"accuracy": pytest.approx(0.8), "accuracy_stderr": pytest.approx(0.025), "scale": 2.0}


def test_the_tables_that_are_shown_are_those_of_the_results():
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("?.json"))]
    assert len(results) == 2
    assert bench.table(bench.averaged(results)) in (RESULTS / "table.md").read_text()
    assert bench.by_seed(results) in (RESULTS / "seeds.md").read_text()
    matrices = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("scales-?.json"))]
    assert scales.table(matrices) in (RESULTS / "scales.md").read_text()
