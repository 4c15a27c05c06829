"""The cells of `benchmarks.likelihood`: a map is trained on a set with a seed, and its log-densities are measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import flowmaps as fm
from benchmarks.likelihood.sets import SECONDS, SETS, Set
from benchmarks.tables import machine
from flowmaps.files import write_json
from flowmaps.likelihood import Estimator

CALLS = (1, 2, 4, 8, 16)
SAMPLES = 4000
"""Number of samples of a law in the plane whose importance weights are measured."""
TRAINING: dict[str, Any] = {
    "batch_size": 256, "schedule": fm.training.WarmUpStableDecay(), "lr": 1e-3, "clip": 10.0, "labels": False,
    "progress_bar": False, "trackers": (), "sample_every": 0, "clock": "processor",
}  # fmt: skip
UNIFORM = fm.times.uniform_triangle(1e-3, 1.0)

MAPS: dict[str, tuple[str, Callable[[], fm.Method]]] = {
    "flow_matching": ("flow matching", lambda: fm.methods.flow_matching(times=UNIFORM)),
    "joint": ("joint map (f2d2)", lambda: fm.methods.f2d2()),
    "falcon": ("invertible map (falcon)", lambda: fm.methods.falcon()),
}
"""Title and method of each map."""


def reference(chosen: Set) -> Estimator:
    """The ODE with the exact trace, on a grid that is fine enough for a thousandth of a nat."""
    return fm.likelihood.ode(fm.likelihood.exact(), steps=50 if chosen.law is not None else 25)


def estimators(kind: str, calls: int) -> Iterator[tuple[str, Estimator]]:
    """The estimators of a map that make a number of network calls, by name."""
    exact = fm.likelihood.exact()
    if kind == "joint":
        yield "joint", fm.likelihood.joint(calls)
    elif kind == "falcon":
        yield "jumps", fm.likelihood.jumps(calls)
    else:
        yield "euler", fm.likelihood.ode(exact, fm.likelihood.grid(calls, fm.likelihood.euler))
        if calls >= 2:
            yield "heun", fm.likelihood.ode(exact, fm.likelihood.grid(calls // 2, fm.likelihood.heun))
            yield "bound", fm.likelihood.bound(calls)


@dataclass(frozen=True)
class Cells:
    """The cells of the tables.

    Args:
        out: Folder of the results.
        runs: Folder of the weights.
        seconds: Processor time of each training. None: by set.
    """

    out: Path
    runs: Path
    seconds: float | None = None

    def run(self, name: str, kind: str, seed: int) -> None:
        """Train and measure a map, unless that is done."""
        target = self.out / name / f"{kind}-{seed}.json"
        if target.exists():
            return
        print(f"{name}: {kind}, seed {seed}", flush=True)
        chosen = SETS[name]()
        flow, spent = self.trained(name, kind, seed, chosen)
        torch.manual_seed(seed + 100)
        found = measured(flow, kind, chosen)
        write_json(target, {"set": name, "map": kind, "seed": seed, "machine": machine(), "training": spent, **found})

    def trained(self, name: str, kind: str, seed: int, chosen: Set) -> tuple[fm.FlowMap, dict[str, Any]]:
        """Train a map for its time; return its averaged weights and the cost."""
        seconds = SECONDS[name] if self.seconds is None else self.seconds
        torch.manual_seed(seed)
        flow, method = chosen.flow(), MAPS[kind][1]()
        if kind == "joint":
            flow = fm.likelihood.joint_map(flow, chosen.data.draw(2000, 1).x0)
        out = self.runs / f"{name}-{kind}-{seed}-{seconds:g}s"
        last = fm.fit(flow, method, chosen.data, seconds=seconds, seed=seed, out=out, resume=out.exists(), **TRAINING)
        return last.ema.eval(), {"steps": last.step, "seconds": seconds}


def measured(flow: fm.FlowMap, kind: str, chosen: Set) -> dict[str, Any]:
    """Log-densities of held-out rows at every number of calls, beside the references."""
    rows = chosen.rows if chosen.law is not None else chosen.rows[:300]
    began = time.process_time()
    own = fm.likelihood.log_prob(flow, rows, by=reference(chosen))
    found: dict[str, Any] = {
        "ode": {
            "nats": mean_of(own.value),
            "passes": own.passes,
            "seconds_per_row": (time.process_time() - began) / len(rows),
        }
    }
    exact = None if chosen.law is None else chosen.law.log_prob(rows.double()).float()
    if exact is not None:
        found["exact"] = {"nats": mean_of(exact), "ode_error": mean_of((own.value - exact).abs())}
    found["rows"] = [
        row(flow, rows, name, by, calls, own.value, exact) for calls in CALLS for name, by in estimators(kind, calls)
    ]
    if chosen.law is not None:
        found["samples"] = [weights_of(flow, kind, calls, chosen.law) for calls in CALLS]
    return found


def row(
    flow: fm.FlowMap, rows: Tensor, name: str, by: Estimator, calls: int, own: Tensor, exact: Tensor | None
) -> dict[str, Any]:
    """One estimator: its mean, its errors against the ODE of the same map and the exact law, and its cost."""
    began = time.process_time()
    found = fm.likelihood.log_prob(flow, rows, by=by)
    seconds = (time.process_time() - began) / len(rows)
    kept = found.value.isfinite()
    errors = {"ode": (found.value - own).abs()[kept]}
    if exact is not None:
        errors["exact"] = (found.value - exact).abs()[kept]
    return {
        "by": name, "calls": calls, "passes": found.passes, "seconds_per_row": seconds, "folded": int((~kept).sum()),
        "nats": mean_of(found.value[kept]), "errors": {key: mean_of(value) for key, value in errors.items()},
    }  # fmt: skip


def weights_of(flow: fm.FlowMap, kind: str, calls: int, law: fm.exact.GaussianMixture) -> dict[str, Any]:
    """Samples of a map with the log-density of each, and their importance weights under the exact law."""
    z = torch.randn(SAMPLES, *law.shape, generator=torch.Generator().manual_seed(11))
    if kind == "flow_matching":
        steps, step = max(1, calls // 2), fm.steps.heun if calls > 1 else fm.steps.euler
    else:
        steps, step = calls, fm.steps.jump
    x, log_prob = fm.likelihood.sample(flow, z, steps, step=step)
    weighted = fm.likelihood.importance(log_prob, -law.log_prob(x.double()).to(log_prob))
    ratio = (law.log_prob(x.double()).to(log_prob) - log_prob).exp().nan_to_num(0.0)
    return {"calls": calls, "ess": weighted.ess, "log_z": weighted.log_z, "weight": mean_of(ratio),
            "folded": int(log_prob.isnan().sum())}  # fmt: skip


def mean_of(values: Tensor) -> dict[str, float]:
    """The mean of values and its standard error."""
    values = values.double()
    return {"mean": float(values.mean()), "stderr": float(values.std() / len(values) ** 0.5)}
