"""The benchmark of a GPU: a stage that fails, hangs or has no time leaves the others; missing numbers are said."""

import json
import sys
import types
import warnings
from contextlib import nullcontext

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import attention, check_training, checks, networks, report, stage, steps
from benchmarks.gpu.stage import Check, Skipped
from tests.forward_mode import test_attention

GOOD = """
import json, sys
from pathlib import Path
seconds = float(sys.stdin.readline())
Path(sys.argv[2], sys.argv[1] + ".json").write_text(json.dumps({"stage": sys.argv[1], "found": {"seconds": seconds}}))
"""
FAILING = """
import json, sys
from pathlib import Path
Path(sys.argv[2], sys.argv[1] + ".json").write_text(json.dumps({"stage": sys.argv[1], "found": {"half": 1}}))
raise RuntimeError("CUDA error: an illegal memory access was encountered")
"""
HANGING = """
import threading
threading.Event().wait()
"""


on_this_processor = test_attention.on_this_processor


@pytest.fixture
def stages(monkeypatch):
    """Sets the programs that stand in for the stages."""

    def programs(**texts):
        monkeypatch.setattr(
            gpu, "command_of", lambda name, options: [sys.executable, "-c", texts.get(name, GOOD), name, options.out]
        )

    return programs


def ran(out, *arguments, **options):
    """The results of the stages, by name, and how often the tables were written."""
    written = []
    chosen = gpu.parsed(["--small", "--out", str(out), *arguments])
    gpu.run(chosen, lambda text: None, lambda: written.append(1))
    return {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}, len(written)


def test_a_stage_that_fails_or_hangs_leaves_the_others(stages, monkeypatch, tmp_path):
    stages(checks=FAILING, images=HANGING)
    monkeypatch.setattr(gpu, "STAGES", {**gpu.STAGES, "images": 0.1})
    monkeypatch.setattr(gpu, "GRACE", 0.1)
    found, written = ran(tmp_path, "--minutes", "9")
    assert written == 4 and found.keys() == {"checks", "images", "steps", "processes"}
    assert found["checks"]["found"] == {"half": 1}
    assert found["checks"]["failure"].startswith("RuntimeError: CUDA error: an illegal memory access")
    assert found["images"]["failure"] == "it passed its 0 s"
    assert found["steps"]["found"] == {"seconds": 150} and "failure" not in found["steps"]
    assert found["processes"]["found"] == {"seconds": 40}


def test_a_stage_without_time_is_skipped_with_the_reason(stages, tmp_path):
    stages()
    for name in ("steps.md", "images-jump.png", "checks-of-mine.md"):
        (tmp_path / name).write_text("of an earlier run")
    found, written = ran(tmp_path, "--minutes", "0", "--stages", "checks,images,steps")
    assert written == 3 and found.keys() == {"checks", "images", "steps"}
    assert {path.name for path in tmp_path.iterdir() if path.suffix not in (".json", ".log")} == {"checks-of-mine.md"}
    assert found["steps"]["skipped"] == "0 s of 0 minutes are left, and it needs 0 s"
    assert found["steps"]["found"] == {}


def test_minutes_are_shared_in_proportion(stages, tmp_path):
    stages()
    found, _ = ran(tmp_path, "--minutes", "4.5")
    assert [found[name]["found"]["seconds"] for name in gpu.STAGES] == [45, 125, 75, 20]
    assert sum(gpu.STAGES.values()) < 60 * gpu.MINUTES


def test_results_of_a_rehearsal_stay_out_of_the_documentation(capsys):
    assert gpu.parsed(["--small"]).out == gpu.REHEARSAL
    assert gpu.parsed(["--tables"]).out == gpu.RESULTS


