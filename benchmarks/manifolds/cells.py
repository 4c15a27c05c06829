"""The cells of `benchmarks.manifolds`: a method is trained on a split of a set, and its map is measured."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import flowmaps as fm
from benchmarks.manifolds.models import FLOOR, STEPS, models_of
from benchmarks.manifolds.sets import SECONDS, SETS, ZONAL, data_of
from benchmarks.tables import machine
from flowmaps.files import write_json

SAMPLES = 2000
"""Number of samples, and of fresh points of the exact law."""
TRAINING: dict[str, Any] = {
    "batch_size": 256, "lr": 1e-3, "clip": 10.0, "progress_bar": False, "trackers": (), "sample_every": 0,
    "clock": "processor", "labels": False,
}  # fmt: skip


@dataclass(frozen=True)
class Cells:
    """The cells of the tables.

    Args:
        out: Folder of the results.
        seconds: Processor time of each training.
    """

    out: Path
    seconds: float = SECONDS

    def run(self, name: str, model: str, split: int) -> None:
        """Train and measure a method on a split, unless that is done."""
        target = self.out / name / f"{model}-{split}.json"
        if target.exists():
            return
        if not (bottom := self.out / name / f"{FLOOR}-{split}.json").exists():
            write_json(bottom, floor(name, split))
        print(f"{name}: {model}, split {split}", flush=True)
        flow, spent = self.trained(name, model, split)
        about = {"set": name, "model": model, "split": split, "machine": machine(), "training": spent}
        rows = [measured(flow, name, split, way, calls) for way, calls in models_of(name)[model].samplers]
        write_json(target, {**about, "rows": rows})

    def trained(self, name: str, model: str, split: int) -> tuple[fm.FlowMap, dict[str, Any]]:
        """Train a method for its time; return the averaged weights and the cost."""
        entry = SETS[name]
        torch.manual_seed(split)
        flow = fm.FlowMap(entry.network(), path=fm.path.Geodesic(entry.manifold))
        began = time.process_time()
        options = {"seconds": self.seconds, "seed": split, "out": None}
        *_, last = fm.train(flow, models_of(name)[model].method(), data_of(name, split), **options, **TRAINING)
        spent = {"steps": last.step, "seconds": self.seconds, "process_seconds": time.process_time() - began}
        return last.ema.eval(), spent


def test_points(name: str, split: int) -> Tensor:
    """The points that samples are compared with: all that are held out, or fresh ones of an exact law."""
    if name == "zonal":
        return ZONAL.sample(SAMPLES, torch.Generator().manual_seed(split + 1000))
    return data_of(name, split).held_out(10**6).x0.double()


def distances(x: Tensor, name: str, split: int) -> dict[str, Any]:
    """The unbiased squared MMD of points to the test points, and the papers' metric at the size of the test set."""
    test, manifold = test_points(name, split), SETS[name].manifold
    x = manifold.point(x.double())
    mmd = fm.evaluate.geodesic_mmd(x, test, manifold)
    biased = fm.evaluate.biased_geodesic_mmd(x[: len(test)], test[: len(x)], manifold)
    return {"mmd": {"mean": mmd.value, "stderr": mmd.stderr}, "biased": {"mean": biased}, "test": len(test)}


def measured(flow: fm.FlowMap, name: str, split: int, way: str, calls: int) -> dict[str, Any]:
    """The measures of samples by one sampler, all from the same noise, and their cost."""
    noise = fm.noise(flow, SAMPLES, shape=SETS[name].manifold.size, seed=split)
    began = time.process_time()
    x = fm.sample(flow, noise, calls, step=STEPS[way])
    seconds = (time.process_time() - began) / len(x)
    found = {"way": way, "calls": calls, "seconds_per_row": seconds, **distances(x, name, split)}
    if name == "zonal":
        errors = SETS[name].manifold.distance(x.double(), ZONAL(noise.double(), 1.0, 0.0))
        found["error"] = {"mean": float(errors.mean()), "stderr": float(errors.std()) / math.sqrt(len(errors))}
    return found


def floor(name: str, split: int) -> dict[str, Any]:
    """The cell of data themselves, measured as samples are, and of the prior, which a map must beat."""
    manifold, n = SETS[name].manifold, SAMPLES
    generator = torch.Generator().manual_seed(split + 2000)
    prior = manifold.noise(torch.randn(n, manifold.size, generator=generator, dtype=torch.float64))
    data = data_of(name, split)
    data = data.draw(min(n, data.size or n), split + 3).x0
    rows = [{"way": way, "calls": 0, **distances(x, name, split)} for way, x in (("data", data), ("prior", prior))]
    return {"set": name, "model": FLOOR, "split": split, "machine": machine(), "rows": rows}
