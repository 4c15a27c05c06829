"""Checkpoints: a folder per step, written whole or not at all, with checksums, readable without pickle.

step_00001000/   state.json  optimizer.json
                 flow.safetensors  ema.safetensors  method.safetensors  optimizer.safetensors
                 or, where tensors are spread over processes, shards/shard-XXXXX-model-00001-of-00001.safetensors
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor

from ..distributed.shards import FOLDER, copies, is_sharded, read_part, together, write_shards
from ..files import checksum, flush, join, remove, save_tensors, split, write_json

MODELS = ("flow", "ema", "method")


@dataclass(frozen=True)
class Snapshot:
    """What training was at one step, in memory of its own, so that training may go on while it is written.

    parts: the tensors of each model, and those of the optimizers under "optimizer". optimizers: the optimizers' state
    dicts without them. state: small numbers, for state.json.
    """

    step: int
    parts: Mapping[str, Mapping[str, Tensor]]
    optimizers: Any
    state: Mapping[str, Any]

    @property
    def bytes(self) -> int:
        """The size of all tensors."""
        return sum(tensor.numel() * tensor.element_size() for part in self.parts.values() for tensor in part.values())


def snapshot(
    step: int, models: Mapping[str, Mapping[str, Tensor]], optimizers: list[dict[str, Any]], state: Mapping[str, Any]
) -> Snapshot:
    """Copy the state dicts of models and optimizers into the memory of the CPU."""
    found: dict[str, Tensor] = {}
    skeleton = split(optimizers, found)
    parts = {name: copies(part.items()) for name, part in {**models, "optimizer": found}.items()}
    return Snapshot(step, parts, json.loads(json.dumps(skeleton)), state)


def write(folder: Path, taken: Snapshot, keep: int, group: Any = None) -> Path:
    """Write `folder/step_XXXXXXXX` and remove all but the last `keep` checkpoints up to it.

    group: of the processes that hold the tensors, where these are sharded; all of them call this. Raises OSError where
    it cannot be written, leaving the checkpoints of before.
    """
    target = folder / f"step_{taken.step:08d}"
    temporary = folder / f".{target.name}.tmp"
    main = group is None or dist.get_rank(group) == 0
    try:
        together(lambda: _prepare(temporary) if main else None, group)
        sums = together(lambda: _write_parts(temporary, taken, group), group)
        together(lambda: _finish(temporary, target, taken, sums, keep) if main else None, group)
    except (OSError, SafetensorError) as error:
        if main:
            shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(_failed(folder, taken, error)) from error
    return target


def _prepare(temporary: Path) -> None:
    """An empty folder to write into; what was left behind by one that was cut off goes."""
    for old in temporary.parent.glob(".step_*.tmp"):
        shutil.rmtree(old)
    temporary.mkdir(parents=True)


def _write_parts(temporary: Path, taken: Snapshot, group: Any) -> dict[str, str]:
    """The tensors that are here. Returns the checksums of the files."""
    if group is not None:
        return write_shards(temporary, taken.parts, group)
    files = {f"{name}.safetensors": dict(tensors) for name, tensors in taken.parts.items()}
    for name, tensors in files.items():
        save_tensors(temporary / name, tensors)
    return {name: checksum(temporary / name) for name in files}


def _finish(temporary: Path, target: Path, taken: Snapshot, sums: list[dict[str, str]], keep: int) -> None:
    """Write the rest, wait until everything is on disk, give the folder its name, remove old checkpoints."""
    write_json(temporary / "optimizer.json", taken.optimizers)
    files = {name: value for part in sums for name, value in sorted(part.items())}
    files["optimizer.json"] = checksum(temporary / "optimizer.json")
    if unseen := [name for name in files if not (temporary / name).is_file()]:
        raise OSError(f"{unseen[0]} is not there: the run folder has to lie where all processes see it")
    for path in temporary.rglob("*"):
        flush(path)
    state = {"step": taken.step, **taken.state, "files": files}
    write_json(temporary / "state.json", {**state, "checksum": _checksum_of(state)})
    if target.exists():
        remove(target)
    temporary.rename(target)
    flush(target.parent)
    # later ones are damaged, or training would not have been here: they may not take the place of whole ones
    for old in [path for path in complete(target.parent) if path.name <= target.name][:-keep]:
        remove(old)


def _failed(folder: Path, taken: Snapshot, error: BaseException) -> str:
    """What to say when writing failed."""
    before = newest(folder)
    kept = "there is none before it" if before is None else f"the checkpoint of step {before} is kept"
    free = shutil.disk_usage(folder if folder.is_dir() else ".").free
    return (
        f"the checkpoint of step {taken.step} could not be written to {folder}: {error}. "
        f"It needs {taken.bytes / 1e6:.1f} MB, {free / 1e6:.1f} MB are free; {kept}. "
        "Make room, or keep fewer checkpoints (keep=), then go on with --resume, resume=True"
    )


def complete(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first; other names, and temporary ones, are passed over."""
    return sorted(path for path in folder.glob("step_*") if re.fullmatch(r"step_\d{8,}", path.name) and path.is_dir())


