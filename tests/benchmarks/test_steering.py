"""The benchmark of steering: cells are run once, marks follow from them and can be missed, and passes are counted."""

import json

import pytest
import torch

import flowmaps as fm
from benchmarks import steering
from benchmarks.steering import classes, inverse, labels, report
from benchmarks.steering.networks import Networks, ToClass


def value(number, error=0.01):
    return {"value": number, "stderr": error}


def of_class(accuracy, distance, tried=None, calls=8.0, error=0.01):
    """A cell of a method at a budget."""
    found = [{"setting": {}, "calls": calls, "distance": tried, "accuracy": 0.5}] if tried is not None else []
    return {
        "machine": "a machine", "process_seconds": 60.0, "calls": calls, "setting": {}, "tried": found,
        "accuracy": value(accuracy, error), "diversity": value(4.0), "distance": value(distance, error),
        "own_accuracy": 0.9, "distinct": 1.0,
    }  # fmt: skip


def of_problem(coverage):
    keys = {key: value(1.0) for key in ("psnr", "residual", "crps")}
    head = {"machine": "a machine", "process_seconds": 1.0, "calls": 100.0, "setting": {}, "tried": []}
    return {**head, **keys, "coverage": value(coverage)}


def outcome(accuracy, distance, error=0.01):
    """Of FMTT with these numbers against DPS with 0.9 and 2."""
    cells = {"dps-8": of_class(0.9, 2.0, 2.0, error=error), "fmtt-8": of_class(accuracy, distance, 1.0, error=error)}
    return report.ahead(cells, 8)[-1]


def test_a_mark_of_a_budget_needs_accuracy_and_distance():
    assert outcome(0.95, 1.0) == "met" and outcome(0.95, 3.0) == outcome(0.8, 1.0) == "missed"
    assert outcome(0.89, 1.0) == "undecided" and outcome(0.91, 1.9) == "met, within two errors"
    assert outcome(0.95, 1.0, error=1.0) == "met, within two errors"
    assert report.ahead({}, 8)[-1] == "not measured" and report.ahead({}, 1)[-1] == "DPS needs two calls"


def test_the_flow_map_method_of_a_budget_is_chosen_without_the_reported_numbers():
    """By the distance when settings were tried, within the budget."""
    cells = {
        "fmtt-8": of_class(0.5, 9.0, tried=1.0), "fmrg-8": of_class(0.99, 0.1, tried=2.0),
        "best_of-8": of_class(1.0, 0.0), "weighted_diamond-8": of_class(1.0, 0.0, tried=0.1, calls=9.0),
        "dps-8": of_class(0.9, 2.0, tried=0.0),
    }  # fmt: skip
    assert report.best_map(cells, 8) == "fmtt" and report.ahead(cells, 8)[-1] == "missed"


def test_marks_of_one_jump_and_of_coverage():
    cells = {"dps-100": of_class(0.98, 1.0), "filtered-1": of_class(0.961, 1.0), "tilting-1": of_class(0.95, 1.0)}
    found = {name: report.close(cells, name)[-1] for name in ("filtered", "tilting", "distilled")}
    assert found == {"filtered": "met", "tilting": "missed", "distilled": "not measured"}
    covered = {"hole-dps": of_problem(0.9), "blur-dps": of_problem(0.84), "half-dps": of_problem(0.96)}
    assert [report.covers(covered, name, "dps")[-1] for name in inverse.PROBLEMS] == ["met", "missed", "missed"]
    assert report.covers({}, "hole", "dps")[-1] == "not measured"


def test_cells_are_run_once_and_tables_say_what_is_missing(tmp_path, monkeypatch):
    ran = []

    def cells(part, only):
        for name in ("dps-8", "fmtt-8") if part == "classes" else ("hole-dps",):
            made = of_class(0.9, 2.0, 1.0) if part == "classes" else of_problem(0.9)
            yield f"{part}/{name}", lambda networks, name=name, made=made: ran.append(name) or made

    monkeypatch.setattr(steering, "cells", cells)
    for _ in range(2):
        for part in steering.PARTS:
            steering.measure(Networks(tmp_path), tmp_path, part)
    assert ran == ["dps-8", "fmtt-8", "hole-dps"]
    assert json.loads((tmp_path / "classes/dps-8.json").read_text())["accuracy"] == value(0.9)
    page = report.write(tmp_path)
    assert "not measured" in page and (tmp_path / "budgets.png").read_bytes().startswith(b"\x89PNG")
    assert "0.900\u00a0±\u00a00.010" in (tmp_path / "classes.md").read_text()
    assert not (tmp_path / "inverse-blur.md").exists() and (tmp_path / "inverse-hole.md").exists()
    with pytest.raises(SystemExit, match="'dsp' is not known; known are unsteered"):
        steering.main(["--tables", "--methods", "dsp", "--out", str(tmp_path)])


def test_every_cell_has_a_name_of_its_own():
    stems = [stem for part in steering.PARTS for stem, _ in steering.cells(part, ())]
    assert len(set(stems)) == len(stems) and "classes/dps-100" in stems and "classes/dps-1" not in stems
    assert [stem for stem, _ in steering.cells("inverse", ("dps",))][:2] == ["inverse/hole-data", "inverse/hole-dps"]


def test_intervals_of_exchangeable_draws_cover_the_truth_in_nine_of_ten():
    torch.manual_seed(0)
    x, truth = torch.randn(4000, inverse.DRAWS, 4), torch.randn(4000, 4)
    assert abs(float(inverse.inside(x, truth).float().mean()) - 0.9) < 0.01
    assert float(inverse.inside(0.7 * x, truth).float().mean()) < 0.8


