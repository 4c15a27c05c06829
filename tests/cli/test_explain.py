"""`flowmaps explain`: every method, as text, as JSON and as a picture."""

import json

import pytest
import torch
from PIL import Image

import flowmaps as fm
from flowmaps.cli import drawings, main
from flowmaps.experiments import explain
from flowmaps.figures.anatomy import anatomy
from flowmaps.figures.portrait import portrait
from flowmaps.recipes.rows import row_of
from flowmaps.times import growing_gap, uniform_triangle


@pytest.fixture
def flow():
    return fm.FlowMap(fm.networks.MLP((2,), width=8, depth=1))


@pytest.mark.parametrize("name", [row.name for row in fm.methods.LANDSCAPE])
def test_every_method_explains_itself(name, capsys):
    row = row_of(name)
    assert main(["explain", name]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in (row.equation, row.gradient, row.reference, row.bibtex):
        assert " ".join(part.split()) in text
    assert main(["explain", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    terms = [term for stage in found["stages"] for term in stage["terms"]]
    assert sum(term["share"] for term in terms) == pytest.approx(1)
    assert found["bibtex"].startswith("@") and ("teacher" in " ".join(found["needs"])) >= row.needs_teacher
    for term in terms:
        for drawn in term["times"]:
            assert all(0 <= time <= 1 for time in (*drawn["s"], *drawn["t"]))
            assert row.only_target != 0 or set(drawn["t"]) == {0.0}
            assert row.only_source != 1 or set(drawn["s"]) == {1.0}


def test_a_picture_by_its_ending(tmp_path, capsys):
    assert main(["explain", "imf", "--out", str(tmp_path / "deep" / "imf.png")]) == 0
    assert Image.open(tmp_path / "deep" / "imf.png").width > 600
    assert main(["explain", "imff"]) == 2
    assert "did you mean imf" in capsys.readouterr().err


def test_arguments_of_the_method_change_what_is_said(capsys):
    assert main(["explain", "meanflow", "--json", "--method-args", "diagonal=0.5", "weight=squared"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert [term["share"] for term in stage["terms"]] == [0.5, 0.5]
    curve = stage["terms"][0]["losses"]["diffusion"]
    assert curve["loss"] == pytest.approx([size**2 for size in curve["size"]], rel=1e-4)
    assert curve["slope"] == pytest.approx([2 * size for size in curve["size"]], rel=1e-4)


def test_what_a_method_needs(capsys):
    expected = {"shortcut": "decay 0.999", "freeflow": "no data", "sct": "learned weight", "ct": "average"}
    for name, words in expected.items():
        main(["explain", name, "--json"])
        assert words in " ".join(json.loads(capsys.readouterr().out)["needs"])


def test_times_are_shown_again_where_they_change(flow):
    x0 = torch.randn(16, 2)
    for times, moments in [(uniform_triangle(), [0.0]), (growing_gap(uniform_triangle()), [0.0, 0.5, 1.0])]:
        method = fm.Method(fm.Term(fm.consistency.lagrangian, fm.velocity.own, times=times))
        ((part,),) = (stage.parts for stage in anatomy(method, flow, x0))
        assert list(part.times) == moments
    gaps = [float((s - t).max()) for s, t in part.times.values()]
    assert gaps[0] == 0 and gaps[1] > 0.9


def test_options_that_change_in_the_course_of_training(flow):
    (part,) = explain("sct").stages[0].parts
    assert part.changes == {"ramp": [0.0, 1.0, 1.0]}


def test_the_weight_is_the_one_at_the_beginning_where_a_curriculum_sets_it(flow):
    """AlphaFlow at a = 1: m/(m + c) of the mean square m, c = 0.01."""
    (stage,) = anatomy(fm.methods.alphaflow(c=0.01), flow, torch.randn(16, 2))
    (curve,) = stage.parts[1].curves.values()
    square = curve.sizes**2
    torch.testing.assert_close(curve.loss, square / (square + 0.01), rtol=1e-4, atol=1e-6)


def test_stages_have_terms_of_their_own(flow, tmp_path):
    method = fm.Stages((1, fm.methods.flow_matching()), (3, fm.methods.meanflow()))
    stages = anatomy(method, flow, torch.randn(16, 2))
    assert [(stage.name, stage.share) for stage in stages] == [("flow_matching", 0.25), ("meanflow", 0.75)]
    assert [len(stage.parts) for stage in stages] == [1, 2]
    shares = portrait(stages, tmp_path / "both.png", title="both").axes
    assert any(text.get_text() == "diffusion: 100% of the batch" for axis in shares for text in axis.texts)


def test_looking_at_a_method_leaves_the_random_numbers_alone(flow):
    before = torch.get_rng_state()
    anatomy(fm.methods.imf(), flow, torch.zeros(4, 2))
    assert torch.equal(before, torch.get_rng_state())


def test_the_square_has_data_in_the_lower_left_corner():
    lines = drawings.square(torch.ones(10), torch.zeros(10))
    cells = [line[3:-1] for line in lines[1:-2]]
    assert cells[-1][-1] == "█" and sum(cell != " " for line in cells for cell in line) == 1
    (line,) = (line[3:-1] for line in drawings.square(torch.tensor([0.0]), torch.tensor([1.0]))[1:2])
    assert line[0] == "█"


def test_a_line_is_straight_on_logarithmic_axes():
    size = torch.logspace(-2, 2, 200)
    lines = drawings.chart({"*": (size, size)}, (0.01, 100), (0.01, 100))
    cells = [line.partition("│")[2][:-1] for line in lines[1:-2]]
    assert [line.index("*") // 2 for line in reversed(cells)] == list(range(len(cells)))


def test_blocks_go_below_each_other_where_they_do_not_fit():
    blocks = [["aaaa"], ["bbbb"], ["cccc"]]
    assert drawings.beside(blocks, ["1", "2", "3"], 30) == ["1      2      3", "aaaa   bbbb   cccc"]
    assert drawings.beside(blocks, ["1", "2", "3"], 12) == ["1      2", "aaaa   bbbb", "3", "cccc"]


def test_the_same_from_python(capsys):
    """And an unknown method or argument is named."""
    found = explain(fm.methods.meanflow, method_args={"diagonal": 0.5})
    assert main(["explain", "meanflow", "--json", "--method-args", "diagonal=0.5"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {**json.loads(json.dumps(found.as_dict())), "stages": None} == {**said, "stages": None}
    assert [part.share for part in found.stages[0].parts] == [0.5, 0.5]
    with pytest.raises(ValueError, match="did you mean meanflow"):
        explain("meanfow")
    with pytest.raises(ValueError, match=r"has no argument 'diagnal' \(did you mean diagonal"):
        explain("meanflow", method_args={"diagnal": 0.5})


@pytest.mark.parametrize("record", fm.methods.BESIDE, ids=lambda record: record.name)
def test_a_method_beside_the_landscape_says_its_needs_and_the_way_to_train_it(record, capsys):
    assert main(["explain", record.name.replace("_", "-")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in (record.learns, record.equation, record.reference, *record.use):
        assert " ".join(part.split()) in text
    assert main(["explain", record.name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["needs"] == record.needs
    assert getattr(fm.methods, record.name) is record.build
    assert main(["explain", record.name, "--method-args", "steps=2"]) == 2
    assert f"{record.name} needs {record.needs}" in capsys.readouterr().err
    assert main(["methods"]) == 0
    assert f"{record.name} " in capsys.readouterr().out.partition("Beside the landscape")[2]


@pytest.mark.parametrize("command", [
    ["train", "two_moons", "--method"], ["compare", "two_moons", "--methods"], ["distill", "runs/x", "--method"],
], ids=lambda words: words[0])  # fmt: skip
@pytest.mark.parametrize("record", fm.methods.BESIDE, ids=lambda record: record.name)
def test_data_and_a_teacher_do_not_train_a_method_beside_the_landscape(command, record, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*command, record.name]) == 2
    assert f"error: {record.name} needs {record.needs}: {record.use[0]}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=f"{record.name} needs {record.needs}"):
        fm.fit(fm.FlowMap(fm.networks.MLP(2, width=8, depth=1)), record.name, "two_moons", steps=1)


def test_a_recipe_of_steering_is_no_method_of_training(capsys):
    for name in ("fmtt", "dps", "best_of", "cm-solver"):
        assert main(["explain", name]) == 2
        assert f"trains nothing: fm.steering.{name.replace('-', '_')} " in capsys.readouterr().err
    assert main(["explain", "tiltin"]) == 2
    assert "did you mean tilting" in capsys.readouterr().err
