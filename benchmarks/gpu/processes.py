"""Two processes on two GPUs (NCCL) train as one process; in a rehearsal two processes on the CPU (gloo)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.stage import Skipped
from flowmaps.training import read_metrics

STEPS, SMALL = 50, 4
CASES = {"one process": (1, []), "two processes": (2, []), "two processes, sharded": (2, ["--shard"])}
BOUND = 1e-3
"""Largest relative difference of a loss in float32, whose sums are in another order."""


def measured(small: bool, seconds: Callable[[], float], keep: Callable[[dict[str, Any]], None]) -> None:
    """Train with one and with two processes, and compare the losses of all steps.

    Args:
        small: Whether this is a rehearsal.
        seconds: Waits for the turn of this stage, and returns the seconds that it has.
        keep: Stores what was found so far.

    Raises:
        Skipped: There are fewer than two GPUs.
    """
    seconds()
    if not small and torch.cuda.device_count() < 2:
        raise Skipped(f"two GPUs are needed, and this machine has {torch.cuda.device_count()}")
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    found: dict[str, Any] = {"backend": backend, "bound": BOUND, "rows": []}
    losses: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (count, options) in list(CASES.items())[: 2 if small else None]:
            row: dict[str, Any] = {"name": name}
            found["rows"].append(row)
            try:
                rows = trained(Path(folder) / name.replace(" ", "-"), count, options, SMALL if small else STEPS)
            except subprocess.CalledProcessError as error:
                row["failure"] = str(error.stderr).strip().splitlines()[-1][:300]
            else:
                losses[name] = [each["loss"] for each in rows]
                row |= {"steps": rows[-1]["step"], "seconds": rows[-1]["seconds"], "loss": rows[-1]["loss"]}
                if one := losses.get("one process"):
                    both = zip(one, losses[name], strict=True)
                    row["difference"] = max(abs(a - b) / abs(a) for a, b in both)
            keep(found)


def trained(out: Path, count: int, options: list[str], steps: int) -> list[dict[str, Any]]:
    """The metrics of a run by `count` processes."""
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    launch = [sys.executable, *(several if count > 1 else [])]
    train = ["-m", "flowmaps", "train", "eight_gaussians", "--method", "lsd", "--steps", str(steps), "--out", str(out)]
    quiet = ["--no-progress-bar", "--sample-every", "0", "--log-every", "1", "--batch-size", "512"]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    subprocess.run([*launch, *train, *quiet, *options], env=environment, capture_output=True, text=True, check=True)
    return read_metrics(out)
