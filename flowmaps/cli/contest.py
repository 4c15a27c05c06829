"""The work of a comparison: train and evaluate what is not trained and evaluated yet."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import Data, reflow
from ..evaluate import evaluate
from ..experiments.evaluation import RESULT, newest_step, run_features
from ..figures import comparison
from ..files import write_json
from ..methods import Row
from ..runs.checkpoint import latest
from ..runs.folder import read_config, read_metrics
from ..runs.loading import load
from .models import device, make_flow, make_method, row_of
from .options import Compare
from .tables import say
from .train import one_run

TEACHER = "flow_matching"
ODE_STEPS = (1, 2, 4, 8, 16, 100)


@dataclass(frozen=True)
class Contest:
    """What all methods share: options, data, folder and length of training."""

    options: Compare
    data: Data
    out: Path
    length: dict[str, Any]

    def documents(self, rows: list[Row]) -> Iterator[dict[str, Any]]:
        """The content of table.json after each method, in order. The diffusion model comes first where one is needed:
        distillation methods learn from it, and its many small steps are the reference.
        """
        entries: dict[str, Any] = {}
        teacher = self.teacher(rows)
        reference = None if teacher is None else self._reference(teacher)
        for row in rows:
            entries[row.name] = self.entry(row, self.out / row.name, teacher)
            yield comparison.document(self.data, self.length, entries, reference)

    def teacher(self, rows: list[Row]) -> Path | None:
        """The run of --teacher; else the diffusion model among the methods, or one of its own where a method needs it;
        None where there is none.
        """
        if self.options.teacher is not None:
            return self.options.teacher
        if TEACHER in (row.name for row in rows):
            return self.out / TEACHER
        return self.out / "teacher" if any(map(learns_from_another, rows)) else None

    def check_teacher(self) -> None:
        """Raises FileNotFoundError where --teacher is no run, and ValueError where it is one on other data."""
        if self.options.teacher is None:
            return
        shape = tuple(read_config(self.options.teacher)["data"]["shape"])
        if shape != tuple(self.data.shape):
            raise ValueError(
                f"the teacher must be a run on data of shape {tuple(self.data.shape)}, "
                f"and {self.options.teacher} has {shape}"
            )

    def entry(self, row: Row, run: Path, teacher: Path | None) -> dict[str, Any]:
        """What became of one method: its measures and its cost, or why it failed. A failure is kept beside the run as
        METHOD.failure.json and not tried again.
        """
        about, failed = comparison.about(row, run), failure(run)
        if failed is None and learns_from_another(row) and (reason := failure(teacher)):
            return {**about, "failure": f"its teacher failed: {reason}"}
        if failed is None:
            try:
                self._train(row, run, teacher)
                result = self._evaluation(run, run / RESULT, row.rule == "diffusion")
                return {**about, **comparison.measured(read_metrics(run)[-1], result)}
            except (FloatingPointError, RuntimeError) as error:
                failed = str(error)
                write_json(failure_file(run), failed)
        say(f"{row.name} failed: {failed}")
        return {**about, "failure": failed}

    def _train(self, row: Row, run: Path, teacher: Path | None) -> None:
        if finished(run, self.length):
            return
        method = make_method(row, (), teacher if row.needs_teacher else None)
        flow = make_flow(self.options, self.data, row)
        data = self._couplings(teacher) if row.coupled and teacher else self.data
        resume = (run / "config.json").is_file()
        one_run(self.options, data, flow, method, run, resume=resume, **self.length)

    def _couplings(self, teacher: Path) -> Data:
        say(f"Making {self.options.couplings} couplings of noise and data by {teacher} ...")
        return reflow(load(teacher).to(device()), self.data, self.options.couplings, seed=self.options.seed)

    def _evaluation(self, run: Path, kept: Path, diffusion: bool) -> dict[str, Any]:
        """The evaluation of a run, kept as a file until the run has a newer checkpoint. Images are compared by one
        classifier for all methods; a diffusion model, which knows no jumps, takes steps of its ODE.
        """
        step = newest_step(run)
        if kept.is_file() and (result := json.loads(kept.read_text(encoding="utf-8")))["step"] == step:
            return result
        say(f"Measuring {run} (a large network takes minutes) ...")
        how: dict[str, Any] = {"labels": read_config(run)["training"]["labels"]}
        if self.data.kind == "images":
            how["features"] = run_features(self.out, self.data)
        if diffusion:
            how |= {"jumps": (), "ode_steps": ODE_STEPS}
        result = {**evaluate(load(run).to(device()), self.data, **how), "step": step}
        write_json(kept, result)
        return result

    def _reference(self, run: Path) -> dict[str, Any]:
        """The entry of the diffusion model. Of a run from elsewhere the measures are kept in this folder."""
        if run.parent == self.out:
            return self.entry(row_of(TEACHER), run, None)
        evaluation = self._evaluation(run, self.out / "reference.json", True)
        return {"run": str(run), **comparison.measured(read_metrics(run)[-1], evaluation)}


def learns_from_another(row: Row) -> bool:
    """Whether the method needs a trained model: as its teacher, or for the couplings that it trains on."""
    return row.needs_teacher or row.coupled


def finished(run: Path, length: dict[str, Any]) -> bool:
    """Whether the newest checkpoint is the end of training."""
    found = latest(run / "checkpoints")
    return found is not None and (
        found[1]["step"] >= length.get("steps", math.inf) or found[1]["seconds"] >= length.get("seconds", math.inf)
    )


def failure_file(run: Path) -> Path:
    return run.with_name(f"{run.name}.failure.json")


def failure(run: Path | None) -> str | None:
    """Why a run failed, if it did."""
    path = None if run is None else failure_file(run)
    return json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else None
