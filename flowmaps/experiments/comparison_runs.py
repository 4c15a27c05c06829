"""The runs of a comparison: train and evaluate the missing ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import Data
from ..data.labels import uses_labels
from ..evaluate import evaluate
from ..evaluate.size import say_fewer, size_of
from ..figures import comparison
from ..files import read_json, write_json
from ..method.method import Method
from ..methods import Row
from ..recipes.rows import OwnRow, row_of
from ..runs.checkpoint import latest
from ..runs.folder import described_method, read_config
from ..runs.loading import load_with_step
from ..runs.records import EVALUATION, measured_step, metrics_rows, read_measures, write_evaluation
from ..runs.resuming import compare as compared
from .build import make_flow, make_method
from .evaluation import compared_by
from .trained_run import Say, device, silent, train_into
from .training_setup import couple

TEACHER, MANIFOLD_TEACHER = "flow_matching", "riemannian_flow_matching"
"""Names of the diffusion model of a comparison, and of the one on manifolds."""
ODE_STEPS = (1, 2, 4, 8, 16, 100)


@dataclass(frozen=True)
class ComparisonRuns:
    """Everything that the methods of a comparison share.

    Args:
        data: The data set.
        out: The folder of the comparison.
        length: {"steps": n}, or {"seconds": t} with the "clock" unless it is the time that passes.
        networks: Arguments of `make_flow`, the seed included.
        settings: Other keyword arguments of `flowmaps.train`.
        given: Run folder of the teacher. None: one is trained if a method needs it.
        couplings: Number of couplings that the teacher makes.
        say: Receives progress messages.
    """

    data: Data
    out: Path
    length: Mapping[str, Any]
    networks: Mapping[str, Any]
    settings: Mapping[str, Any]
    given: Path | None
    couplings: int
    say: Say = silent

    def check(self, rows: Sequence[Row]) -> None:
        """Check everything before the first training, so that a mistake costs no time.

        Args:
            rows: The rows of the methods.

        Raises:
            ValueError: A network or a method cannot be built, or the teacher is a run on other data.
            FileNotFoundError: The teacher is not a run.
        """
        for row in rows:
            path = make_flow(self.data, row, **self.networks).path
            if not row.needs_teacher:
                for term in make_method(row).terms:
                    term.check_path(path)
        if self.given is None:
            return
        shape = tuple(read_config(self.given)["data"]["shape"])
        if shape != tuple(self.data.shape):
            raise ValueError(
                f"the teacher must be a run on data of shape {tuple(self.data.shape)}, and {self.given} has {shape}"
            )

    def documents(self, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        """The content of table.json after each method, in order.

        The diffusion model comes first if one is needed: distillation methods learn from it, and its many small steps
        are the reference.
        """
        entries: dict[str, Any] = {}
        teacher = self.teacher(rows)
        reference = None if teacher is None else self._reference(teacher)
        for row in rows:
            entries[row.name] = self.entry(row, self.out / row.name, teacher)
            yield comparison.document(self.data, self.length, entries, reference)

    @property
    def diffusion(self) -> str:
        """Name of the method of the diffusion model."""
        return TEACHER if self.data.manifold is None else MANIFOLD_TEACHER

    def teacher(self, rows: Sequence[Row]) -> Path | None:
        """The run of the teacher; None if no method needs one.

        It is the given run, else the diffusion model among the methods, else a run that is trained first.
        """
        if self.given is not None:
            return self.given
        if self.diffusion in (row.name for row in rows):
            return self.out / self.diffusion
        return self.out / "teacher" if any(map(learns_from_another, rows)) else None

    def entry(self, row: Row, run: Path, teacher: Path | None) -> dict[str, Any]:
        """Train and measure one method; a failure is kept beside the run as METHOD.failure.json and not tried again.

        Args:
            row: The row of the method.
            run: Its run folder.
            teacher: The run of the teacher.

        Returns:
            Its entry in table.json: its measures and its cost, or the reason why it failed.
        """
        about, failed = comparison.about(row, run), failure(run)
        if failed is None and learns_from_another(row) and (reason := failure(teacher)):
            return {**about, "failure": f"its teacher failed: {reason}"}
        if failed is None:
            try:
                self._train(row, run, teacher)
                result = self._evaluation(run, run / EVALUATION, row.rule == "diffusion")
                return {**about, **comparison.measured(_last_row(run, result["step"]), result)}
            except (FloatingPointError, RuntimeError) as error:
                failed = str(error)
                write_json(failure_file(run), failed)
        self.say(f"{row.name} failed: {failed}")
        return {**about, "failure": failed}

    def _train(self, row: Row, run: Path, teacher: Path | None) -> None:
        """Train a method, from its newest checkpoint if there is one."""
        if finished(run, self.length) and not isinstance(row, OwnRow):
            return
        method = make_method(row, teacher=teacher if row.needs_teacher else None)
        if finished(run, self.length):
            return refuse_another(run, method)
        flow = make_flow(self.data, row, **self.networks)
        data = self.data
        if row.coupled and teacher:
            data = couple(
                data, str(teacher), self.couplings, self.networks["seed"], self.say, self.settings.get("device")
            )
        resume = (run / "config.json").is_file()
        train_into(run, flow, method, data, self.say, resume=resume, **self.length, **self.settings)

    def _evaluation(self, run: Path, kept: Path, diffusion: bool) -> dict[str, Any]:
        """The evaluation of a run, kept as a file until the run has newer weights.

        All methods share one classifier. A diffusion model is sampled by steps of its ODE.
        """
        if (known := read_measures(kept, measured_step(run))) is not None:
            return known
        self.say(f"Measuring {run} (a large network takes minutes) ...")
        loaded, labels = load_with_step(run), read_config(run)["training"]["labels"]
        flow = loaded.flow.to(device(self.settings.get("device")))
        size = size_of(flow, self.data, uses_labels(flow.network, self.data, labels))
        say_fewer(self.say, size)
        how: dict[str, Any] = {"labels": labels, "say": self.say}
        if size.fewer:  # the same for all methods: a network of one size, whatever the samplers
            how |= {"n": size.n, "draws": size.draws}
        how |= compared_by(self.out, self.data)
        if diffusion:
            how |= {"jumps": (), "ode_steps": ODE_STEPS}
        result = {**evaluate(flow, self.data, **how), **loaded.about}
        return write_evaluation(kept, result)

    def _reference(self, run: Path) -> dict[str, Any]:
        """The entry of the diffusion model; the measures of a run in another folder are kept in this one."""
        if run.parent == self.out:
            return self.entry(row_of(self.diffusion), run, None)
        evaluation = self._evaluation(run, self.out / "reference.json", True)
        return {"run": str(run), **comparison.measured(_last_row(run, evaluation["step"]), evaluation)}


def _last_row(run: Path, step: int) -> dict[str, Any]:
    """The metrics of the weights of a step: the last row that is not of a later one."""
    first = found = None
    for row in metrics_rows(run):
        first = first or row
        found = row if row["step"] <= step else found
    if first is None:
        raise ValueError(f"{run / 'metrics.jsonl'} is missing or empty, and a comparison has its last row: restore it")
    return found or first


def learns_from_another(row: Row) -> bool:
    """Whether the method needs a trained model, as its teacher or to make its couplings."""
    return row.needs_teacher or row.coupled


def refuse_another(run: Path, method: Method) -> None:
    """Raise ValueError if a finished run was trained by another method of the same name."""
    then = read_config(run)["method"]
    changed, *_ = compared({"method": then}, {"method": described_method(method)}, ("method",))
    if changed:
        raise ValueError(
            f"{run} was trained by another method of this name: {'; '.join(changed)}. Give the method another name, "
            "`methods={'name': method}`, or choose another folder (`out`)"
        )


def finished(run: Path, length: Mapping[str, Any]) -> bool:
    """Whether the newest checkpoint of a run is the end of training."""
    found = latest(run / "checkpoints")
    return found is not None and (
        found[1]["step"] >= length.get("steps", math.inf) or found[1]["seconds"] >= length.get("seconds", math.inf)
    )


def failure_file(run: Path) -> Path:
    """The file that keeps the failure of a run."""
    return run.with_name(f"{run.name}.failure.json")


def failure(run: Path | None) -> str | None:
    """The reason why a run failed; None if it did not."""
    path = None if run is None else failure_file(run)
    return str(read_json(path)) if path is not None and path.is_file() else None
