"""Pages with instruments for runs."""

import json
import re
from dataclasses import replace

import pytest
import torch

import flowmaps as fm
from flowmaps.experiments import explore, train
from flowmaps.reports.explore_page.networks import NotInPages
from flowmaps.reports.explore_page.runs import Explored, computed, evaluated
from tests.browser import chromium, page  # noqa: F401

QUICK = {"progress_bar": False, "width": 16, "depth": 2, "batch_size": 32}


def data_of(path):
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), flags=re.S)[1]
    return json.loads(text)["runs"]


class Runs(dict):
    """Short runs by name, trained when they are asked for."""

    OPTIONS = {
        "moons": {"data": "two_moons"},
        "classes": {"data": "{folder}/points.csv", "method": "imf", "data_args": {"labels": "kind"}},
        "generator": {"data": "two_moons", "method": "ict"},
        "velocity": {"data": "two_moons", "method": "flow_matching"},
        "digits": {"data": "digits"},
        "series": {"data": "series"},
        "texts": {"data": "text:{folder}/names.txt", "data_args": {"length": 8}},
    }

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        rows = [f"{x},{y},{'ab'[k % 2]}" for k, (x, y) in enumerate(torch.randn(60, 2).tolist())]
        (folder / "points.csv").write_text("\n".join(["x,y,kind", *rows]))
        (folder / "names.txt").write_text("anna\nberta\ncarla\ndora\n" * 50)

    def __missing__(self, name):
        options = dict(self.OPTIONS[name])
        train(options.pop("data").format(folder=self.folder), steps=2, out=self.folder / name, **QUICK, **options)
        return self.folder / name

    def __truediv__(self, name):
        self[name] = self[name]
        return self[name]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("runs"))


def test_points_in_the_plane_have_their_network(runs, tmp_path):
    path = explore(runs / "moons", out=tmp_path / "page.html")
    (run,) = data_of(path)
    flow = fm.load(runs / "moons").double()
    found = fm.reports.explore_page.networks.decoded(run["flow"])
    x = torch.randn(4, 2, dtype=torch.float64)
    assert (found(x, 1.0, 0.0) - flow.standardised()(x, 1.0, 0.0)).abs().max() < 1e-6
    assert len(run["real"]) == 2 * 800 and run["name"] == "moons"


def test_two_runs_stand_beside_each_other(runs):
    path = explore(runs / "moons", runs / "generator")
    assert path == runs / "moons" / "explore.html"
    assert [run["name"] for run in data_of(path)] == ["moons", "generator"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("digits", "pictures"), ("series", "series"), ("texts", "texts")])
def test_other_data_have_states(runs, tmp_path, name, kind):
    (run,) = data_of(explore(runs / name, out=tmp_path / "page.html"))
    assert run["kind"] == kind
    assert [sample["name"] for sample in run["samples"]] == [
        "1 jump",
        "2 jumps",
        "4 jumps",
        "8 jumps",
        "100 ODE steps",
    ]
    way = run["way"]
    assert len(way["times"]) == len(way["states"]) == len(way["jumps"]) == 11
    assert way["jumps"][0] == run["samples"][0]["state"]  # one jump from the noise is the sample of one jump
    assert way["states"][-1] == run["samples"][-1]["state"] != way["states"][0]


def test_what_was_not_trained_is_said(runs, tmp_path):
    """A velocity alone has no jumps; a map of jumps and velocities has both."""
    said = "trained on the diagonal t = s alone, so it has a velocity but no jumps"
    assert said in explore(runs / "velocity", out=tmp_path / "page.html").read_text()
    text = explore(runs / "moons", out=tmp_path / "page.html").read_text()
    assert "untrained" not in text and said not in text and "moons: 2 training steps on two_moons." in text


def test_maps_for_ancestral_steps_take_them(runs):
    """Their velocity is none of the data, so the page shows neither jumps nor a way along it."""
    flow, data = fm.load(runs / "velocity"), fm.data.load("two_moons")
    flow.trained = replace(flow.trained, ancestral=True)
    run = Explored("run", flow, data, False, 2)
    with pytest.raises(NotInPages, match="ancestral"):
        evaluated(run)
    found = computed(run)
    assert found["way"] is None
    names = [sample["name"] for sample in found["samples"]]
    assert names == ["1 ancestral step", *(f"{k} ancestral steps" for k in (2, 4, 8))]


def test_wrong_runs_are_refused(runs, tmp_path):
    with pytest.raises(ValueError, match="one run, or two"):
        explore()
    with pytest.raises(ValueError, match="one run, or two"):
        explore(*[runs / "moons"] * 3)
    with pytest.raises(ValueError, match="different kinds"):
        explore(runs / "moons", runs / "series")
    with pytest.raises(FileNotFoundError):
        explore(tmp_path / "nowhere")
    assert not list(tmp_path.glob("*.html"))


@pytest.mark.slow
def test_the_pages_work(runs, tmp_path, page):  # noqa: F811
    """Arrow keys move the point in both runs, and the jump is the one of Python."""
    view = page(width=390)
    view.goto(explore(runs / "moons", runs / "classes", out=tmp_path / "two.html").as_uri())
    before = view.evaluate("async () => (await instrument('run_map')).state()")
    view.locator(".handle").first.press("Shift+ArrowRight")
    after = view.evaluate("async () => (await instrument('run_map')).state()")
    assert after["x"][0] > before["x"][0] and after["x"][1] == before["x"][1]
    x = torch.tensor([after["x"]], dtype=torch.float64)
    for name, run in zip(("moons", "classes"), after["runs"], strict=True):
        flow = fm.load(runs / name).double().standardised()
        given = flow.given(label=after["label"]) if name == "classes" else flow
        assert (given(x, 1.0, 0.0) - torch.tensor(run["jump"])).abs().max() < 1e-4
    view.evaluate("async () => (await instrument('run_samples')).state()")
    for name in ("generator", "digits", "series", "texts"):
        view.goto(explore(runs / name, out=tmp_path / f"{name}.html").as_uri())
        first = "run_map" if name == "generator" else "run_states"
        assert view.evaluate("async (name) => (await instrument(name)).state()", first)
        assert view.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.slow
def test_the_report_links_to_the_page(runs):
    """Only if it is there."""
    run = runs / "moons"
    (run / "explore.html").unlink(missing_ok=True)
    assert 'href="explore.html"' not in fm.experiments.report(run, quick=True).read_text()
    explore(run)
    assert 'href="explore.html"' in fm.experiments.report(run).read_text()