def newest(folder: Path) -> int | None:
    """The step of the newest checkpoint, unchecked; None where there is none."""
    found = complete(folder)
    return int(found[-1].name.removeprefix("step_")) if found else None


def state_of(path: Path) -> dict[str, Any]:
    """The content of state.json after every file was checked. Raises ValueError for a damaged checkpoint, naming what
    is wrong. Warns of files that training did not write there; they are never opened.
    """
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        expected, sums = state.pop("checksum"), dict(state["files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"checkpoint {path} is damaged: state.json cannot be read ({error})") from None
    if _checksum_of(state) != expected:
        raise ValueError(f"checkpoint {path} is damaged: state.json is not what was written")
    for name, expected in sums.items():
        if not (path / name).is_file():
            raise ValueError(f"checkpoint {path} is damaged: {name} is missing")
        if checksum(path / name) != expected:
            raise ValueError(
                f"checkpoint {path} is damaged: {name} is not what was written ({(path / name).stat().st_size} bytes)"
            )
    _look_for_strangers(path, {"state.json", *sums})
    return state


def _checksum_of(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _look_for_strangers(path: Path, known: set[str]) -> None:
    """Among shards a stranger would be read with them; elsewhere nothing opens it."""
    strangers = sorted({file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()} - known)
    shards = [name for name in strangers if name.startswith(f"{FOLDER}/")]
    if shards:
        raise ValueError(f"checkpoint {path} is damaged: {', '.join(shards)} was not written by training: remove it")
    if strangers:
        warnings.warn(
            f"checkpoint {path} holds {', '.join(strangers)}, which training did not write: not opened", stacklevel=3
        )


def latest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint and its state; None where there is none at all.

    Warns for each damaged one that is passed over. Raises ValueError where all are damaged.
    """
    damage = []
    for path in reversed(complete(folder)):
        try:
            state = state_of(path)
        except ValueError as error:
            damage.append(str(error))
        else:
            for message in damage:
                warnings.warn(f"{message}; going back to {path.name}", stacklevel=2)
            return path, state
    if damage:
        raise ValueError(f"no checkpoint in {folder} is whole: " + "; ".join(damage))
    return None


def read_model(path: Path, name: str, like: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """One of the models of a checkpoint as a state dict, on the CPU; sharded as in `like`, where that is."""
    return read_part(path, name, like or {})


def read_optimizers(path: Path, weights: Sequence[Sequence[Tensor]] = ()) -> list[dict[str, Any]]:
    """The state dicts of the optimizers, the flow's first. What belongs to a weight and has its size is sharded like
    it: `weights` of each optimizer, in the order of its groups.
    """
    skeleton = json.loads((path / "optimizer.json").read_text(encoding="utf-8"))
    like: dict[str, Tensor] = {}
    for state, its in zip(join(skeleton, _Itself()), weights, strict=False):
        for index, entry in state["state"].items():
            if is_sharded(its[index]):
                like.update({value.name: its[index] for value in entry.values() if isinstance(value, _Name)})
    return join(skeleton, read_part(path, "optimizer", like))


@dataclass(frozen=True)
class _Name:
    """Stands for the tensor of that name."""

    name: str


class _Itself(dict[str, _Name]):
    def __missing__(self, name: str) -> _Name:
        return _Name(name)
