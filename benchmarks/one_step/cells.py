"""The cells of `benchmarks.one_step`: a method is trained on a data set with a seed, and measured."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

import flowmaps as fm
from benchmarks.landscape_tables import SHOWN
from benchmarks.landscape_tables import store as store_samples
from benchmarks.one_step.methods import BASE, EULER, METHODS, Entry
from benchmarks.one_step.sets import BUDGETS, KNOWN
from benchmarks.tables import machine
from flowmaps.evaluate.features import is_classified
from flowmaps.files import write_json
from flowmaps.runs.lock import FolderLock
from flowmaps.training import State

TRAINING: dict[str, Any] = {
    "batch_size": 256,
    "schedule": fm.training.WarmUpStableDecay(),
    "lr": 1e-3,
    "clip": 10.0,
    "labels": False,
    "progress_bar": False,
    "trackers": (),
    "sample_every": 0,
}
EVALUATION: dict[str, Any] = {"labels": False}
SIZES: dict[str, int] = {}
"""Sizes of the network other than the default ones."""
HEUN = 18
COUPLINGS: dict[str, Any] = {"n": 10_000, "steps": 25}
PAUSE = 10.0
"""Seconds before cells that other processes work on are looked at again."""
REFERENCE = "flow_matching"
LINES = 8
"""Number of series in a picture."""

Named = tuple[str, str, int]
"""Data set, method and seed."""
Spent = dict[str, float]


@cache
def data_of(name: str) -> fm.data.Data:
    """A data set, loaded once."""
    return KNOWN[name]()


@cache
def features_of(name: str) -> fm.evaluate.Features | None:
    """The features that all cells of a data set are compared by; None for points."""
    data = data_of(name)
    return fm.evaluate.classifier_features(fm.evaluate.train_classifier(data)) if is_classified(data) else None


def evaluated(flow: fm.FlowMap, name: str, seed: int, **samplers: Any) -> dict[str, Any]:
    """Measure a map on a data set."""
    return fm.evaluate.evaluate(flow, data_of(name), features=features_of(name), seed=seed, **samplers, **EVALUATION)


@dataclass(frozen=True)
class Cells:
    """The cells of one table.

    Args:
        budget: Processor time of each training, in seconds. None: the usual one of each data set.
        out: Folder of the results, a folder for each data set.
        runs: Folder of the weights of the reference.
    """

    budget: float | None
    out: Path
    runs: Path

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The methods by name."""
        return METHODS

    def seconds(self, name: str) -> float:
        """Processor time of each training on a data set."""
        return BUDGETS[name] if self.budget is None else self.budget

    def target(self, name: str, method: str, seed: int) -> Path:
        """The file of a cell."""
        return self.out / name / f"{method}-{seed}.json"

    def wait(self) -> None:
        """Wait for other processes."""
        print("waiting for the cells of other processes", flush=True)
        time.sleep(PAUSE)

    def done(self, name: str, method: str, seed: int) -> bool:
        """Run a cell, unless it has a result or another process works on it or on its teacher.

        Args:
            name: The data set.
            method: The method.
            seed: The seed.

        Returns:
            Whether the cell has a result.

        Raises:
            SystemExit: The result has another budget.
        """
        target = self.target(name, method, seed)
        try:
            if not target.exists():
                with self.lock(name, method, seed):
                    if not target.exists():
                        print(f"{name}: {method}, seed {seed}", flush=True)
                        write_json(target, self.attempt(name, method, seed))
        except BlockingIOError:
            return False
        found = json.loads(target.read_text())["budget"]
        if found != self.seconds(name):
            raise SystemExit(
                f"{target} has a budget of {found:g} s and not of {self.seconds(name):g} s: choose another folder "
                f"(--out), or --budget {found:g}s"
            )
        return True

    def lock(self, name: str, method: str, seed: int) -> FolderLock:
        """The lock of a cell. Raises BlockingIOError if another process has it."""
        return FolderLock(self.out / name, f"measuring {method}, seed {seed}", f".{method}-{seed}.lock")

    def attempt(self, name: str, method: str, seed: int) -> dict[str, Any]:
        """The content of a cell: its training and its evaluation, or the reason of a failure."""
        about = {"set": name, "method": method, "seed": seed, "budget": self.seconds(name), "machine": machine()}
        try:
            return about | self.result(name, method, seed)
        except BlockingIOError:
            raise
        except Exception as error:
            traceback.print_exc()
            return about | {"failure": f"{type(error).__name__}: {error}"}

    def result(self, name: str, method: str, seed: int) -> dict[str, Any]:
        """Train and measure a method, and store its samples of the first seed."""
        if method == REFERENCE:
            flow, spent = self.reference(name, seed)
            found = evaluated(flow, name, seed, jumps=(), ode_steps=(EULER,))
            found["rows"] += evaluated(flow, name, seed, jumps=(), ode_steps=(HEUN,), ode_step="heun")["rows"]
        else:
            last, spent = self.trained(name, method, seed)
            flow = last.ema.eval()
            found = evaluated(flow, name, seed, **self.entries[method].samplers)
        if any(row["distance"] is None for row in found["rows"]):
            return {"training": spent, "failure": "its samples are not finite"}
        if seed == 0:
            self.store(flow, name, method)
        found |= self.beside(flow, name, method, seed)
        without = {"last": evaluated(last.flow.eval(), name, seed, jumps=(1,), ode_steps=())} if method == BASE else {}
        return {"training": spent, "evaluation": found, **without}

    def beside(self, flow: fm.FlowMap, name: str, method: str, seed: int) -> dict[str, Any]:
        """More measures of a trained map, by name."""
        return {}

    def trained(self, name: str, method: str, seed: int) -> tuple[State, Spent]:
        """Train a method for the budget; return the state after the last step and the cost."""
        entry, data = self.entries[method], data_of(name)
        teacher = self.teacher(name, seed) if entry.is_taught else None
        torch.manual_seed(seed)
        flow = entry.flow(data, **SIZES)
        if teacher is not None:
            entry.begin(flow, teacher)
        spent: Spent = {}
        if entry.about.coupled:
            began = time.process_time()
            data = fm.data.reflow(teacher, data, seed=seed, **COUPLINGS)
            spent["coupling_seconds"] = time.process_time() - began
        left = self.seconds(name) - spent.get("coupling_seconds", 0.0)
        if left <= 0:
            raise ValueError(f"the couplings took {-left:.0f} s more than the budget of {self.seconds(name):g} s")
        began, length = time.process_time(), {"seconds": left, "clock": "processor"}
        *_, last = fm.train(flow, entry.method(teacher, data), data, seed=seed, **length, **TRAINING | entry.training)
        spent |= {"steps": last.step, "seconds": last.seconds, "process_seconds": time.process_time() - began}
        return last, spent

    def weights(self, name: str, seed: int) -> Path:
        """The file of the weights of the reference; its training is a JSON file beside it."""
        return self.runs / f"{name}-{self.seconds(name):g}s" / f"{REFERENCE}-{seed}.safetensors"

    def reference(self, name: str, seed: int) -> tuple[fm.FlowMap, Spent]:
        """The flow matching model of a seed, trained unless its weights are there. Its cell must be locked."""
        path = self.weights(name, seed)
        about = path.with_suffix(".json")
        if not path.exists() or not about.exists():
            last, spent = self.trained(name, REFERENCE, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(about, spent)
            fm.save(last.ema.eval(), path)
        return fm.load(path), json.loads(about.read_text())

    def teacher(self, name: str, seed: int) -> fm.FlowMap:
        """The reference of a seed. Raises BlockingIOError while another process trains it."""
        if self.weights(name, seed).exists():
            return fm.load(self.weights(name, seed))
        with self.lock(name, REFERENCE, seed):
            return self.reference(name, seed)[0]

    def store(self, flow: fm.FlowMap, name: str, method: str) -> None:
        """Store the samples of the picture: by one jump, or by the Euler steps of the reference."""
        data = data_of(name)
        count = SHOWN.get(data.kind, LINES)
        noise = fm.noise(flow, count, seed=1)
        jumps = method != REFERENCE and 1 in self.entries[method].samplers["jumps"]
        steps, step = (1, "jump") if jumps else (EULER, "euler")
        store_samples(self.out / name / f"{method}.npz", fm.sample(flow, noise, steps, step=step), data.kind)
