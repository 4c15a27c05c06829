"""The benchmark of one jump on six data sets: cells are run once, by one process, and marks follow from them."""

import json
import math
import os

import pytest
import torch

import flowmaps as fm
from benchmarks import one_step
from benchmarks.one_step import ablation, cells, measured, methods, report, sets
from flowmaps.evaluate import Estimate
from flowmaps.files import write_json
from flowmaps.runs.fingerprint import fingerprint
from flowmaps.runs.lock import FolderLock
from tests.small import few_samples

NAME = "eight-gaussians"
SEVERAL = ("flow_matching", "imf", "ict", "sct", "facm", "rectified_meanflow")
TINY = ["--budget", "0.2s", "--sets", NAME]


def cell(out, name, method, seed, rows, kind="images", failure=None, **head):
    """Write a cell with these rows: (sampler, steps): distance."""
    keys = {**sets.MARKED[kind], **sets.BESIDE[kind]}
    evaluation = {"measures": dict.fromkeys(keys, "a distance"), "draws": 2, "samples": 8}
    for key in keys:
        evaluation |= {"floor": 0.5, "floor_stderr": 0.01, f"{key}_floor": 0.5, f"{key}_floor_stderr": 0.01}
    evaluation["rows"] = [
        {"sampler": sampler, "steps": steps, "stderr": 0.02}
        | dict.fromkeys(keys, value)
        | {f"{key}_stderr": 0.02 for key in keys}
        for (sampler, steps), value in rows.items()
    ]
    about = {"set": name, "method": method, "seed": seed, "budget": 60.0, "machine": "a machine"}
    last = {"last": head.pop("last")} if "last" in head else {}
    found = (
        {"training": {"steps": 7}, "evaluation": evaluation | head, **last} if failure is None else {"failure": failure}
    )
    (out / name).mkdir(parents=True, exist_ok=True)
    write_json(out / name / f"{method}-{seed}.json", about | found)


def reference(out, name, seed, euler, heun=2.0, **more):
    cell(out, name, "flow_matching", seed, {("euler", 100): euler, ("heun", 18): heun}, **more)


def described(method):
    """A method without the weights of its weight."""
    return fingerprint(method, trained=method.parameters())


