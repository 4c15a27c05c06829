"""The run folder: the files that a training run writes.

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
from ..files import LOCK, is_leftover, remove_leftovers, write_json, write_text
from ..flow_map import FlowMap
from ..method.method import Method
from ..method.stages import Stages
from ..serialise import current, describe, differences, shown
from .earlier import upgraded
from .fingerprint import fingerprint

FORMAT = 2
"""Format of config.json. 1 (version 0.1.0): things are named by module and name. 2: by their public name."""

EVALUATION = "evaluation.json"
"""File with the result of the last evaluation."""

COMPARED = ("data", "method", "training", "flow")
"""Parts of config.json that must be equal in a resumed run."""


@dataclass(frozen=True)
class Run:
    """The paths of a run folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The configuration, a JSON file."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """Losses and speed, one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints, with one folder for each."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """The folder of pictures of samples."""
        return self.path / "samples"

    def begin(self, config: dict[str, Any]) -> None:
        """Create the folder with its config.json."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.config, config)

    def remove_leftovers(self) -> None:
        """Remove the temporary files of writes that were killed; only the process that trains calls it."""
        remove_leftovers(self.path, self.config.name, self.metrics.name)
        for folder in (self.checkpoints, self.samples):
            remove_leftovers(folder, "step_*")

    def drop_metrics_after(self, step: int) -> None:
        """Remove the metrics of later steps, which a resumed run repeats."""
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
        training: The settings that determine the numbers of the run, as JSON.
        notes: Additional entries.

    Returns:
        The content as JSON, in which things have their public names.
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
    """Describe a part of a flow map; a part that cannot be rebuilt gets its fingerprint below "unknown"."""
    try:
        return describe(part)
    except TypeError:
        return {"unknown": fingerprint(part)}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect the numbers of a run."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("flowmaps", "accelerate", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def new(out: Path) -> Run:
    """Return a run in a new folder, without creating it.

    Args:
        out: The folder. It must not exist, or hold nothing but a lock and temporary files of an interrupted start.

    Returns:
        The paths of the run.

    Raises:
        FileExistsError: If the folder or another file exists already.
    """
    if out.is_dir() and all(is_leftover(path, "config.json", LOCK) or path.name == LOCK for path in out.iterdir()):
        return Run(out)
    if (out / "config.json").is_file():
        raise FileExistsError(
            f"there is a run in {out} already: continue it (--resume, resume=True) or choose another folder (--out)"
        )
    if out.exists():
        raise FileExistsError(f"{out} exists and is not a run of flowmaps: choose another folder (--out)")
    return Run(out)


def existing(out: Path, config: dict[str, Any]) -> Run:
    """Return the run in a folder, to resume it.

    Args:
        out: The run folder.
        config: The current configuration, as returned by `configuration`.

    Returns:
        The paths of the run.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If the run has another configuration; it lists the differences.
    """
    before = read_config(out)
    now = json.loads(json.dumps(config))
    changed = [line for name in COMPARED for line in differences(before.get(name), now[name], name)]
    if changed:
        raise ValueError(
            f"the run in {out} was started with another configuration and cannot be resumed with this one: "
            f"{shown(changed)}. "
            "Use the original arguments, or start a new run in another folder (--out)"
        )
    return Run(out)


def read_config(run: str | Path) -> dict[str, Any]:
    """Read config.json of a run folder.

    Args:
        run: The run folder, written by this version or an earlier one.

    Returns:
        The configuration, in which things have the public names of this version.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If the file is broken, or was written by a later version.
    """
    path = Path(run) / "config.json"
    if not path.is_file():
        reason = "it has no config.json" if Path(run).is_dir() else "there is no such folder"
        raise FileNotFoundError(f"{run} is not a run folder: {reason}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is not a JSON object")
        config = upgraded(config) if config.get("format") == 1 else config
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if config.get("format", 1) > FORMAT:
        raise ValueError(
            f"{path} has format {config['format']}, but this version of flowmaps reads at most {FORMAT}: it was "
            "written by a later version"
        )
    return current(config)


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl of a run folder.

    Args:
        run: The run folder.

    Returns:
        One row for each logged step, oldest first: step, loss, terms, lr, steps_per_second, seconds. An incomplete last
        line is ignored.

    Raises:
        ValueError: If a complete line cannot be read.
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
    """Return the step of the newest checkpoint of a run."""
    return max(int(path.name.removeprefix("step_")) for path in (run / "checkpoints").glob("step_*"))


def read_evaluation(run: str | Path) -> dict[str, Any] | None:
    """Read evaluation.json of a run; None if it is missing or older than the newest checkpoint."""
    path = Path(run) / EVALUATION
    if not path.is_file():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    return result if result.get("step") == newest_step(Path(run)) else None