def test_the_setting_of_a_problem_is_calibrated_among_those_that_are_as_good():
    def tried(name, crps, coverage):
        return {"setting": {"name": name}, "crps": crps, "stderr": 0.01, "coverage": coverage}

    found = [tried("best", 0.1, 0.8), tried("calibrated", 0.108, 0.89), tried("poor", 0.12, 0.9)]
    assert inverse.preferred(found) == {"name": "calibrated"} and inverse.preferred(found[::2]) == {"name": "best"}
    assert torch.equal(
        inverse.levels(torch.tensor([-1.2, -0.95, 0.06, 0.07, 3.0])), torch.tensor([-1, -1, 0, 0.125, 1])
    )


def test_measures_of_a_problem_know_a_posterior_from_its_mean():
    """Draws that are the truth have no spread; the prior has the residual of another image."""
    posed = inverse.problem_of("half")
    exact = inverse.measures(posed, posed.truth.repeat_interleave(inverse.DRAWS, 0))
    assert exact["psnr"]["value"] > 60 and abs(exact["crps"]["value"]) < 1e-6
    assert abs(exact["residual"]["value"] - 1) < 4 * exact["residual"]["stderr"]
    other = inverse.measures(posed, posed.truth.roll(1, 0).repeat_interleave(inverse.DRAWS, 0))
    assert other["residual"]["value"] > 3 and other["coverage"]["value"] < exact["coverage"]["value"]
    tried = inverse.problem_of("half", validation=True)
    assert len(tried.truth) == inverse.VALIDATION and not any(
        (tried.truth == one).flatten(1).all(1).any() for one in posed.truth
    )


class Tiny(Networks):
    """Networks without training."""

    def _map(self, name, make):
        torch.manual_seed(0)
        classes = 10 if name in ("conditional", "filtered", "distilled") else None
        if name == "posterior":
            inner = fm.networks.MLP(fm.networks.StateInput.shape_for((1, 8, 8)), 8, 1)
            return fm.FlowMap(fm.networks.StateInput(inner)).requires_grad_(False)
        return fm.FlowMap(fm.networks.MLP((1, 8, 8), 8, 1, classes=classes)).requires_grad_(False)

    @property
    def classifier(self):
        return fm.evaluate.Classifier((1, 8, 8), 10).requires_grad_(False)


@pytest.mark.parametrize("name", labels.METHODS)
def test_a_method_keeps_to_its_budget_and_makes_a_sample_of_each_label(name, tmp_path):
    """With its first setting, at budgets that are enough for one step."""
    method, networks, label = labels.METHODS[name], Tiny(tmp_path), classes.labels(3, (0, 1))
    for budget in (16, 17) if method.most == 100 else (method.most,):
        setting = method.settings[0]
        method.draw(networks, classes.labels(2, (0, 1)), budget, 0, **setting)
        x, ess, calls = classes.counted(networks, method.draw, label, budget, 0, **setting)
        assert x.shape == (6, 1, 8, 8) and bool(x.isfinite().all()) and 0 < calls <= budget
        assert (ess is not None) == (name in ("tds", "fmtt"))


def test_distances_are_near_the_floor_for_data_and_far_for_noise():
    features = lambda x: x.flatten(1).double()  # noqa: E731
    others = [[classes.real(split)[k][1] for k in (0, 1)] for split in range(2)]
    noise = [[torch.randn_like(one) for one in group] for group in others]
    near, far = (classes.distance(groups, features, (0, 1)) for groups in (others, noise))
    assert near.value < far.value / 5 and near.stderr < near.value
    x, label = torch.arange(2.0 * classes.HALF * 2).reshape(-1, 1), classes.labels(2 * classes.HALF, (0, 1))
    groups = classes.grouped(x, label, (0, 1))
    assert [[len(one) for one in group] for group in groups] == [[classes.HALF] * 2] * 2
    assert groups[0][0].max() < 2 * classes.HALF <= groups[0][1].min()


def test_the_teacher_of_the_distillation_is_the_tilted_velocity_of_each_row(tmp_path):
    networks = Tiny(tmp_path)
    x, label = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 3])
    classifier = networks.classifier
    teacher = ToClass(networks.base, classifier).given(label=label)
    value = fm.steering.value(fm.rewards.label(classifier, label))
    torch.testing.assert_close(teacher.velocity(x, 0.5), fm.steering.tilt(networks.base, value).velocity(x, 0.5))
    assert not torch.equal(teacher.velocity(x, 0.5), teacher.given(label=label.flip(0)).velocity(x, 0.5))


def test_the_chosen_setting_has_the_smallest_distance_within_the_budget(tmp_path, monkeypatch):
    """The far one is worse, and the near one is too expensive."""

    def draw(networks, label, budget, seed, kind):
        for _ in range({"cheap": 1, "far": 1, "dear": 9}[kind]):
            networks.base.velocity(torch.zeros(len(label), 1, 8, 8), 0.5)
        return torch.full((len(label), 1, 8, 8), {"cheap": 1.0, "far": 2.0, "dear": 0.0}[kind]), None

    settings = [{"kind": kind} for kind in ("far", "cheap", "dear")]
    monkeypatch.setitem(labels.METHODS, "dps", labels.Steered("DPS", "denoiser", 1, draw, settings))
    of = lambda networks, x, label: {key: value(float(x.mean())) for key in ("distance", "accuracy")}  # noqa: E731
    monkeypatch.setattr(classes, "measures", of)
    found = classes.result(Tiny(tmp_path), "dps", 8)
    assert found["setting"] == {"kind": "cheap"} and found["calls"] == 1.0 and len(found["tried"]) == 3
