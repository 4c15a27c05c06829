"""`evaluate_run` and the report on run folders that were really trained, if only for a few steps."""

import json
from html.parser import HTMLParser

import pytest
import torch

from flowmaps import FlowMap, methods, networks
from flowmaps.data import as_data, load, reflow
from flowmaps.evaluate import evaluate_run, read_evaluation
from flowmaps.experiments.run_data import run_data
from flowmaps.figures import words
from flowmaps.files import unsealed
from flowmaps.training import load as trained
from flowmaps.training import train
from flowmaps.visualise import report

pytestmark = pytest.mark.slow

QUICK = {"n": 64, "draws": 2, "jumps": (1, 2), "ode_steps": (2, 4)}


def make(out, data, method, steps=3, **options):
    torch.manual_seed(0)
    limits = {name: options.pop(name) for name in ("only_source", "only_target") if name in options}
    flow = FlowMap(networks.MLP(data.shape, 16, 2, classes=options.pop("classes", None)), **limits)
    quiet = {"progress_bar": False, "trackers": (), "batch_size": 32}
    for _ in train(flow, method, data, steps=steps, out=out, **quiet, **options):
        pass
    return out


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return make(tmp_path_factory.mktemp("runs") / "digits", load("digits"), methods.imf(), classes=10)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return make(tmp_path_factory.mktemp("runs") / "plain", load("digits"), methods.flow_matching())


def test_evaluation_is_kept_with_its_classifier(digits):
    result = evaluate_run(digits, **QUICK)
    assert json.loads((digits / "evaluation.json").read_text()) == result == read_evaluation(digits)
    assert unsealed(result)[1] and "checksum" in result
    assert result["step"] == 3 and result["ema"] is True and result["seed"] == 0
    assert (digits / "classifier.safetensors").is_file()
    assert [(row["sampler"], row["steps"]) for row in result["rows"]] == [
        ("jump", 1),
        ("jump", 2),
        ("euler", 2),
        ("euler", 4),
    ]


def test_the_classifier_is_trained_once(digits):
    evaluate_run(digits, **QUICK)
    before = (digits / "classifier.safetensors").stat().st_mtime_ns
    evaluate_run(digits, **QUICK)
    assert (digits / "classifier.safetensors").stat().st_mtime_ns == before


def test_a_reference_stands_in_the_same_table(digits, reference):
    rows = evaluate_run(digits, reference, **QUICK)["rows"]
    beside = [(row["run"], row["sampler"], row["steps"]) for row in rows if "run" in row]
    assert beside == [("plain", "euler", 2), ("plain", "euler", 4)]


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    """A diffusion model, and partial maps: to data alone from data, from noise alone by that model."""
    runs = tmp_path_factory.mktemp("runs")
    plain = make(runs / "plain", load("two_moons"), methods.flow_matching())
    teacher = trained(plain)
    to_data = make(runs / "to_data", load("two_moons"), methods.cd(teacher), only_target=0.0)
    from_noise = make(runs / "from_noise", load("two_moons"), methods.boot(teacher), only_source=1.0)
    return {"plain": plain, "to_data": to_data, "from_noise": from_noise}


@pytest.mark.parametrize(("name", "own"), [("to_data", [("jump", 1), ("restart", 2)]), ("from_noise", [("jump", 1)])])
def test_partial_maps_take_their_many_steps_from_another_run(plane, name, own):
    rows = evaluate_run(plane[name], plane["plain"], **QUICK)["rows"]
    assert [(row["sampler"], row["steps"]) for row in rows if "run" not in row] == own
    beside = [(row["run"], row["sampler"], row["steps"]) for row in rows if "run" in row]
    assert beside == [("plain", "euler", 2), ("plain", "euler", 4)]


@pytest.mark.parametrize("name", ["to_data", "from_noise"])
def test_report_of_a_partial_map(plane, name):
    """Without an ODE of its own there is nothing to follow or to be consistent with; the reference stands for it."""
    text = " ".join(read(report(plane[name], plane["plain"], **QUICK)).words)
    assert "4 ODE steps of plain" in text
    assert "Does the map agree with itself?" not in text


def test_a_reference_on_other_data_is_refused(digits, tmp_path):
    other = make(tmp_path / "other", load("gaussian"), methods.imf())
    with pytest.raises(ValueError, match=r"a reference must be a run on data of shape \(1, 8, 8\)"):
        evaluate_run(digits, other, **QUICK)


def test_data_made_from_an_object_must_be_passed(tmp_path):
    data = as_data(torch.randn(200, 2))
    run = make(tmp_path / "run", data, methods.imf())
    with pytest.raises(ValueError, match="pass it as data="):
        evaluate_run(run, **QUICK)
    assert evaluate_run(run, data=data, **QUICK)["data"] == data.name


def test_no_run_is_no_evaluation(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        evaluate_run(tmp_path / "nothing")


class Reader(HTMLParser):
    """Collects what a page refers to, its pictures' texts and its headings, and checks that tags are closed."""

    VOID = {"meta", "link", "img", "source", "br", "input"}

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.alts, self.words = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "href"):
                self.sources.append(value)
            if name == "alt":
                self.alts.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def test_report_of_images_is_self_contained(digits, reference):
    page = read(report(digits, reference, **QUICK))
    assert page.sources and all(source.startswith("data:") for source in page.sources)
    assert all(page.alts) and len(page.alts) >= 8
    text = " ".join(page.words)
    for wanted in ("learned yet", words.ADVICE, "real data against itself", "4 ODE steps of plain", "1 jump", "imf"):
        assert wanted in text


def test_report_of_points_shows_paths(tmp_path):
    run = make(tmp_path / "run", load("gaussian"), methods.imf())
    page = read(report(run, **QUICK))
    assert "Lines from noise to data in the plane: 1 jump" in page.alts
    assert "Root mean square error of F against the exact flow map" in " ".join(page.words)


def test_report_uses_the_evaluation_that_is_there(digits):
    evaluate_run(digits, **QUICK)
    path = digits / "evaluation.json"
    changed = {**json.loads(path.read_text()), "metric": "a metric of another kind"}
    del changed["checksum"]
    path.write_text(json.dumps(changed))
    assert "a metric of another kind" in report(digits).read_text(encoding="utf-8")


def test_report_of_vectors_has_no_pictures_of_samples(tmp_path):
    data = as_data(torch.randn(300, 5))
    run = make(tmp_path / "run", data, methods.imf())
    page = read(report(run, data=data, **QUICK))
    assert "Does the map agree with itself?" in page.words
    assert not any("grid" in alt or "cloud" in alt for alt in page.alts)


def test_a_run_on_couplings_has_another_map_than_the_distribution_of_its_data(tmp_path):
    data = load("eight_gaussians")
    couplings = reflow(data.exact, data, n=64, steps=2)
    run = make(tmp_path / "run", couplings, methods.rectified_meanflow(), steps=1)
    assert data.exact is not None and run_data(run).exact is None
    assert torch.equal(run_data(run).held_out(8, 0).x0, data.held_out(8, 0).x0)
