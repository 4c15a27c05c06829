"""Growth of a step with the batch, the width and the tokens of a DiT, and with a data set that stays on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import flowmaps as fm
from benchmarks.cost import works
from benchmarks.cost.measure import counted, peak_bytes, seconds
from benchmarks.cost.networks import Case

METHODS = ("flow_matching", "meanflow", "imf", "lsd", "psd")
BASE = {"batch": 8, "width": 192, "side": 16}
AXES = {"batch": (4, 8, 16, 32), "width": (96, 192, 384, 576), "side": (8, 16, 24, 32)}
PATCH, DEPTH = 2, 3
MEGABYTES = (64, 128, 256, 512)  # a file is first checked in pieces of 64


def case(batch: int, width: int, side: int) -> Case:
    """A small DiT."""
    return Case(
        lambda: fm.networks.DiT((3, side, side), PATCH, width=width, depth=DEPTH, heads=3), (3, side, side), batch
    )


def measured(rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure axis -> value -> method -> median seconds, bytes and operations of a step, all methods in turns."""
    found: dict[str, Any] = {}
    for axis, values in AXES.items():
        found[axis] = {str(value): at(case(**(BASE | {axis: value})), rounds) for value in values}
        say(f"growth: {axis}")
    return {"axes": found, "tokens": {str(side): (side // PATCH) ** 2 for side in AXES["side"]}}


def at(point: Case, rounds: int) -> dict[str, dict[str, float]]:
    """Measure one point of an axis."""
    given = point.setting()
    steps = {name: works.ours(name, given) for name in METHODS}
    found = {name: {"flops": counted(work), "bytes": peak_bytes(work)} for name, work in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, work in steps.items():
            times[name].append(seconds(work))
    return {name: {**found[name], "seconds": median(values)} for name, values in times.items()}


def streamed(say: Callable[[str], None]) -> dict[str, Any]:
    """Run `benchmarks.cost.streaming` for each size of a data set in megabytes, on disk and in memory."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in MEGABYTES:
            path = Path(folder) / "rows.npy"
            rows = megabytes * 2**20 // (3 * 32 * 32)
            np.save(path, np.random.default_rng(0).integers(256, size=(rows, 3, 32, 32), dtype=np.uint8))
            found[str(megabytes)] = {where: child(path, where) for where in ("disk", "memory")}
            say(f"growth: data set of {megabytes} MB")
    return {"megabytes": found}


def child(path: Path, where: str) -> dict[str, float]:
    """Train on the file in a child process."""
    command = [sys.executable, "-m", "benchmarks.cost.streaming", str(path), where]
    done = subprocess.run(command, env=os.environ, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
