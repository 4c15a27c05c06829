"""A diffusers model distilled, exported and sampled with diffusers alone:  python -m benchmarks.pretrained

The teacher is trained with diffusers alone (`teacher.py`). One method of each family distils it, one of them without
data, once with all weights and once with LoRA. `flowmaps export` exports each run. All samples are drawn with diffusers
in a process that cannot import flowmaps (`plain.py`): the students by jumps, the teacher by its own scheduler (DDIM)
with classifier-free guidance, which the students have learned.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

import flowmaps as fm
from benchmarks.pretrained.teacher import FOLDER
from benchmarks.pretrained.teacher import train as train_teacher
from benchmarks.tables import machine, markdown

RUNS = FOLDER.parent
RESULTS = Path(__file__).parents[1] / "results" / "pretrained"
METHODS = {
    "pid": "Lagrangian, without data",
    "ayf_emd": "Eulerian",
    "splitmeanflow": "compositional",
    "cd": "consistency model",
}
UNIFORM = ["--method-args", "times=uniform_triangle(1e-3, 1.0)"]
ARGUMENTS = {"ayf_emd": UNIFORM, "splitmeanflow": UNIFORM}
"""Times up to the noise, where one jump starts."""
SCALE = 1.5
JUMPS, TEACHER_STEPS = (1, 2, 4), (1, 2, 4, 10, 50)
SAMPLES, DRAW = 2880, 360
TARGETS = "conv1 conv2 conv_shortcut conv time_emb_proj to_q to_k to_v to_out.0".split()
MODES: dict[str, list[str]] = {
    "full": ["--lr", "5e-4"],
    "lora": ["--lora", "16", "--lora-targets", *TARGETS, "--lr", "1e-3"],
}


def command(*words: Any) -> None:
    """Run a command with one thread; raise SystemExit with its output if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run([sys.executable, *map(str, words)], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")


def distilled(method: str, mode: str, steps: int) -> Path:
    """Distil unless the run folder exists; returns the run folder."""
    run = RUNS / f"{method}-{mode}"
    if not (run / "config.json").exists():
        data = ["--classes", 10] if method == "pid" else ["--data", "digits"]
        words = ["-m", "flowmaps", "distill", FOLDER, "--method", method, *data, "--guidance", SCALE, *MODES[mode]]
        words += ARGUMENTS.get(method, [])
        words += ["--steps", steps, "--batch-size", 64, "--sample-every", 0, "--no-progress-bar", "--out", run]
        command(*words)
    return run


def sampled(folder: Path, name: str, *options: Any) -> Path:
    """Sample a folder with diffusers alone unless the file exists; returns the file."""
    out = RUNS / "samples" / f"{name}.npz"
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        command(Path(__file__).with_name("plain.py"), folder, given(), out, *options)
    return out


def given() -> Path:
    """The file of noise and labels, the same for all models."""
    path = RUNS / "given.npz"
    if not path.exists():
        noise = torch.randn(SAMPLES, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        np.savez(path, noise=noise.numpy(), label=np.arange(SAMPLES) % 10)
    return path


def one(method: str, mode: str, steps: int) -> dict[str, Any]:
    """Distil, export and sample one model; returns the file of samples and facts about the training."""
    run = distilled(method, mode, steps)
    folder = RUNS / "exports" / run.name
    if not folder.exists():
        command("-m", "flowmaps", "export", run, folder)
    config = fm.training.read_config(run)
    checkpoint = max((run / "checkpoints").iterdir()) / "flow.safetensors"
    rows = fm.training.read_metrics(run)
    return {
        "method": method,
        "mode": mode,
        "steps": config["training"]["steps"],
        "seconds": rows[-1]["seconds"],
        "trained_bytes": trained_bytes(run),
        "checkpoint_bytes": checkpoint.stat().st_size,
        "jumps": jumps_of(run),
        "samples": str(sampled(folder, run.name, "--steps", *jumps_of(run))),
    }


def jumps_of(run: Path) -> tuple[int, ...]:
    """Numbers of jumps: 1, 2 and 4, or 1 if the map starts from noise alone."""
    return JUMPS if fm.training.read_config(run)["flow"]["only_source"] is None else (1,)


def trained_bytes(run: Path) -> int:
    """Bytes of the trained weights."""
    flow = fm.load(run)
    return sum(w.numel() * w.element_size() for w in flow.parameters() if w.requires_grad)


class Judge:
    """Measures samples with the labels of `given`."""

    def __init__(self) -> None:
        data = fm.data.load("digits")
        self.label = torch.arange(SAMPLES) % 10
        self.classifier = fm.evaluate.train_classifier(data)
        self.features = fm.evaluate.classifier_features(self.classifier)
        rows = fm.evaluate.measures.draw(data, DRAW, SAMPLES // DRAW, seed=0)
        self.columns = list(fm.evaluate.guided.columns(data, rows, self.classifier, self.features, SAMPLES, seed=0))

    def floor(self) -> dict[str, float]:
        """Measures of real data."""
        return {key: value for c in self.columns for key, value in pair(c.key, c.data).items()}

    def __call__(self, x: torch.Tensor, reference: torch.Tensor) -> dict[str, float]:
        """Each measure with its standard error.

        `to_teacher` is the distance to the teacher's samples in many steps from other noise, `apart` the root mean
        square difference from the teacher's samples from the same noise.
        """
        found = {key: value for c in self.columns for key, value in pair(c.key, c.estimate(x, self.label)).items()}
        mine, theirs = self.features(x).split(DRAW), self.features(reference).split(DRAW)
        distances = [fm.evaluate.frechet_distance(a, b) for a, b in zip(mine, [*theirs[1:], theirs[0]], strict=True)]
        found |= pair("to_teacher", fm.evaluate.measures.mean_and_stderr(distances))
        return {**found, "apart": float((x - reference).square().mean().sqrt())}


def pair(key: str, estimate: Any) -> dict[str, float]:
    return dict(zip((key, f"{key}_stderr"), map(float, estimate), strict=True))


def measured(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Measure all rows of the table."""
    judge = Judge()
    of_teacher = np.load(sampled(FOLDER, "teacher", "--steps", *TEACHER_STEPS, "--guidance", SCALE))
    reference = torch.from_numpy(of_teacher[f"x_{TEACHER_STEPS[-1]}"])
    rows = []
    for n in TEACHER_STEPS:
        x = torch.from_numpy(of_teacher[f"x_{n}"])
        seconds = float(of_teacher[f"seconds_{n}"])
        rows.append({"model": "teacher", "steps": n, "seconds": seconds, **judge(x, reference)})
    for run in runs:
        found = np.load(run["samples"])
        for n in run["jumps"]:
            row = {"model": run["method"], "mode": run["mode"], "steps": n, "seconds": float(found[f"seconds_{n}"])}
            rows.append({**row, **judge(torch.from_numpy(found[f"x_{n}"]), reference)})
    teacher = json.loads((FOLDER / "training.json").read_text())
    return {
        "machine": machine(), "scale": SCALE, "samples": SAMPLES, "rows": rows, "floor": judge.floor(),
        "runs": [{k: v for k, v in run.items() if k != "samples"} for run in runs], "teacher": teacher,
    }  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """The table of the documentation."""
    sizes = {(run["method"], run["mode"]): run["trained_bytes"] for run in result["runs"]}
    lines = []
    for row in result["rows"]:
        size, kind = sizes.get((row["model"], row.get("mode"))), "step" if row["model"] == "teacher" else "jump"
        lines.append(
            [
                row["model"] + (f", {row['mode']}" if "mode" in row else ""),
                f"{row['steps']} {kind}{'s' if row['steps'] > 1 else ''}",
                *(written(row, key) for key in COLUMNS),
                f"{row['apart']:.2f}",
                f"{1e3 * row['seconds']:.2f}",
                "" if size is None else f"{size / 1e6:.2f}",
            ]
        )
    data = [written(result["floor"], key) if key in result["floor"] else "" for key in COLUMNS]
    lines.append(["data", "", *data, "", "", ""])
    line = f"{result['machine']}; command: python -m benchmarks.pretrained"
    return f"{markdown(HEADER, lines)}\n\n{line}"


def written(row: dict[str, float], key: str) -> str:
    """A measure with its standard error, shares in per cent."""
    factor, unit = (100, " %") if key == "accuracy" else (1, "")
    return f"{factor * row[key]:.2f} ± {factor * row[f'{key}_stderr']:.2f}{unit}"


COLUMNS = ("distance", "to_teacher", "accuracy", "diversity")
HEADER = [
    "model", "sampler", "distance to data", "to the teacher in 50 steps", "recognised", "diversity",
    "same noise", "ms per image", "trained, MB",
]  # fmt: skip


def picture(result: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    """Draw samples from the same noise by all models: a row for each model, two columns for each class."""
    import matplotlib.pyplot as plt

    of_teacher = np.load(RUNS / "samples" / "teacher.npz")
    rows = [("teacher, 50 steps", of_teacher["x_50"]), ("teacher, 4 steps", of_teacher["x_4"])]
    rows += [("teacher, 1 step", of_teacher["x_1"])]
    rows += [(f"{run['method']}, {run['mode']}, 1 jump", np.load(run["samples"])["x_1"]) for run in runs]
    figure, axes = plt.subplots(len(rows), 1, figsize=(9, 0.42 * len(rows) + 0.5))
    for axis, (name, x) in zip(axes, rows, strict=True):
        axis.imshow(np.concatenate(list(x[:20, 0]), axis=1), cmap="gray", vmin=-1, vmax=1, interpolation="bicubic")
        axis.set_yticks([])
        axis.set_xticks([])
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    note = f"the same noise and class in each column, guidance {result['scale']:g}"
    axes[0].set_title(f"Students in one jump beside their teacher: {note}", fontsize=9)
    figure.tight_layout(pad=0.3, h_pad=0.1)
    figure.savefig(RESULTS / "samples.png", dpi=150, bbox_inches="tight")


def main() -> None:
    """Run the missing parts, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=1)
    options = parser.parse_args()
    if not (FOLDER / "model_index.json").exists():
        train_teacher(FOLDER, 9000)
    given()
    with ThreadPoolExecutor(options.at_once) as pool:
        jobs = [pool.submit(one, method, mode, options.steps) for mode in MODES for method in METHODS]
        runs = [job.result() for job in jobs]
    result = measured(runs)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "table.md").write_text(table(result) + "\n")
    picture(result, runs)
    print(table(result))
