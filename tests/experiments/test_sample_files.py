"""The files of samples: pictures of several formats, and tables of text that are read again."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

import flowmaps as fm
from flowmaps import experiments
from flowmaps.data import load

FEW = {"steps": 2, "width": 8, "depth": 1, "batch_size": 8, "progress_bar": False, "trackers": (), "sample_every": 0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of a table with texts as labels, one of points without names, one of images."""
    root = tmp_path_factory.mktemp("runs")
    rows = "".join(f"{at % 5},{at % 7},{'pq'[at % 2]},{at % 3}\n" for at in range(40))
    (root / "table.csv").write_text("height,weight,kind,age\n" + rows)
    table = load(root / "table.csv", labels="kind")
    return {
        name: experiments.train(data, out=root / name, method="flow_matching", **FEW)
        for name, data in (("table", table), ("points", torch.randn(40, 2)), ("images", "digits"))
    }


@pytest.mark.parametrize("suffix", ["csv", "tsv", "CSV"])
def test_a_table_has_the_columns_of_the_data(runs, tmp_path, suffix):
    out = tmp_path / f"x.{suffix}"
    x = experiments.sample(runs["table"], n=6, out=out, step="euler")
    again = load(out, labels="kind")
    assert again.recipe["columns"] == ["height", "weight", "age"] and again.class_names == ("p", "q")
    with out.open(newline="") as file:
        names, *cells = csv.reader(file, delimiter="\t" if suffix == "tsv" else ",")
    assert names == ["height", "weight", "age", "kind"] and [row[3] for row in cells] == ["p", "q"] * 3
    assert np.array_equal(np.array([row[:3] for row in cells], np.float32), x.numpy())
    flow = fm.load(runs["table"])
    expected = fm.sample(flow, fm.noise(flow, 6, seed=0), step="euler", condition=torch.arange(6) % 2)
    assert flow.units is not None and torch.allclose(x, expected)  # in the units of the table, converted once


def test_a_table_of_data_without_names(runs, tmp_path):
    x = experiments.sample(runs["points"], n=6, out=tmp_path / "x.csv")
    data = load(tmp_path / "x.csv", columns=["x0", "x1"], standardise=False)
    assert data.classes is None and sorted(torch.cat((data.draw(5).x0, data.held_out(1).x0)).tolist()) == sorted(
        x.tolist()
    )


def test_images_are_no_table_and_vectors_no_picture(runs, tmp_path):
    with pytest.raises(ValueError, match=r"a table of text holds points and vectors, .* shape \(1, 8, 8\)"):
        experiments.sample(runs["images"], n=2, out=tmp_path / "x.csv")
    with pytest.raises(
        ValueError, match=r"only images, points in the plane, and .* can be drawn: .* or vectors to .csv"
    ):
        experiments.sample(runs["table"], n=2, out=tmp_path / "x.jpg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("JPEG", "JPEG"), ("webp", "WEBP"), ("PNG", "PNG")]
)
@pytest.mark.parametrize("run", ["images", "points"])
def test_pictures(runs, tmp_path, run, suffix, kind):
    experiments.sample(runs[run], n=9, out=tmp_path / f"x.{suffix}")
    with Image.open(tmp_path / f"x.{suffix}") as picture:
        assert picture.format == kind and np.ptp(np.asarray(picture.convert("L"))) > 50