def lines_of(text):
    return [[word.strip() for word in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_twelve_methods_are_compared_and_every_setting_of_imf_alone():
    assert {group: len(names) for group, names in methods.GROUPS.items()} == {
        "reference": 1, "scratch": 6, "distillation": 6, "settings": 10
    }  # fmt: skip
    assert all(methods.METHODS[name].is_taught == (group == "distillation") for group in methods.GROUPS for name in
               methods.GROUPS[group])  # fmt: skip
    assert set(sets.SETS) == {"digits", "glyphs-16", "glyphs-28", "photos-16", "eight-gaussians", "series"}


def test_the_base_is_the_default_method_and_begins_anew_each_time():
    """A learned weight has weights of its own, which no run may pass on to the next."""
    entry = methods.METHODS[methods.BASE]
    one, other = entry.method(None, None), entry.method(None, None)
    assert fingerprint(one) == fingerprint(other) and one.terms[0].weight is not other.terms[0].weight
    torch.manual_seed(0)
    assert described(entry.method(None, None)) == described(fm.recipes.method_for(fm.data.load("digits")))
    assert cells.TRAINING["schedule"] == fm.training.WarmUpStableDecay()


def test_marks_are_met_missed_at_the_floor_or_not_measured(tmp_path):
    reference(tmp_path, "digits", 0, 2.0)
    cell(tmp_path, "digits", "imf", 0, {("jump", 1): 1.9})
    cell(tmp_path, "digits", "lsd", 0, {("jump", 1): 3.0})
    cell(tmp_path, "digits", "facm", 0, {("jump", 1): 1.95})
    reference(tmp_path, "series", 0, 0.5, kind="vectors")
    cell(tmp_path, "series", "imf", 0, {("jump", 1): 0.52}, kind="vectors")
    page = report.write(tmp_path)
    table = {(line[0], line[1].split(",")[0]): line[2:] for line in lines_of((tmp_path / "marks.md").read_text())[2:]}
    assert table["digits", "scratch"] == ["imf", "Fréchet 0.95, rounded 0.95", "met", "2 of 6", "1"]
    assert table["digits", "distillation"] == ["facm", "Fréchet 0.97, rounded 0.97", "missed", "1 of 6", "1"]
    assert table["series", "scratch"][2] == "at the floor"
    assert table["series", "distillation"] == ["", "", "not measured", "0 of 6", "0"]
    assert len(table) == 12 and table["photos-16", "scratch"][2] == "not measured" and "## digits" in page


def test_a_mark_needs_the_reference_of_the_same_seed(tmp_path):
    reference(tmp_path, "digits", 0, 2.0)
    cell(tmp_path, "digits", "imf", 0, {("jump", 1): 2.2})
    cell(tmp_path, "digits", "imf", 1, {("jump", 1): 1.0})
    cell(tmp_path, "digits", "lsd", 1, {("jump", 1): 0.1})
    digits = measured.read(tmp_path, "digits")
    assert digits.best("scratch") == "imf"
    assert report.mark(digits, "scratch", 1.0) == ["imf", "Fréchet 1.10, rounded 1.10", "missed", "2 of 6", "1"]


def test_the_rounded_distance_alone_can_miss_a_mark(tmp_path):
    reference(tmp_path, "digits", 0, 2.0)
    cell(tmp_path, "digits", "imf", 0, {("jump", 1): 1.0})
    path = tmp_path / "digits" / "imf-0.json"
    found = json.loads(path.read_text())
    found["evaluation"]["rows"][0]["rounded_distance"] = 3.0
    write_json(path, found)
    assert report.mark(measured.read(tmp_path, "digits"), "scratch", 1.0)[1:3] == [
        "Fréchet 0.50, rounded 1.50",
        "missed",
    ]


def test_ratios_of_several_seeds_and_of_nothing():
    assert measured.together([]) is None and measured.together([Estimate(1.0, 0.3)]) == (1.0, 0.3)
    assert measured.together([Estimate(1.0, 9.0), Estimate(3.0, 9.0)]) == (2.0, pytest.approx(1.0))
    assert report.ratio(Estimate(1.0, 0.1), Estimate(2.0, 0.1)) == "0.50"
    assert report.ratio(Estimate(1.0, 0.1), Estimate(0.1, 0.1)) == "-"
    assert report.outcome(Estimate(-0.1, 0.1), Estimate(-0.2, 0.1), Estimate(0.0, 0.1), 1.0) == "at the floor"


def test_the_table_says_what_is_missing_and_what_failed(tmp_path):
    reference(tmp_path, "photos-16", 0, 2.0)
    reference(tmp_path, "photos-16", 1, 4.0)
    cell(tmp_path, "photos-16", "imf", 0, {("jump", 1): 3.0})
    cell(tmp_path, "photos-16", "tvm", 0, {}, failure="FloatingPointError: the loss")
    report.write(tmp_path)
    table = {line[0]: line for line in lines_of((tmp_path / "photos-16.md").read_text())}
    euler, heun, one = (
        table[name] for name in ("flow_matching, 100 Euler steps", "flow_matching, 18 Heun steps", "imf")
    )
    assert euler[2] == "3.0\u00a0±\u00a01.0" and euler[-2:] == ["2", "7"] and heun[2] == "2"
    assert one[2] == "3.000\u00a0±\u00a00.020" and one[-6:] == ["1.50", "1.50", "1.50", "1.50", "1", "7"]
    assert table["lsd"][2] == "not measured" and table["tvm"][2] == "failed: FloatingPointError: the loss"
    assert (
        "imf-paper" not in table
        and not (tmp_path / "ablation.md").exists()
        and "60 s of processor time" in (tmp_path / "photos-16.md").read_text()
    )


def test_the_ablation_has_ratios_seed_by_seed(tmp_path):
    """0.5 and 1 on two seeds: their geometric mean 0.707 with the error of their spread."""
    for seed, base, other in ((0, 2.0, 1.0), (1, 3.0, 3.0)):
        reference(tmp_path, "digits", seed, 2.0)
        last = {"rows": [{"sampler": "jump", "steps": 1, "distance": 2 * base, "stderr": 0.02}]}
        cell(tmp_path, "digits", "imf", seed, {("jump", 1): base}, last=last)
        cell(tmp_path, "digits", "imf-adaptive", seed, {("jump", 1): other})
    cell(tmp_path, "digits", "imf-differences", 0, {("jump", 1): 2.0})
    digits = measured.read(tmp_path, "digits")
    assert ablation.change(digits, "imf-adaptive") == pytest.approx((math.log(0.5) / 2, math.log(2) / 2))
    one = ablation.change(digits, "imf-differences")
    assert one == pytest.approx((0.0, math.hypot(0.01, 0.01))) and ablation.change(digits, "imf-paper") is None
    assert ablation.change(digits, ablation.LAST) == pytest.approx((math.log(2), 0.0))
    page = report.write(tmp_path)
    table = {line[0]: line[1] for line in lines_of((tmp_path / "ablation.md").read_text())}
    assert table[methods.METHODS["imf-adaptive"].says] == "×\u00a00.71\u00a0±\u00a00.25 (7)"
    assert table[ablation.LAST] == "**×\u00a02.00\u00a0±\u00a00.00** (7)"
    assert table[methods.METHODS["imf-paper"].says] == "not measured" and "## ablation" in page
    assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")


def test_names_are_checked_and_groups_stand_for_their_methods():
    known = one_step.chosen("scratch,imf", methods.METHODS, methods.GROUPS)
    assert known == methods.GROUPS["scratch"]
    with pytest.raises(SystemExit, match="'imff' is not known; known are flow_matching"):
        one_step.chosen("imff", methods.METHODS, methods.GROUPS)


def work(tmp_path):
    return cells.Cells(0.2, tmp_path, tmp_path / "runs")


def test_a_cell_of_another_process_is_left_to_it(tmp_path, monkeypatch):
    """Its lock is there, so nothing is trained; the cell comes again after the others."""
    monkeypatch.setattr(cells.Cells, "result", lambda self, *named: {"failure": str(named)})
    named, other = (NAME, "imf", 0), (NAME, "imf", 1)
    with work(tmp_path).lock(*named):
        assert not work(tmp_path).done(*named) and not work(tmp_path).target(*named).exists()
        assert work(tmp_path).done(*other)
    waits = []
    lock = work(tmp_path).lock(*named)
    monkeypatch.setattr(cells.Cells, "wait", lambda self: (waits.append(1), lock.release()))
    one_step.run(work(tmp_path), [named, other])
    assert waits == [1] and work(tmp_path).target(*named).exists()


def test_a_cell_waits_for_its_teacher_and_is_no_failure(tmp_path):
    (tmp_path / NAME).mkdir()
    with FolderLock(tmp_path / NAME, "training the teacher", ".flow_matching-0.lock"):
        assert not work(tmp_path).done(NAME, "facm", 0)
    assert not work(tmp_path).target(NAME, "facm", 0).exists()
    assert [name for name in os.listdir(tmp_path / NAME) if "facm" in name] == []


def test_a_failure_is_a_result_and_another_budget_is_refused(tmp_path, monkeypatch):
    def diverge(self, *named):
        raise FloatingPointError("the loss of step 3 is not finite")

    monkeypatch.setattr(cells.Cells, "result", diverge)
    assert work(tmp_path).done(NAME, "imf", 0)
    found = json.loads(work(tmp_path).target(NAME, "imf", 0).read_text())
    assert found["failure"] == "FloatingPointError: the loss of step 3 is not finite" and found["budget"] == 0.2
    with pytest.raises(SystemExit, match="has a budget of 0.2 s and not of 60 s"):
        cells.Cells(60.0, tmp_path, tmp_path).done(NAME, "imf", 0)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A tiny network, a fifth of a second, few samples."""
    out = tmp_path_factory.mktemp("one_step")
    with pytest.MonkeyPatch.context() as patch:
        few_samples(patch)
        patch.setattr(cells, "SIZES", {"width": 8, "depth": 1})
        patch.setattr(cells, "EVALUATION", {"labels": False, "n": 64, "draws": 2})
        patch.setattr(cells, "COUPLINGS", {"n": 32, "steps": 2})
        run(out)
    return out


def run(out, *arguments):
    shared = [*TINY, "--methods", ",".join(SEVERAL), "--seeds", "0", "--out", str(out), "--runs", str(out / "runs")]
    one_step.main([*shared, *arguments])


@pytest.mark.slow
def test_every_cell_leaves_a_result(results):
    for name in SEVERAL:
        found = json.loads((results / NAME / f"{name}-0.json").read_text())
        samplers = {(row["sampler"], row["steps"]) for row in found["evaluation"]["rows"]}
        assert samplers >= ({("euler", 100), ("heun", 18)} if name == "flow_matching" else {("jump", 1)}), name
        spent = found["training"]
        assert spent["seconds"] + spent.get("coupling_seconds", 0) == pytest.approx(0.2, abs=0.1), name
        assert ("coupling_seconds" in spent) == (name == "rectified_meanflow")
    assert (results / f"{NAME}.png").read_bytes().startswith(b"\x89PNG")
    assert "not measured" in (results / f"{NAME}.md").read_text()
    assert fm.load(results / "runs" / f"{NAME}-0.2s" / "flow_matching-0.safetensors").path == fm.path.linear


@pytest.mark.slow
def test_what_has_a_result_is_not_run_again(results, monkeypatch):
    monkeypatch.setattr(cells.Cells, "attempt", lambda self, *named: pytest.fail(f"{named} ran again"))
    before = (results / f"{NAME}.md").read_text()
    run(results, "--reverse")
    run(results, "--tables")
    assert (results / f"{NAME}.md").read_text() == before


@pytest.mark.slow
def test_a_student_begins_with_the_weights_of_its_teacher(results, monkeypatch):
    begun = {}

    def train(flow, *arguments, **settings):
        begun.update({name: value.clone() for name, value in flow.state_dict().items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(cells, "SIZES", {"width": 8, "depth": 1})
    monkeypatch.setattr(fm, "train", train)
    with pytest.raises(KeyboardInterrupt):
        cells.Cells(0.2, results, results / "runs").trained(NAME, "facm", 0)
    teacher = fm.load(results / "runs" / f"{NAME}-0.2s" / "flow_matching-0.safetensors").state_dict()
    assert begun.keys() == teacher.keys() and all((begun[name] == teacher[name]).all() for name in teacher)
