"""Benchmarks run: a few steps of a few methods leave results, a table and a picture, and are not run again."""

import json
from functools import partial

import pytest
import torch

import flowmaps as fm
from benchmarks import cost, landscape, landscape_tables
from tests.small import few_samples

METHODS = ("flow_matching", "pid", "fmm")
NAME = "checkerboard"
pytestmark = [
    pytest.mark.filterwarnings("ignore:attention runs unfused under torch's own forward mode"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A tiny network, a few dozen steps, few samples."""
    out = tmp_path_factory.mktemp("landscape")
    with pytest.MonkeyPatch.context() as patch:
        few_samples(patch)
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
    assert lines["fmm"].count("(") == 3, "fmm is designed for eight jumps"
    assert "The teacher on the linear path is flow matching after" in text
    assert "Reference, 100 Euler steps of flow matching" in text and "--only checkerboard" in text


def test_the_picture_is_a_picture(results):
    assert (results / f"{NAME}.png").read_bytes().startswith(b"\x89PNG")


def test_what_has_a_result_is_not_run_again(results, monkeypatch):
    monkeypatch.setattr(landscape.Comparison, "attempt", lambda self, row: pytest.fail(f"{row.name} ran again"))
    run(results)
    before = (results / f"{NAME}.md").read_text()
    run(results, "--tables")
    assert (results / f"{NAME}.md").read_text() == before


def test_a_method_that_fails_is_a_result(results, tmp_path, monkeypatch):
    def diverge(self, row):
        raise FloatingPointError("the loss of step 3 is not finite")

    monkeypatch.setattr(landscape.Comparison, "result", diverge)
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
    comparison = landscape.Comparison(fm.data.load(NAME), None, 1.0, None, None)
    first, *others = [comparison.flow(**landscape.limits_of(row)) for row in fm.methods.LANDSCAPE]
    for row, flow in zip(fm.methods.LANDSCAPE[1:], others, strict=True):
        assert (flow.only_source, flow.only_target) == (row.only_source, row.only_target)
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), flow.parameters(), strict=True))
    assert comparison.flow(**landscape.limits_of(landscape.row_of("sct"))).path == fm.path.trigonometric


def test_the_teacher_is_kept_whole(results):
    [folder] = (results / "runs").iterdir()
    assert folder.name == "checkerboard-linear-0.15s" and fm.load(folder).path == fm.path.linear


SMALL = {
    "mlp": cost.networks.Case(lambda: fm.networks.MLP(64, width=64, depth=3), (64,), 48),
    "dit": cost.networks.Case(lambda: fm.networks.DiT((1, 4, 4), 2, 16, 1, 2), (1, 4, 4), 16),
}
FEW = "flow_matching,meanflow,lsd"


@pytest.fixture(scope="module")
def costs(tmp_path_factory):
    """A few steps on small networks, in two goes; nothing compiled, no JAX."""
    out = tmp_path_factory.mktemp("cost")
    few = ["--methods", FEW, "--plain", FEW, "--compiled", "none", "--compiled-plain", "none", "--no-jax"]
    with pytest.MonkeyPatch.context() as patch:
        for name, case in SMALL.items():
            patch.setitem(cost.CASES, name, case)
            patch.setitem(cost.sampling.BATCHES, name, (1, 2))
        patch.setattr(cost.growth, "AXES", {"batch": (8, 16), "width": (12, 24), "side": (4, 8)})
        patch.setattr(cost.growth, "BASE", {"batch": 8, "width": 12, "side": 4})
        patch.setattr(cost.growth, "METHODS", FEW.split(","))
        patch.setattr(cost.roofline, "SIZES", (8, 16))
        patch.setattr(cost.sampling, "STEPS", (1, 10))
        for parts, networks in (("roofline,steps", "mlp"), ("steps,sampling,growth", "mlp,dit")):
            asked = ["--parts", parts, "--networks", networks, "--rounds", "1", "--out", str(out)]
            cost.main([*few, *asked])
    return out


def test_what_a_step_costs_is_what_the_landscape_says():
    """On a network that is square layers and little else: what is only seen by x or by a time costs less to
    differentiate."""
    given = cost.networks.Case(lambda: fm.networks.MLP(2, width=96, depth=8, embedding=4), (2,), 48).setting()
    unit = cost.measure.counted(cost.works.forward(given))
    for row in fm.methods.LANDSCAPE:
        found = cost.measure.counted(cost.works.ours(row.name, given)) / unit
        assert found == pytest.approx(row.shared, rel=0.05), row.name


def test_costs_leave_tables_and_pictures(costs):
    assert {path.stem for path in costs.glob("*.json")} == {
        "roofline", "growth", "steps-mlp", "steps-dit", "sampling-mlp", "sampling-dit"
    }  # fmt: skip
    for path in costs.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    assert {path.stem for path in costs.glob("*.png")} == {"sampling", "growth"}
    table = (costs / "steps-mlp.md").read_text()
    assert all(f"| {name} " in table for name in FEW.split(",")) and "python -m benchmarks.cost" in table
    marks = (costs / "marks.md").read_text()
    assert all(name in marks for name in ("lsd over flow matching, eager", "eager over the plain step", "against N"))


def test_memory_is_what_is_alive_at_once():
    """Two matrices of a megabyte, the first of which is gone before the second is made; then both at once."""

    def megabytes(work):
        return cost.measure.peak_bytes(cost.measure.Work(work)) / 2**20

    make = partial(torch.ones, 2**18)
    assert megabytes(lambda: [make() for _ in range(2)]) == 2
    assert megabytes(lambda: [make().sum() for _ in range(2)]) == pytest.approx(1, abs=0.01)


def test_attention_is_counted_fused_or_not():
    """softmax(q k^T) v has two products of 2 B h N^2 d operations, and its backward pass four (fused: five)."""
    q = torch.randn(2, 3, 5, 8, requires_grad=True)
    product = 2 * 2 * 3 * 5 * 5 * 8
    fused = cost.measure.Work(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    written = cost.measure.Work(lambda: (q @ q.transpose(-2, -1)).softmax(-1) @ q)
    assert cost.measure.counted(fused) == cost.measure.counted(written) == 2 * product
    both = cost.measure.Work(lambda: fused.run().sum().backward())
    assert cost.measure.counted(both) == 7 * product


def test_a_mark_names_its_worst_and_what_misses_it():
    above = cost.marks.Mark("cost", "MLP", 1.25, {"a": 1.2, "b": 1.3, "c": 1.4})
    below = cost.marks.Mark("speed", "MLP", 0.95, {"a": 0.97, "b": 0.9}, least=True)
    assert (above.worst, above.missed, below.worst, below.missed) == ("c", ["b", "c"], "b", ["b"])
