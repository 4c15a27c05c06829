"""One stage in a process of its own:  python -m benchmarks.gpu.stage NAME FOLDER small|full COMMIT

It is a child of `benchmarks.gpu`. A stage that fails, hangs, or breaks the GPU's context ends alone. It keeps its
result after every part. It waits for a line with its seconds on the standard input, and may prepare itself before.
"""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import torch

import flowmaps as fm
from benchmarks.cost.networks import DEVICE
from benchmarks.cost.steps import failure
from benchmarks.tables import machine
from flowmaps.files import write_json


@dataclass(frozen=True)
class Check:
    """A number against a bound: at most it, or equal to it if `exact`."""

    number: float
    bound: float
    unit: str = ""
    exact: bool = False

    @property
    def passed(self) -> bool:
        """Whether the number keeps the bound; NaN does not."""
        return self.number == self.bound if self.exact else self.number <= self.bound


class Skipped(Exception):
    """A stage or a check that cannot run here; its text is the reason."""


def needs_gpu() -> None:
    """Skip a check without a GPU."""
    if DEVICE.type != "cuda":
        raise Skipped("it needs a GPU")


def facts(commit: str) -> dict[str, Any]:
    """The hardware and the software of a measurement; the commit is asked of git if it is not given."""
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "machine": machine(),
        "date": str(datetime.date.today()),
        "hardware": [f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in gpus],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "driver": said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").partition("\n")[0],
        "flowmaps": fm.__version__,
        "commit": commit or said("git", "describe", "--always", "--dirty", "--abbrev=12"),
    }


def said(*command: str) -> str:
    """The output of a command, or "unknown"."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or "unknown"
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def waited() -> float:
    """Wait for the seconds of this stage."""
    line = sys.stdin.readline()
    if not line:
        raise SystemExit("the program that started this stage has ended")
    return float(line)


def run(name: str, out: Path, small: bool, commit: str = "", seconds: Callable[[], float] = waited) -> None:
    """Run a stage, and write its result after every part: the numbers, and the reason if it ended early."""
    path = out / f"{name}.json"
    head = {"stage": name, "rehearsal": small, **facts(commit)}
    found: dict[str, Any] = {}

    def keep(parts: dict[str, Any], **state: Any) -> None:
        found.update(parts)
        write_json(path, {**head, **state, "found": found})

    keep({}, failure="it ended without a reason")
    try:
        stage = import_module(f"benchmarks.gpu.{name}")
        given = {"out": out} if "out" in signature(stage.measured).parameters else {}
        stage.measured(small, seconds, lambda parts: keep(parts, failure="it ended before its end"), **given)
    except (Skipped, ImportError) as reason:
        keep({}, skipped=str(reason))
    except Exception as error:
        traceback.print_exc()
        keep({}, failure=failure(error))
    else:
        keep({})


if __name__ == "__main__":
    # imported by its name, so that a stage raises the `Skipped` that is caught
    import_module("benchmarks.gpu.stage").run(sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "small", sys.argv[4])
    sys.stdout.flush()
    os._exit(0)  # threads may still wait for steps that compile, which end with this process group
