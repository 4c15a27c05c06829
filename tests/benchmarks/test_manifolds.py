"""The benchmark of manifolds: its data, its measures at the exact map, and its marks."""

import json

import pytest

from benchmarks.manifolds import cells, report
from benchmarks.manifolds.models import FLOOR, MODELS
from benchmarks.manifolds.sets import SETS, ZONAL, data_of
from flowmaps.figures.words import plus_minus


def test_the_data_are_those_of_the_papers_split_by_distinct_points():
    for name, distinct in (("earthquakes", 5447), ("volcanoes", 267)):
        data = data_of(name, 1)
        train, test = data.draw(data.size).x0, data.held_out(10**6).x0
        held = {tuple(row) for row in test.tolist()}
        kept = {tuple(row) for row in train.tolist()}
        assert len(held) == round(0.1 * distinct) and len(held) + len(kept) == distinct and not held & kept
        assert data.manifold == SETS[name].manifold
    assert len(data_of("volcanoes", 1).draw(10**4).x0) == 10**4
    assert data_of("rna", 0).shape == (7,)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(cells, "SAMPLES", 300)


def test_the_exact_map_is_at_the_floor(few):
    one = cells.measured(ZONAL, "zonal", 0, "jumps", 1)
    step = cells.measured(ZONAL, "zonal", 0, "euler", 1)
    assert one["error"]["mean"] < 1e-4 and abs(one["mmd"]["mean"]) < 4 * one["mmd"]["stderr"] + 1e-3
    assert step["error"]["mean"] > 0.1 and step["mmd"]["mean"] > 0.01
    data, prior = cells.floor("zonal", 0)["rows"]
    assert abs(data["mmd"]["mean"]) < 4 * data["mmd"]["stderr"] + 1e-3 < prior["mmd"]["mean"]


def test_a_cell_is_trained_once(few, tmp_path):
    made = cells.Cells(tmp_path, 0.2)
    made.run("volcanoes", "gfm_psd", 0)
    target = tmp_path / "volcanoes" / "gfm_psd-0.json"
    cell, before = json.loads(target.read_text()), target.stat().st_mtime_ns
    assert cell["training"]["steps"] > 0 and len(cell["rows"]) == len(MODELS["gfm_psd"].samplers)
    made.run("volcanoes", "gfm_psd", 0)
    assert target.stat().st_mtime_ns == before and (tmp_path / "volcanoes" / f"{FLOOR}-0.json").exists()


def cell(model, split, one, many, error=None):
    """A cell of a map with this squared MMD in one jump and in 50 Euler steps."""
    rows = []
    for way, calls in MODELS[model].samplers if model in MODELS else (("data", 0), ("prior", 0)):
        mmd = many if calls == 50 else one
        row = {"way": way, "calls": calls, "mmd": {"mean": mmd, "stderr": 0.001}, "biased": {"mean": 0.1}, "test": 9}
        rows.append(row | ({"error": {"mean": error, "stderr": 0.001}} if error is not None else {}))
    training = {"steps": 10, "seconds": 1.0}
    return {"model": model, "split": split, "machine": "a machine", "training": training, "rows": rows}


@pytest.mark.parametrize(("one", "error", "says"), [(0.0009, 0.05, "met"), (0.02, 0.07, "missed")])
def test_marks_follow_from_the_cells(tmp_path, one, error, says):
    made = {
        ("zonal", 0): [cell("gfm_lsd", 0, one, 0.0, error), cell(FLOOR, 0, 0.0, 0.0)],
        ("fires", 0): [cell("gfm_psd", 0, one, 0.0), cell("gfm_esd", 0, 0.5, 0.5), cell(FLOOR, 0, 0.0, 0.0)],
        ("fires", 1): [cell("gfm_psd", 1, one + 0.001, 0.0)],
    }
    for (name, split), content in made.items():
        (tmp_path / name).mkdir(exist_ok=True)
        for one_cell in content:
            (tmp_path / name / f"{one_cell['model']}-{split}.json").write_text(json.dumps(one_cell))
    marks = report.write(tmp_path).splitlines()
    assert [line.count(says) for line in marks if "`gfm_lsd`, one jump" in line] == [1, 1]
    fires = next(line for line in marks if line.startswith("| fires"))
    assert "`gfm_psd`" in fires and fires.rstrip(" |").endswith("missed")  # 0.0014 and 0.0205 are far above 2 s.e.
    text = (tmp_path / "fires.md").read_text()
    assert "2 splits" in text and plus_minus(one + 0.0005, 0.001 / 2**0.5) in text
    assert (tmp_path / "overview.png").stat().st_size > 1000
    assert report.write(tmp_path / "none").count("not measured") == 9


def test_differences_of_one_split_have_their_standard_error():
    gap, error = report.difference([cell("gfm_lsd", 0, 0.003, 0.001)])
    assert (gap, error) == (pytest.approx(0.002), pytest.approx(0.001 * 2**0.5))
