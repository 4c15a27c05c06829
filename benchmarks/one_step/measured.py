"""The measured cells of a data set, and their values over seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.one_step.cells import EULER, HEUN, REFERENCE
from benchmarks.one_step.methods import GROUPS, METHODS
from benchmarks.one_step.sets import BESIDE, BUDGETS, MARKED
from flowmaps.evaluate import Estimate

RESOLVED = 2.0
"""Standard errors from which two distances differ."""

OUT = Path("benchmarks/results/one_step")
"""Usual folder of the results."""

Cell = Mapping[str, Any]
Sampler = tuple[str, int]
MANY: tuple[Sampler, ...] = (("euler", EULER), ("heun", HEUN))
"""The samplers of the reference."""


@dataclass(frozen=True)
class Measured:
    """The measured cells of a data set.

    Args:
        name: The data set.
        cells: The cells by method and seed, without failures.
        failures: The reasons of the failed ones.
    """

    name: str
    cells: Mapping[tuple[str, int], Cell]
    failures: Mapping[tuple[str, int], str]

    @property
    def kind(self) -> str:
        """The kind of the data, by the measures of a cell."""
        some = next(iter(self.cells.values()))["evaluation"]["measures"]
        return next(kind for kind, keys in MARKED.items() if keys.keys() <= some.keys())

    @property
    def measures(self) -> dict[str, str]:
        """The measures of the table, with their headings."""
        return {**MARKED[self.kind], **BESIDE[self.kind]}

    def seeds(self, method: str) -> list[int]:
        """The seeds of a method."""
        return sorted(seed for name, seed in self.cells if name == method)

    def value(self, method: str, sampler: Sampler, key: str, seeds: Sequence[int] | None = None) -> Estimate | None:
        """The mean of a measure over seeds, with its standard error; None without a cell."""
        seeds = self.seeds(method) if seeds is None else seeds
        rows = [row_of(self.cells[method, seed], sampler) for seed in seeds]
        return together([of_row(row, key) for row in rows])

    def floor(self, key: str) -> Estimate:
        """The measure of data against data, over all cells: it depends on the seed alone."""
        heads = {seed: cell["evaluation"] for (_, seed), cell in self.cells.items()}
        names = ("floor", "floor_stderr") if key == "distance" else (f"{key}_floor", f"{key}_floor_stderr")
        return together([Estimate(*(head[name] for name in names)) for head in heads.values()]) or Estimate(0.0, 0.0)

    def pair(self, method: str, key: str, many: Sampler) -> tuple[Estimate, Estimate] | None:
        """One jump of a method and the reference, over the seeds of both; None without a common seed."""
        seeds = [seed for seed in self.seeds(method) if (REFERENCE, seed) in self.cells]
        one, other = self.value(method, ("jump", 1), key, seeds), self.value(REFERENCE, many, key, seeds)
        return None if one is None or other is None else (one, other)

    def best(self, group: str) -> str | None:
        """The method of a group whose largest ratio to the reference is smallest, over the measures of the marks."""
        worst = {}
        for name in GROUPS[group]:
            pairs = [self.pair(name, key, ("euler", EULER)) for key in MARKED[self.kind]]
            known = [pair for pair in pairs if pair is not None]
            if known:
                worst[name] = max(one.value / many.value if many.value > 0 else math.inf for one, many in known)
        return min(worst, key=worst.__getitem__) if worst else None


def row_of(cell: Cell, sampler: Sampler) -> Mapping[str, Any]:
    """The row of a sampler."""
    return next(row for row in cell["evaluation"]["rows"] if (row["sampler"], row["steps"]) == sampler)


def of_row(row: Mapping[str, Any], key: str) -> Estimate:
    """A measure of a row with its standard error."""
    return Estimate(row[key], row["stderr" if key == "distance" else f"{key}_stderr"])


def together(values: Sequence[Estimate]) -> Estimate | None:
    """The mean of several seeds; its error is their spread, or of one seed the error of the measurement."""
    if len(values) < 2:
        return values[0] if values else None
    return Estimate(mean(one.value for one in values), stdev(one.value for one in values) / math.sqrt(len(values)))


def read(out: Path, name: str) -> Measured | None:
    """The cells of a data set; None without one that was measured."""
    found = [json.loads(path.read_text()) for path in sorted((out / name).glob("*.json"))]
    found = [cell for cell in found if cell["method"] in METHODS]
    by = {(cell["method"], cell["seed"]): cell for cell in found}
    good = {key: cell for key, cell in by.items() if "evaluation" in cell}
    return Measured(name, good, {key: cell["failure"] for key, cell in by.items() if key not in good}) if good else None


def budget(measured: Measured) -> float:
    """Processor time of each training, in seconds."""
    return float(max(cell["budget"] for cell in measured.cells.values()))


def command(measured: Measured, out: Path, methods: str = "") -> str:
    """The command that measures a data set."""
    seeds = sorted({seed for _, seed in measured.cells})
    words = ["python -m benchmarks.one_step", f"--sets {measured.name}", f"--seeds {','.join(map(str, seeds))}"]
    words += [f"--methods {methods}"] if methods else []
    words += [f"--budget {budget(measured):g}s"] if budget(measured) != BUDGETS[measured.name] else []
    words += [f"--out {out}"] if out != OUT else []
    return " ".join(words)
