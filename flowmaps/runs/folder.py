"""The run folder: what a training run leaves behind.

config.json  metrics.jsonl  tensorboard/  checkpoints/step_XXXXXXXX/  samples/step_XXXXXXXX.png
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from ..data import Data
from ..data.transforms import transforms_of
from ..files import write_json, write_text
from ..flow_map import FlowMap
from ..method.method import Method
from ..method.stages import Stages
from ..serialise import current, describe, differences, shown
from .earlier import upgraded
from .fingerprint import fingerprint
from .plan import Plan

COMPARED = ("data", "method", "training", "flow")


@dataclass(frozen=True)
class Run:
    """The paths of a run folder."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    def begin(self, config: dict[str, Any]) -> None:
        """Make the folder with its config.json."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.config, config)

    def forget_after(self, step: int) -> None:
        """Drop the metrics of steps that a resumed run is going to repeat."""
        rows = [row for row in read_metrics(self.path) if row["step"] <= step]
        write_text(self.metrics, "".join(json.dumps(row) + "\n" for row in rows))


def configuration(flow: FlowMap, method: Method, data: Data, plan: Plan, notes: dict[str, Any]) -> dict[str, Any]:
    """The content of config.json."""
    return {
        "format": 2,
        "flow": {
            name: described(getattr(flow, name))
            for name in ("network", "output", "path", "only_source", "only_target", "guidance")
        },
        "method": {
            "name": method.name,
            "terms": fingerprint(method.terms),
            "stages": method.ends if isinstance(method, Stages) else None,
        },
        "data": {
            name: fingerprint(getattr(data, name))
            for name in ("name", "kind", "shape", "classes", "recipe", "coupling")
        }
        | {"changes": fingerprint(transforms_of(data)) or None},
        "training": plan.as_json(),
        "notes": fingerprint(notes),
        "versions": versions(),
    }


def described(part: Any) -> Any:
    """As `describe`; what that refuses is named under "unknown" instead."""
    try:
        return describe(part)
    except TypeError:
        return {"unknown": fingerprint(part)}


def versions() -> dict[str, str]:
    """Of what the numbers of a run depend on."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("flowmaps", "accelerate", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def new(out: Path) -> Run:
    """A run folder to be. Raises FileExistsError where something is there already, other than a config.json that was
    cut off while it was written.
    """
    if out.is_dir() and all(path.match(".config.json.*.tmp") for path in out.iterdir()):
        return Run(out)
    if (out / "config.json").is_file():
        raise FileExistsError(
            f"there is a run in {out} already: go on with it (--resume, resume=True) or choose another folder (--out)"
        )
    if out.exists():
        raise FileExistsError(f"{out} exists and is no run of flowmaps: choose another folder (--out)")
    return Run(out)


def existing(out: Path, config: dict[str, Any]) -> Run:
    """The run in a folder, to be resumed. Raises FileNotFoundError where there is none, ValueError where it has another
    configuration.
    """
    before = read_config(out)
    now = json.loads(json.dumps(config))
    changed = [line for name in COMPARED for line in differences(before.get(name), now[name], name)]
    if changed:
        raise ValueError(
            f"the run in {out} was started with another configuration and cannot be resumed with this one: "
            f"{shown(changed)}. "
            "Use the arguments of then, or start a new run in another folder (--out)"
        )
    return Run(out)


def read_config(run: str | Path) -> dict[str, Any]:
    """config.json of a run folder. Raises FileNotFoundError where there is no run, ValueError where its config is
    broken.
    """
    path = Path(run) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{run} is no run folder: " + ("it has no config.json" if Path(run).is_dir() else "there is no such folder")
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return current(upgraded(config) if config.get("format") == 1 else config)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, oldest first: step, loss, terms, lr, steps_per_second, seconds. A last line that was
    cut off is left out. Raises ValueError where another one cannot be read.
    """
    path = Path(run) / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    try:
        return [json.loads(line) for line in lines[:-1]]
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): restore it, or move it away; checkpoints do not need it"
        ) from None