def test_without_a_gpu_there_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "no CUDA device here; --small rehearses" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "key", "text"),
    [
        (RuntimeError("CUDA out of memory\nmore"), "failure", "RuntimeError: CUDA out of memory"),
        (Skipped("two GPUs are needed"), "skipped", "two GPUs are needed"),
        (ModuleNotFoundError("No module named 'matplotlib'"), "skipped", "No module named 'matplotlib'"),
        (None, None, None),
    ],
)
def test_a_stage_keeps_what_it_found(error, key, text, monkeypatch, tmp_path):
    def measured(small, seconds, keep):
        assert small and seconds() == 7
        keep({"first": 1})
        before = json.loads((tmp_path / "made.json").read_text())
        assert before["found"] == {"first": 1} and before["failure"] == "it ended before its end"
        if error is not None:
            raise error

    monkeypatch.setitem(sys.modules, "benchmarks.gpu.made", types.SimpleNamespace(measured=measured))
    stage.run("made", tmp_path, True, "abc", lambda: 7)
    found = json.loads((tmp_path / "made.json").read_text())
    assert found["found"] == {"first": 1}
    assert {name: found[name] for name in ("failure", "skipped") if name in found} == ({key: text} if key else {})
    assert {"hardware", "torch", "driver", "date", "machine"} <= found.keys() and found["rehearsal"]
    assert found["commit"] == "abc"


def result(times, half=None):
    """A result of the stage `steps` on DiT-XL/2, from milliseconds."""
    rows = [
        {"kind": kind, "method": method, "seconds": [time / 1e3] * 2, "units": [1e-3] * 2, "bytes": 2**20}
        | ({} if "compiled" in kind else {"flops": 45e9})
        for (kind, method), time in times.items()
    ]
    network = {"network": "dit-xl", "rows_of_batch": 64, "parameters": 7e8, "forward_flops": 15e9, "rows": rows}
    return {"found": {"rates": {"bfloat16 torch": {"4096": 1e12}}, "networks": {"dit-xl": network}}, **(half or {})}


def states(found):
    return {(mark.name.partition(",")[0], mark.where): report.state(mark) for mark in report.marks_of(found)}


def test_marks_are_met_missed_or_not_measured():
    assert set(states(None).values()) == {"not measured"}
    times = {("eager", "flow_matching"): 120, ("compiled", "flow_matching"): 90, ("compiled", "meanflow"): 112}
    times |= {("compiled", "lsd"): 163, ("plain", "flow_matching"): 110}
    found = states(result(times))
    assert found == {
        ("meanflow over flow matching", "DiT-XL/2"): "met",
        ("lsd over flow matching", "DiT-XL/2"): "missed",
        ("flow matching", "DiT-XL/2"): "met",
        ("eager over the plain step", "DiT-XL/2"): "missed",
        ("compiled over the compiled plain step", "DiT-XL/2"): "not measured",
        ("meanflow over flow matching", "DiT-B/2"): "not measured",
        ("lsd over flow matching", "DiT-B/2"): "not measured",
        ("eager over the plain step", "DiT-B/2"): "not measured",
        ("compiled over the compiled plain step", "DiT-B/2"): "not measured",
    }
    slower = {**times, ("compiled", "flow_matching"): 101}
    assert states(result(slower))["flow matching", "DiT-XL/2"] == "missed"


def test_the_page_has_what_was_found_and_why_the_rest_was_not(tmp_path):
    (tmp_path / "steps.json").write_text(
        json.dumps(result({("eager", "forward"): 20}, {"failure": "it passed its 9 s"}))
    )
    (tmp_path / "images.json").write_text(
        json.dumps({"skipped": "no data", "found": {}, "hardware": ["H, 139 GiB"], "torch": "2.13"})
    )
    page = report.write(tmp_path)
    assert "**Ended early**: it passed its 9 s." in page and "**Skipped**: no data." in page
    assert "DiT-XL/2, 700 million parameters, batch 64" in page and "H, 139 GiB, torch 2.13, command" in page
    assert "## checks" not in page and not (tmp_path / "checks.md").exists()
    assert "20.0" in (tmp_path / "steps.md").read_text()
    assert "not measured" in (tmp_path / "marks.md").read_text()


def test_a_step_that_fails_in_a_later_round_keeps_its_times():
    rows = [{"kind": "eager", "method": name} for name in ("forward", "flow_matching", "lsd")]

    def full(times):
        raise RuntimeError("CUDA out of memory")

    clocks = {("eager", "forward"): lambda n: [1.0] * n, ("eager", "flow_matching"): lambda n: [3.0] * n}
    clocks[("eager", "lsd")] = lambda n: [5.0] * n
    steps.one_round(rows, clocks)
    clocks[("eager", "lsd")] = full
    steps.one_round(rows, clocks)
    steps.one_round(rows, clocks)
    assert [len(row["seconds"]) for row in rows] == [9, 9, 3]
    assert rows[1]["units"] == [1.0] * 9 and rows[2]["failure"] == "RuntimeError: CUDA out of memory"


