"""The run folder: the files that a training run writes.

config.json  metrics.jsonl  tensorboard/  checkpoints/step_XXXXXXXX/  samples/step_XXXXXXXX.png
"""

from __future__ import annotations

import platform
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Data
from ..data.data_free import with_zero_rows
from ..data.transforms import transforms_of
from ..files import LOCK, is_leftover, read_json, remove_leftovers, replacing, sealed, unsealed, write_json
from ..flow_map import FlowMap
from ..method.method import Method
from ..method.stages import Stages
from ..method.turns import Turns
from ..serialise import current, describe
from .contents import contents
from .documents import check_config
from .earlier import upgraded
from .fingerprint import fingerprint
from .records import metrics_line, metrics_rows

FORMAT = 2
"""Format of config.json. 1 (version 0.1.0): things are named by module and name. 2: by their public name."""
FLOW = ("network", "output", "path", "only_source", "only_target", "guidance", "trained", "units")
"""Parts of a flow map that the entry "flow" of config.json describes."""


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
        write_json(self.config, sealed(config))

    def remove_leftovers(self) -> None:
        """Remove the temporary files of writes that were killed; only the process that trains calls it."""
        remove_leftovers(self.path, self.config.name, self.metrics.name)
        for folder in (self.checkpoints, self.samples):
            remove_leftovers(folder, "step_*")

    def drop_metrics_after(self, step: int) -> None:
        """Remove the metrics of later steps, which a resumed run repeats."""
        with replacing(self.metrics) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(metrics_line(row) for row in metrics_rows(self.path) if row["step"] <= step)


def configuration(
    flow: FlowMap,
    method: Method,
    data: Data,
    training: Mapping[str, Any],
    notes: Mapping[str, Any],
    compare: str = "samples",
) -> dict[str, Any]:
    """Collect the content of config.json.

    Args:
        flow: The flow map that is trained.
        method: The method that trains it.
        data: The data set.
        training: The settings that determine the numbers of the run, as JSON.
        notes: Additional entries.
        compare: How a resumed run compares contents, `TrainConfig.fingerprint`.

    Returns:
        The content as JSON, in which things have their public names.
    """
    whole, own = compare == "whole", [*_tensors(flow), *_tensors(method)]
    read = with_zero_rows(data) if method.data_free else data
    return {
        "format": FORMAT,
        "fingerprint": compare,
        "flow": flow_entry(flow, own),
        "method": described_method(method, own, whole),
        "data": {
            name: fingerprint(getattr(data, name))
            for name in ("name", "kind", "shape", "classes", "class_names", "recipe", "coupling")
        }
        | {"changes": fingerprint(transforms_of(data)) or None}
        | ({} if data.vocabulary is None else {"vocabulary": describe(data.vocabulary)})
        | ({} if data.columns is None else {"columns": describe(data.columns)})
        | ({} if data.coordinates is None else {"coordinates": describe(data.coordinates)})
        | ({} if data.signal is None else {"signal": describe(data.signal)})
        | ({"contents": contents(read, whole)} if compare != "off" else {}),
        "training": dict(training),
        "notes": fingerprint(notes),
        "versions": versions(),
    }


def described_method(method: Method, own: Iterable[Tensor] | None = None, whole: bool = False) -> dict[str, Any]:
    """Describe a method by its name, its terms and its stages, as config.json does.

    Args:
        method: The method.
        own: Tensors that a checkpoint holds. None: the method's.
        whole: Whether the contents of other tensors are compared by every byte.

    Returns:
        The description as JSON.
    """
    described = {
        "name": method.name,
        "terms": fingerprint(method.terms, _tensors(method) if own is None else own, whole),
        "stages": method.ends if isinstance(method, Stages) else None,
    }
    return described | ({"turns": list(method.counts)} if isinstance(method, Turns) else {})


def _tensors(module: nn.Module) -> list[Tensor]:
    """Return the weights and buffers of a module, which a checkpoint holds."""
    return [*module.parameters(), *module.buffers()]


def flow_entry(flow: FlowMap, own: Iterable[Tensor] = ()) -> dict[str, Any]:
    """Describe the parts of a flow map by name; units only if it has them.

    Weights in `own`, and its own ones, are not described.
    """
    weights = [*own, *_tensors(flow)]
    parts = {name: described(getattr(flow, name), weights) for name in FLOW}
    return parts if flow.units is not None else {name: part for name, part in parts.items() if name != "units"}


def described(part: Any, own: Iterable[Tensor] = ()) -> Any:
    """Describe a part of a flow map.

    Args:
        part: The part.
        own: The weights of the flow map, which are not described.

    Returns:
        The description; for a part that cannot be rebuilt its fingerprint, below "unknown".
    """
    try:
        return describe(part)
    except TypeError:
        return {"unknown": fingerprint(part, own)}


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
    try:
        inside = list(out.iterdir())
    except FileNotFoundError:
        return Run(out)
    except NotADirectoryError:
        inside = [out]
    if all(is_leftover(path, "config.json", LOCK) or path.name == LOCK for path in inside):
        return Run(out)
    if (out / "config.json").is_file():
        raise FileExistsError(
            f"there is a run in {out} already: continue it (--resume, resume=True) or choose another folder (--out)"
        )
    raise FileExistsError(f"{out} exists and is not a run of flowmaps: choose another folder (--out)")


def read_config(run: str | Path) -> dict[str, Any]:
    """Read config.json of a run folder.

    A file that has changed since it was written, by hand or by damage, is read with a warning, which says how to accept
    an edit.

    Args:
        run: The run folder, written by this version or an earlier one.

    Returns:
        The configuration, in which things have the public names of this version.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If the run is a file, or config.json is broken, lacks an entry or has the format of a later
            version.
    """
    path = Path(run) / "config.json"
    if Path(run).is_file():
        raise ValueError(
            f"{run} is a file, and a run folder is needed here, with its settings and its data: a flow map that "
            "fm.save wrote serves as the `teacher`, `start` or `reflow` of a training, and in Python (fm.load)"
        )
    if not path.is_file():
        reason = "it has no config.json" if Path(run).is_dir() else "there is no such folder"
        raise FileNotFoundError(f"{run} is not a run folder: {reason}")
    config = read_json(path)
    written = config.get("format") if isinstance(config, dict) else None
    if isinstance(written, int) and written > FORMAT:
        raise ValueError(
            f"{path} has format {written}, but this version of flowmaps reads at most {FORMAT}: it was written by a "
            "later version"
        )
    check_config(config, path)
    if not unsealed(config)[1]:
        warnings.warn(
            f"{path} has changed since training wrote it, and is used as it is: restore it if nobody edited it. To "
            'accept an edit, remove the entry "checksum"',
            stacklevel=2,
        )
    warn_of_later_version(path, config["versions"].get("flowmaps"))
    try:
        return current(upgraded(config) if written == 1 else config)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be used: its guidance of format 1 is broken ({error!r})") from None


def warn_of_later_version(path: Path, theirs: str | None) -> None:
    """Warn if a later version of flowmaps has written a run in a format that this version reads."""
    own = versions()["flowmaps"]
    if _release(theirs) > _release(own) > ():
        warnings.warn(
            f"{path} was written by flowmaps {theirs}, and this is the earlier version {own}: numbers may differ, and "
            "new parts may be unknown",
            stacklevel=3,
        )


def _release(version: str | None) -> tuple[int, ...]:
    """Return the numbers of a version such as "0.1.0"; () for anything else."""
    found = re.match(r"\d{1,9}(\.\d{1,9})*", version or "")
    return tuple(map(int, found[0].split("."))) if found else ()
