"""Benchmarks run: a few steps of a few methods leave results, a table and a picture, and are not run again."""

import json

import pytest
import torch

import flowmaps as fm
from benchmarks import cost, landscape, landscape_tables

METHODS = ("flow_matching", "pid", "fmm")
NAME = "checkerboard"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A tiny network, a few dozen steps, few samples."""
    out = tmp_path_factory.mktemp("landscape")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(landscape.SIZES, NAME, {"width": 8, "depth": 1})
        patch.setattr(landscape, "CALIBRATION", 8)
        patch.setattr(landscape, "EVALUATION", {"labels": False, "n": 64, "draws": 2})
        run(out, "--seconds", "0.05")
    return out


def run(out, *arguments):
    shared = ["--only", NAME, "--out", str(out), "--runs", str(out / "runs")]
    landscape.main([*shared, "--methods", ",".join(METHODS), *arguments])


def test_every_method_leaves_a_result(results):
    for name in METHODS:
        found = json.loads((results / NAME / f"{name}.json").read_text())
        assert found["steps"] >= 1 and found["cpu_seconds"] > 0 and found["relative"] > 0
        samplers = [(row["sampler"], row["steps"]) for row in found["evaluation"]["rows"]]
        jumps = [("jump", n) for n in (1, 2, 4, 8)]
        euler = [("euler", n) for n in (1, 2, 4, 8, 100)]
        assert samplers == {"flow_matching": euler, "pid": jumps[:1]}.get(name, jumps)


def test_the_table_says_what_was_measured(results):
    text = (results / f"{NAME}.md").read_text()
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert set(METHODS) <= lines.keys()
    assert lines["pid"].count(" - ") == 3
    assert lines["fmm"].count("(") == 3, "fmm is made for eight jumps"
    assert "The teacher on the linear path is flow matching after" in text
    assert "Reference, 100 Euler steps of flow matching" in text and "--only checkerboard" in text


def test_the_picture_is_a_picture(results):
    assert (results / f"{NAME}.png").read_bytes().startswith(b"\x89PNG")


def test_what_has_a_result_is_not_run_again(results, monkeypatch):
    monkeypatch.setattr(landscape.Contest, "attempt", lambda self, row: pytest.fail(f"{row.name} ran again"))
    run(results)
    before = (results / f"{NAME}.md").read_text()
    run(results, "--tables")
    assert (results / f"{NAME}.md").read_text() == before


def test_a_method_that_fails_is_a_result(results, tmp_path, monkeypatch):
    def diverge(self, row):
        raise FloatingPointError("the loss of step 3 is not finite")

    monkeypatch.setattr(landscape.Contest, "result", diverge)
    (tmp_path / NAME).mkdir()
    for source in (results / NAME).glob("flow_matching.*"):
        (tmp_path / NAME / source.name).write_bytes(source.read_bytes())
    landscape.main(["--only", NAME, "--methods", "flow_matching,lsd", "--out", str(tmp_path)])
    assert json.loads((tmp_path / NAME / "lsd.json").read_text())["failure"].startswith("FloatingPointError: the loss")
    assert "failed: FloatingPointError" in (tmp_path / f"{NAME}.md").read_text()


def test_stored_samples_come_back(tmp_path):
    """Points to half precision, images to a grey level of 255."""
    points, images = torch.randn(5, 2), torch.rand(5, 1, 4, 4) * 2 - 1
    landscape_tables.store(tmp_path / "points.npz", points, "points")
    landscape_tables.store(tmp_path / "images.npz", images, "images")
    torch.testing.assert_close(landscape_tables.stored(tmp_path / "points.npz"), points, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(landscape_tables.stored(tmp_path / "images.npz"), images, rtol=0, atol=1 / 254)


def test_every_method_begins_with_the_same_weights_on_the_map_that_it_needs():
    contest = landscape.Contest(fm.data.load(NAME), None, 1.0, None, None)
    first, *others = [contest.flow(**landscape.limits_of(row)) for row in fm.methods.LANDSCAPE]
    for row, flow in zip(fm.methods.LANDSCAPE[1:], others, strict=True):
        assert (flow.only_source, flow.only_target) == (row.only_source, row.only_target)
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), flow.parameters(), strict=True))
    assert contest.flow(**landscape.limits_of(landscape.row_of("sct"))).path == fm.path.trigonometric


def test_the_teacher_is_kept_whole(results):
    [folder] = (results / "runs").iterdir()
    assert folder.name == "checkerboard-linear-0.15s" and fm.load(folder).path == fm.path.linear


def test_the_cost_of_every_method_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "network", lambda: fm.networks.MLP(64, width=8, depth=2))
    cost.main(["--batch", "34", "--rounds", "1", "--out", str(tmp_path / "table.md")])
    text = (tmp_path / "table.md").read_text()
    assert all(f"| {row.name} " in text for row in fm.methods.LANDSCAPE)
    assert "counted" in text