@pytest.mark.parametrize(("number", "exact", "passed"), [(0.5, False, True), (2, False, False), (0.5, True, False),
                                                         (float("nan"), False, False)])  # fmt: skip
def test_a_check_is_a_number_and_a_bound(number, exact, passed):
    assert Check(number, 1, exact=exact).passed is passed


class Waiting:
    """Notes the modes in which torch warns of waits; training in the mode "warn" waits once."""

    def __init__(self, monkeypatch):
        self.modes = []
        for name in ("synchronize", "Stream"):
            monkeypatch.setattr(torch.cuda, name, lambda *_: None)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", self.set)
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: x)
        monkeypatch.setattr(check_training, "needs_gpu", lambda: None)

    def set(self, mode):
        self.modes.append(mode)
        if mode == "warn":
            warnings.warn("called a synchronizing CUDA operation", stacklevel=2)


def test_checks_that_need_a_gpu_run_as_far_as_a_processor_can(monkeypatch):
    waiting = Waiting(monkeypatch)
    monkeypatch.setattr(check_training, "EXAMINED", 2)
    found = check_training.no_waiting()
    assert waiting.modes == ["warn", "default"]
    assert found.number == 1 and not found.passed and found.unit.startswith("check_training.py:")
    assert check_training.other_stream().passed
    assert 0 < check_training.pinned().number < 100


def test_the_fused_kernel_is_checked_and_timed(monkeypatch, on_this_processor):
    monkeypatch.setattr(checks, "needs_gpu", lambda: None)
    found = checks.flash_kernel()
    assert found.passed and 0 < found.number
    assert isinstance(attention.milliseconds(attention.WAYS["fused kernel"], (4, 32, 32)), float)
    assert attention.milliseconds(attention.WAYS["fused kernel"], (4, 32, 72)) == "does not fit"
    assert len(on_this_processor) >= 2


def test_a_kernel_that_is_not_installed_is_skipped_with_advice(monkeypatch, on_this_processor):
    monkeypatch.setitem(sys.modules, "jvp_flash_attention.jvp_attention", None)
    monkeypatch.setattr(checks, "needs_gpu", lambda: None)
    with pytest.raises(Skipped, match=r"\[flash\]"):
        checks.flash_kernel()


def test_a_smaller_gpu_gets_fewer_rows(monkeypatch):
    monkeypatch.setattr(networks, "DEVICE", torch.device("cuda"))
    sizes = {}
    for memory in (139, 80, 24, 2):
        properties = types.SimpleNamespace(total_memory=memory * 2**30)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, found=properties: found)
        sizes[memory] = networks.rows_of(networks.CASES["dit-xl"], small=False)
    assert sizes == {139: 64, 80: 32, 24: 8, 2: 8}


@pytest.mark.slow
def test_a_rehearsal_runs_every_stage(tmp_path, monkeypatch):
    """All programs on tiny networks; torch compiles nothing, which a test of compiling does."""
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    gpu.main(["--small", "--minutes", "60", "--out", str(tmp_path)])
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert found.keys() == gpu.STAGES.keys()
    assert not any("failure" in one or "skipped" in one for one in found.values())
    checks = found["checks"]["found"]["rows"]
    assert len(checks) > 20 and all(row.get("passed") or "needs a GPU" in row["skipped"] for row in checks)
    assert all("seconds" in row for of in found["steps"]["found"]["networks"].values() for row in of["rows"])
    assert {row["sampler"] for row in found["images"]["found"]["rows"]} == {"jump", "euler"}
    assert [row["difference"] < 1e-3 for row in found["processes"]["found"]["rows"]] == [True, True]
    marks = (tmp_path / "marks.md").read_text()
    # LSD is not compiled in a rehearsal, and DiT-B/2 is not compiled at all
    assert marks.count("not measured") == 4
    assert "A rehearsal on a CPU" in marks
    assert {path.stem for path in tmp_path.glob("*.png")} == {"images-data", "images-jump", "images-euler"}
