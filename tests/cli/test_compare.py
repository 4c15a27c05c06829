"""`flowmaps compare`: runs, table and page, and going on where it was stopped."""

import functools
import json
import os
import re
import shutil
import signal

import pytest

import flowmaps as fm
from flowmaps.cli import main
from flowmaps.experiments import comparison_runs
from flowmaps.files import write_json
from flowmaps.runs.folder import read_config
from flowmaps.training import read_metrics
from flowmaps.training.learner import Learner

pytestmark = pytest.mark.slow

TINY = ["--batch-size", "16", "--width", "8", "--depth", "1", "--no-progress-bar"]


@pytest.fixture(scope="module", autouse=True)
def small():
    """The same evaluation with few samples, without the error of the map."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowmaps.evaluate.run.map_error", lambda *_, **__: {})
        patch.setattr("flowmaps.evaluate.by_kind.DENSITY_SAMPLES", 256)
        patch.setattr("flowmaps.evaluate.by_kind.LEAST_DENSITY", 256)
        patch.setattr(comparison_runs, "evaluate", functools.partial(fm.evaluate.evaluate, n=64, draws=2))
        yield


@pytest.fixture(scope="module")
def both(small, tmp_path_factory):
    """A comparison."""
    out = tmp_path_factory.mktemp("comparisons") / "both"
    assert compare(out, "meanflow,ct,flow_matching") == 0
    return out


def compare(out, methods, *more, steps="20", data="eight_gaussians"):
    length = ["--steps", steps] if steps else []
    return main(["compare", data, "--methods", methods, "--out", str(out), *length, *TINY, *more])


def measured(capsys):
    """The runs that were measured, in order."""
    return re.findall(r"Measuring \S*?(\w+) \(", capsys.readouterr().err)


def refused(capsys, *arguments, **options):
    assert compare(*arguments, **options) == 2
    return capsys.readouterr().err.partition("error: ")[2]


def test_a_comparison_leaves_runs_table_and_page(both):
    assert {p.name for p in both.iterdir()} == {
        "comparison.json", "meanflow", "ct", "flow_matching", "table.json", "table.md", "report.html",
    }  # fmt: skip
    table = json.loads((both / "table.json").read_text())
    assert table["data"] == "eight_gaussians" and table["length"] == {"steps": 20}
    assert list(table["methods"]) == ["meanflow", "ct", "flow_matching"]
    meanflow, _, plain = table["methods"].values()
    assert meanflow["shared"] == 3.25 and meanflow["training"]["step"] == 20
    rows = {(row["sampler"], row["steps"]) for row in meanflow["evaluation"]["rows"]}
    assert rows == {("jump", 1), ("jump", 2), ("jump", 4), ("jump", 8), ("euler", 16), ("euler", 100)}
    assert {row["sampler"] for row in plain["evaluation"]["rows"]} == {"euler"}
    assert table["reference"]["run"] == "flow_matching"


def test_the_table_in_markdown(both):
    heading, _, head, _, *lines = (both / "table.md").read_text().splitlines()
    assert "20 steps" in heading and "real data against itself" in heading
    names = [cell.strip() for cell in head.strip("|").split("|")]
    assert names[:6] == ["method", "1 jump", "2 jumps", "4 jumps", "8 jumps", "100 ODE steps"]
    assert [line.split()[1] for line in lines[:4]] == ["meanflow", "ct", "flow_matching", "reference:"]
    assert len({len(line) for line in (head, *lines[:4])}) == 1
    assert lines[1].split("|")[6].strip() == ""  # a map to t = 0 alone has no ODE


def test_the_page_stands_alone(both):
    page = (both / "report.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page) and page.count("<script") == 1
    for part in ("In one jump", "In four jumps", "Distance to real data", "All numbers", "Training", "Cost", "3.25"):
        assert part in page
    for name in ("meanflow", "ct", "flow_matching", "real data"):
        assert page.count(f"A cloud of points: {name}") == 2
    assert "Mean square of the residual over 20 training steps" in page


def test_what_is_there_is_kept(both, tmp_path, capsys):
    out = shutil.copytree(both, tmp_path / "both")
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.parent != out}
    assert compare(out, "meanflow,ct,flow_matching") == 0
    assert measured(capsys) == []
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.parent != out}
    assert (out / "table.json").read_text() == (both / "table.json").read_text()


def test_other_methods_may_join(both, tmp_path, capsys):
    out = shutil.copytree(both, tmp_path / "both")
    assert compare(out, "imf,meanflow", "--json") == 0
    printed = capsys.readouterr()
    assert re.findall(r"Measuring \S*?(\w+) \(", printed.err) == ["imf"]
    assert list(json.loads(printed.out)["methods"]) == ["imf", "meanflow"]


def test_interrupted_it_goes_on(tmp_path, capsys, monkeypatch):
    """Stopped in the first half of a method; the numbers are those of a run that never stopped."""
    whole, out, take, stopped = tmp_path / "whole", tmp_path / "out", Learner.take, []

    def stopping(self, batch, progress):
        if self.method.name == "psd" and self.step == 120 and not stopped:
            stopped.append(self.step)
            os.kill(os.getpid(), signal.SIGINT)
        return take(self, batch, progress)

    monkeypatch.setattr(Learner, "take", stopping)
    assert compare(out, "flow_matching,psd", steps="300") == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert list(json.loads((out / "table.json").read_text())["methods"]) == ["flow_matching"]
    assert 50 <= read_metrics(out / "psd")[-1]["step"] < 300
    assert compare(out, "flow_matching,psd", steps="300") == 0
    assert measured(capsys) == ["psd"]
    assert compare(whole, "psd", steps="300") == 0
    steps = [row["step"] for row in read_metrics(out / "psd")]
    assert steps == sorted(set(steps)) and steps[-1] == 300
    one, other = (json.loads((folder / "table.json").read_text())["methods"]["psd"] for folder in (out, whole))
    assert one["training"]["loss"] == other["training"]["loss"]
    assert one["evaluation"]["rows"][0]["distance"] == other["evaluation"]["rows"][0]["distance"]


def test_another_configuration_is_refused(both, tmp_path, capsys):
    assert "comparison.length.steps was 20 and is 3" in refused(capsys, both, "meanflow", steps="3")
    assert "comparison.lr was 0.001 and is 0.1" in refused(capsys, both, "meanflow", "--lr", "0.1")
    assert "data.name" in refused(capsys, both, "meanflow", data="checkerboard")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    assert "is no comparison" in refused(capsys, tmp_path / "other", "meanflow", steps="2")


def test_mistakes_cost_no_time(tmp_path, capsys):
    out = tmp_path / "none"
    assert "did you mean lsd" in refused(capsys, out, "imf,lsdd")
    assert "at least one name" in refused(capsys, out, " , ")
    assert "30s, 2m or 1h30m" in refused(capsys, out, "imf", "--budget", "2 minutes", steps=None)
    assert "not both" in refused(capsys, out, "imf", "--budget", "2m")
    assert "no such folder" in refused(capsys, out, "lmd", "--teacher", str(tmp_path / "nowhere"))
    assert "width must be at least 1" in refused(capsys, out, "imf", "--width", "0")
    assert not out.exists()


def test_a_teacher_is_trained_first_and_is_the_reference(tmp_path, capsys):
    out = tmp_path / "distilled"
    assert compare(out, "lmd,pid,cd,rectified_meanflow", "--couplings", "32", steps="3") == 0
    assert measured(capsys) == ["teacher", "lmd", "pid", "cd", "rectified_meanflow"]
    table = json.loads((out / "table.json").read_text())
    assert table["reference"]["run"] == "teacher" and (out / "teacher" / "config.json").is_file()
    assert json.loads((out / "teacher" / "config.json").read_text())["method"]["name"] == "flow_matching"
    samplers = {
        name: {(row["sampler"], row["steps"]) for row in entry["evaluation"]["rows"]}
        for name, entry in table["methods"].items()
    }
    assert samplers["pid"] == {("jump", 1)}
    assert samplers["cd"] == {("jump", 1), ("restart", 2), ("restart", 4), ("restart", 8)}
    assert json.loads((out / "rectified_meanflow" / "config.json").read_text())["data"]["coupling"]["n"] == 32
    text = (out / "table.md").read_text()
    assert "add noise again after each: cd." in text and "which jump once: pid." in text
    assert "reference: teacher" in (out / "report.html").read_text()


def test_a_given_teacher_is_the_reference(tmp_path, capsys):
    teacher, out = tmp_path / "mine", tmp_path / "out"
    command = ["train", "eight_gaussians", "--method", "flow_matching", "--steps", "2", "--out", str(teacher)]
    assert main([*command, *TINY, "--trackers", "--sample-every", "0"]) == 0
    before = {p.name for p in teacher.iterdir()}
    assert compare(out, "lmd", "--teacher", str(teacher), steps="2") == 0
    assert measured(capsys) == ["mine", "lmd"]
    assert before == {p.name for p in teacher.iterdir()}
    assert json.loads((out / "table.json").read_text())["reference"]["run"] == str(teacher)
    kept = (out / "reference.json").stat().st_mtime_ns
    assert compare(out, "lmd", "--teacher", str(teacher), steps="2") == 0
    assert (out / "reference.json").stat().st_mtime_ns == kept


def test_a_method_that_fails_stands_in_the_table_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    out, trained = tmp_path / "out", []
    train = comparison_runs.train_into

    def diverging(run, flow, method, data, say, **more):
        trained.append(method.name)
        if method.name == "psd":
            raise FloatingPointError("the loss is nan at step 7")
        return train(run, flow, method, data, say, **more)

    monkeypatch.setattr(comparison_runs, "train_into", diverging)
    for _ in range(2):
        assert compare(out, "psd,meanflow", steps="2") == 0
        assert "psd failed: the loss is nan at step 7" in capsys.readouterr().out
    assert trained == ["psd", "meanflow"]
    table = json.loads((out / "table.json").read_text())
    assert table["methods"]["psd"]["failure"] == "the loss is nan at step 7"
    assert "evaluation" in table["methods"]["meanflow"]
    assert re.search(r"\| psd +\| +failed", (out / "table.md").read_text())
    assert "psd failed: the loss is nan at step 7" in (out / "report.html").read_text()


def test_where_the_teacher_fails_so_do_its_students(tmp_path, monkeypatch):
    def diverging(*_, **__):
        raise FloatingPointError("nan")

    monkeypatch.setattr(comparison_runs, "train_into", diverging)
    assert compare(tmp_path / "out", "lmd", steps="2") == 0
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert table["methods"]["lmd"]["failure"] == "its teacher failed: nan"


def test_images_are_compared_by_one_classifier(tmp_path):
    out = tmp_path / "digits"
    assert compare(out, "meanflow", steps="2", data="digits") == 0
    assert (out / "classifier.safetensors").is_file()
    assert not (out / "meanflow" / "classifier.safetensors").exists()
    page = (out / "report.html").read_text()
    assert page.count("A grid of images: meanflow") == 2 and "the same place in each grid" in page


def test_a_time_budget_is_one_for_each(tmp_path):
    out = tmp_path / "timed"
    assert compare(out, "meanflow", "--budget", "0.05s", steps=None) == 0
    table = json.loads((out / "table.json").read_text())
    assert table["length"] == {"seconds": 0.05, "clock": "processor"}
    assert table["methods"]["meanflow"]["training"]["seconds"] >= 0.05
    assert read_config(out / "meanflow")["training"]["clock"] == "processor"
    assert "each method trained for 0.05 seconds of processor time: " in (out / "table.md").read_text()


def test_a_comparison_of_an_earlier_version_keeps_its_clock(tmp_path):
    """Its budget was the time that passes, and methods of one table have one clock."""
    out = tmp_path / "timed"
    assert compare(out, "meanflow", "--budget", "0.05s", steps=None) == 0
    settings = json.loads((out / "comparison.json").read_text())
    del settings["length"]["clock"]
    write_json(out / "comparison.json", settings)
    assert compare(out, "meanflow,lsd", "--budget", "0.05s", steps=None) == 0
    assert json.loads((out / "table.json").read_text())["length"] == {"seconds": 0.05}
    assert read_config(out / "lsd")["training"]["clock"] is None
    assert "for 0.05 seconds: " in (out / "table.md").read_text()
