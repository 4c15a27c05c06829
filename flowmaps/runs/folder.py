"""The run folder that a training run leaves behind.

config.json  metrics.jsonl  tensorboard/  checkpoints/step_XXXXXXXX/  samples/step_XXXXXXXX.png
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
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

FORMAT = 2
"""Of config.json. 1 (version 0.1.0) named things by their module and name, 2 names them by their public name."""

EVALUATION = "evaluation.json"
"""File of a run folder with the result of its last evaluation."""

COMPARED = ("data", "method", "training", "flow")
"""Parts of config.json that a resumed run shares with the first one."""


@dataclass(frozen=True)
class Run:
    """The paths of a run folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The configuration, JSON."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """Losses and speed, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder with a folder for each checkpoint."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """The folder of the pictures of samples."""
        return self.path / "samples"

    def begin(self, config: dict[str, Any]) -> None:
        """Make the folder with its config.json."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.config, config)

    def drop_metrics_after(self, step: int) -> None:
        """Drop the metrics of steps that a resumed run is going to repeat."""
        rows = [row for row in read_metrics(self.path) if row["step"] <= step]
        write_text(self.metrics, "".join(json.dumps(row) + "\n" for row in rows))


def configuration(
    flow: FlowMap, method: Method, data: Data, training: Mapping[str, Any], notes: Mapping[str, Any]
) -> dict[str, Any]:
    """Collect the content of config.json.

    Args:
        flow: The flow map that is trained.
        method: The method that trains it.
        data: The data set.
        training: The settings that decide the numbers of the run, as JSON.
        notes: Anything else to keep.

    Returns:
        JSON, with everything named by its public name.
    """
    return {
        "format": FORMAT,
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
        "training": dict(training),
        "notes": fingerprint(notes),
        "versions": versions(),
    }


def described(part: Any) -> Any:
    """The description of a part of a flow map, or its fingerprint under "unknown" if it cannot be rebuilt."""
    try:
        return describe(part)
    except TypeError:
        return {"unknown": fingerprint(part)}


def versions() -> dict[str, str]:
    """The versions of the packages that the numbers of a run depend on."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("flowmaps", "accelerate", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def new(out: Path) -> Run:
    """A run in a new folder, which is not made yet.

    Args:
        out: A path where nothing is, except possibly a config.json that was cut off while it was written.

    Returns:
        The paths of the run.

    Raises:
        FileExistsError: If something is there already.
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
    """The run in a folder, to be resumed.

    Args:
        out: The run folder.
        config: The configuration of today, as `configuration` collects it.

    Returns:
        The paths of the run.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If the run has another configuration; it names the differences.
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
    """Read config.json of a run folder.

    Args:
        run: The run folder, written by this version or an earlier one.

    Returns:
        The configuration, with everything named as this version names it.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If the file is broken, or was written by a later version.
    """
    path = Path(run) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{run} is no run folder: " + ("it has no config.json" if Path(run).is_dir() else "there is no such folder")
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is no JSON object")
        config = upgraded(config) if config.get("format") == 1 else config
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if config.get("format", 1) > FORMAT:
        raise ValueError(
            f"{path} has format {config['format']}, and this version of flowmaps reads at most {FORMAT}: it was "
            "written by a later version"
        )
    return current(config)


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl of a run folder.

    Args:
        run: The run folder.

    Returns:
        One row for each logged step, oldest first: step, loss, terms, lr, steps_per_second, seconds. A last line that
        was cut off is left out.

    Raises:
        ValueError: If another line cannot be read.
    """
    path = Path(run) / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    try:
        return [json.loads(line) for line in lines[:-1]]
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): restore it, or move it away; checkpoints do not need it"
        ) from None


def newest_step(run: Path) -> int:
    """The step of the newest checkpoint."""
    return max(int(path.name.removeprefix("step_")) for path in (run / "checkpoints").glob("step_*"))


def read_evaluation(run: str | Path) -> dict[str, Any] | None:
    """The content of evaluation.json, or None if it is missing or older than the newest checkpoint."""
    path = Path(run) / EVALUATION
    if not path.is_file():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    return result if result.get("step") == newest_step(Path(run)) else None
