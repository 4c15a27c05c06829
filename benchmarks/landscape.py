"""All methods of the landscape on equal terms:  python -m benchmarks.landscape [--only DATA] [--methods A,B]

For each data set all methods have the same network (points: an MLP of width 128 and depth 3; digits:
`recipes.small_images`), initial weights, batches of 256, optimiser (AdamW at 1e-3 with the default schedule, clipped at
10, EMA 0.999) and budget: `--seconds` of processor time of one core. The number of steps does not depend on other load
of the machine: a few steps of a method, through all its stages, are timed in turns with flow matching, whose step is
timed once for a data set, and steps = seconds / step of flow matching x (time of flow matching / time of the method).
Settings are each method's defaults, except `OPTIONS` and `OUTPUTS`; a paper's changes of the network are not included.

Distillation methods learn from the exact velocity on eight_gaussians. On the other data sets they learn from a flow
matching model that was trained for three budgets and is kept under `--runs`. Maps are measured as in `flowmaps
evaluate`, at 1, 2, 4 and 8 jumps. Maps to t = 0 alone use restarts for several jumps; maps from s = 1 alone have one
jump. The reference is flow matching with 100 Euler steps.

A method writes METHOD.json and METHOD.npz (the samples of the picture) to `--out`/DATA. A method with a result is not
run again, so two processes can share the work: start one of them with --reverse. --tables only rebuilds DATA.md and
DATA.png.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

import flowmaps as fm
from benchmarks import landscape_tables as tables
from benchmarks.tables import machine
from flowmaps.files import write_json
from flowmaps.methods import LANDSCAPE, Row
from flowmaps.methods.consistency_models import growing_points
from flowmaps.recipes import flow_for

SIZES: dict[str, dict[str, int]] = {
    "eight_gaussians": {"width": 128, "depth": 3},
    "checkerboard": {"width": 128, "depth": 3},
    "digits": {},
}
TRAINING: dict[str, Any] = {
    "batch_size": 256,
    "lr": 1e-3,
    "clip": 10.0,
    "labels": False,
    "progress_bar": False,
    "trackers": (),
    "sample_every": 0,
}
EVALUATION: dict[str, Any] = {"labels": False}
PATHS = {"sct": fm.path.trigonometric, "scd": fm.path.trigonometric}
OPTIONS: dict[str, dict[str, Any]] = {
    "pfmm": {"phases": 5},  # a single phase would learn two Euler steps
    "ct": {"points": growing_points(2, 20), "ema": 0.9},  # the paper has 151 points for a hundred times as many steps
}
OUTPUTS = {"pixel_meanflow": fm.Endpoint()}
"""Outputs of methods whose paper is about the prediction; used on points, because the digits have their own output."""
COUPLINGS = {"n": 10_000, "steps": 50}
JUMPS = (1, 2, 4, 8)
RESULT = "result.json"
CALIBRATION, WARM_UP, TEACHER_BUDGETS = 43, 3, 3


class ByVelocity(torch.nn.Module):
    """A teacher with a velocity only, so that its jumps are Euler steps."""

    def __init__(self, teacher: Any) -> None:
        super().__init__()
        self.teacher = teacher

    def velocity(self, x: torch.Tensor, t: fm.path.Time) -> torch.Tensor:
        return self.teacher.velocity(x, t)


def row_of(name: str) -> Row:
    """The row of the landscape with this name."""
    return next(row for row in LANDSCAPE if row.name == name)


def path_of(row: Row) -> fm.path.Path:
    """The path of a method."""
    return PATHS.get(row.name, fm.path.linear)


def method_of(row: Row, teacher: Any = None) -> fm.Method:
    """The method with its options, and with the teacher if it needs one."""
    given = {"teacher": ByVelocity(teacher) if row.name == "pfmm" else teacher} if row.needs_teacher else {}
    return row.build(**given, **OPTIONS.get(row.name, {}))


def limits_of(row: Row) -> dict[str, Any]:
    """Arguments of the flow map of a method, apart from its network."""
    return {"only_source": row.only_source, "only_target": row.only_target, "path": path_of(row)}


@dataclass(frozen=True)
class Comparison:
    """The comparison on one data set."""

    data: fm.data.Data
    features: fm.evaluate.Features | None
    seconds: float
    out: Path
    runs: Path
    seed: int = 0

    def run(self, rows: Sequence[Row]) -> None:
        """Train and measure the methods without a result, then write the table and the picture of all methods."""
        for row in rows:
            target = self.out / f"{row.name}.json"
            if not target.exists():
                print(f"{self.data.name}: {row.name}", flush=True)
                write_json(target, {"budget": self.seconds, "machine": machine(), **self.attempt(row)})
        tables.write(self.data, self.out)

    def attempt(self, row: Row) -> dict[str, Any]:
        """The result of a method, or the reason of its failure."""
        try:
            return self.result(row)
        except Exception as error:
            traceback.print_exc()
            return {"failure": f"{type(error).__name__}: {error}"}

    def result(self, row: Row) -> dict[str, Any]:
        """Train and evaluate one method, and store its samples."""
        teacher = self.teacher(path_of(row)) if row.needs_teacher or row.coupled else None
        began = time.process_time()
        data = fm.data.reflow(teacher, self.data, **COUPLINGS) if row.coupled else self.data
        spent = {"coupling_seconds": time.process_time() - began} if row.coupled else {}

        def begin() -> tuple[fm.FlowMap, fm.Method]:
            flow = self.flow(**limits_of(row))
            if row.name in OUTPUTS and self.data.kind == "points":
                flow.output = OUTPUTS[row.name]
            if row.name == "progressive_distillation" and isinstance(teacher, fm.FlowMap):
                flow.load_state_dict(teacher.state_dict())  # its first phase halves the steps of this map
            return flow, method_of(row, teacher)

        flow, trained = self.trained(begin, data, self.seconds)
        evaluation = self.evaluation(flow, row)
        if any(found["distance"] is None for found in evaluation["rows"]):
            return {**spent, **trained, "failure": "its samples are not finite"}
        self.store(flow, row)
        return {**spent, **trained, "evaluation": evaluation}

    def flow(self, **limits: Any) -> fm.FlowMap:
        """A map with the same initial weights in every call."""
        torch.manual_seed(self.seed)
        return flow_for(self.data, **limits, **SIZES[self.data.name])

    def trained(
        self, begin: Callable[[], tuple[fm.FlowMap, fm.Method]], data: fm.data.Data, seconds: float, **kept: Any
    ) -> tuple[fm.FlowMap, dict[str, Any]]:
        """Train for a budget of processor time; return the averaged map and the cost."""
        before, mine, after = self.plain_step(), seconds_per_step(*begin(), data, **self.shared), self.plain_step()
        relative = mine / ((before + after) / 2)
        steps = max(1, round(seconds / (self.unit() * relative)))
        began = time.process_time()
        *_, last = fm.train(*begin(), data, steps=steps, checkpoint_every=steps, **self.shared, **kept)
        spent = {"cpu_seconds": time.process_time() - began, "relative": relative, "unit": self.unit()}
        return last.ema, {"steps": steps, **spent}

    @property
    def shared(self) -> dict[str, Any]:
        """Arguments of `train` shared by all methods."""
        return {**TRAINING, "seed": self.seed}

    def plain_step(self) -> float:
        """Measure the processor time of a step of flow matching now."""
        return seconds_per_step(self.flow(), fm.methods.flow_matching(), self.data, **self.shared)

    def unit(self) -> float:
        """Processor time of a step of flow matching, measured once and shared by all methods of this data set."""
        target = self.out / "unit.json"
        if not target.exists():
            write_json(target, {"seconds": median(self.plain_step() for _ in range(5)), "machine": machine()})
        return json.loads(target.read_text())["seconds"]

    def teacher(self, path: fm.path.Path) -> Any:
        """The exact distribution if it is known, else flow matching on this path, trained on first use.

        It is trained in a separate folder that is renamed at the end, so other processes never see an unfinished run.
        """
        if self.data.exact is not None:
            exact = copy.copy(self.data.exact)
            exact.path = path
            return exact
        name, seconds = type(path).__name__.lower(), TEACHER_BUDGETS * self.seconds
        folder = self.runs / f"{self.data.name}-{name}-{seconds:g}s"
        if not folder.exists():
            print(f"{self.data.name}: a teacher on the {name} path", flush=True)
            mine = folder.with_name(f"{folder.name}-{os.getpid()}")
            flow, spent = self.trained(
                lambda: (self.flow(path=path), fm.methods.flow_matching()), self.data, seconds, out=mine
            )
            write_json(mine / RESULT, {**spent, "evaluation": self.evaluation(flow, row_of("flow_matching"))})
            try:
                mine.rename(folder)
            except OSError:  # another process was faster
                shutil.rmtree(mine)
        shutil.copy(folder / RESULT, self.out / f"teacher-{name}.json")
        return fm.load(folder)

    def evaluation(self, flow: fm.FlowMap, row: Row) -> dict[str, Any]:
        """Evaluate by jumps; flow matching, which learns the diagonal alone, by Euler steps."""
        jumps, euler = ((), (*JUMPS, tables.MANY)) if row.rule == "diffusion" else (JUMPS, ())
        shared = {"features": self.features, "seed": self.seed, **EVALUATION}
        return fm.evaluate.evaluate(flow, self.data, jumps=jumps, ode_steps=euler, **shared)

    def store(self, flow: fm.FlowMap, row: Row) -> None:
        """Store the samples of the picture, with the number of jumps that the method is designed for."""
        noise = torch.randn(tables.SHOWN[self.data.kind], *self.data.shape, generator=torch.Generator().manual_seed(1))
        if row.rule == "diffusion":
            x = fm.sample(flow, noise, tables.MANY, step=fm.steps.euler)
        else:
            x = fm.sample(flow, noise, row.few_step)
        tables.store(self.out / f"{row.name}.npz", x, self.data.kind)


def seconds_per_step(flow: fm.FlowMap, method: fm.Method, data: fm.data.Data, **shared: Any) -> float:
    """Mean processor time of a training step in a short run through all stages and curricula of a method."""
    began = 0.0
    for state in fm.train(flow, method, data, steps=CALIBRATION, **shared):
        if state.step == WARM_UP:
            began = time.process_time()
    return (time.process_time() - began) / (CALIBRATION - WARM_UP)


def begin(name: str, seconds: float, out: Path, runs: Path) -> Comparison:
    """The comparison on a data set, with the features for its images."""
    data = fm.data.load(name)
    (out / name).mkdir(parents=True, exist_ok=True)
    images = data.kind == "images"
    features = fm.evaluate.classifier_features(fm.evaluate.train_classifier(data)) if images else None
    return Comparison(data, features, seconds, out / name, runs)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the methods without a result, and write the tables and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SIZES), help="data sets, separated by commas (default: all)")
    parser.add_argument("--methods", default=",".join(row.name for row in LANDSCAPE), help="(default: all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="processor time of each method (default: 60)")
    parser.add_argument("--reverse", action="store_true", help="begin with the last data set and the last method")
    parser.add_argument("--tables", action="store_true", help="only rebuild tables and pictures from the results")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/landscape"))
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/landscape"), help="folder of the teachers")
    options = parser.parse_args(arguments)
    direction = -1 if options.reverse else 1
    rows = [row_of(name) for name in options.methods.split(",")][::direction]
    for name in options.only.split(",")[::direction]:
        if options.tables:
            tables.write(fm.data.load(name), options.out / name)
        else:
            begin(name, options.seconds, options.out, options.runs).run(rows)


if __name__ == "__main__":
    main()
