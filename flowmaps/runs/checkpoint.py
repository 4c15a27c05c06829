"""Checkpoints: a folder per step, written whole or not at all, with checksums, readable without pickle.

A folder such as `step_00001000/` holds:

- `state.json`, `optimizer.json`
- `flow.safetensors`, `ema.safetensors`, `method.safetensors`, `optimizer.safetensors`
- instead of the four, if tensors are sharded over processes: `shards/shard-XXXXX-model-00001-of-00001.safetensors`
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

from ..distributed.shards import FOLDER, cpu_copies, is_sharded, read_part, run_on_all, write_shards
from ..files import checksum, flush, join, remove, save_tensors, split, write_json

MODELS = ("flow", "ema", "method")


@dataclass(frozen=True)
class Snapshot:
    """The state of training at one step, in memory of its own, so that training may go on while it is written.

    Attributes:
        step: Number of steps taken.
        parts: The tensors of each model by name, and those of the optimizers under "optimizer".
        optimizers: The state dicts of the optimizers without their tensors.
        state: Small numbers, for state.json.
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
    """Copy the state of training into the memory of the CPU.

    Args:
        step: Number of steps taken.
        models: The state dict of each model, by name.
        optimizers: The state dict of each optimizer.
        state: Small numbers, for state.json.

    Returns:
        The copies.
    """
    found: dict[str, Tensor] = {}
    skeleton = split(optimizers, found)
    parts = {name: cpu_copies(part.items()) for name, part in {**models, "optimizer": found}.items()}
    return Snapshot(step, parts, json.loads(json.dumps(skeleton)), state)


def write(folder: Path, taken: Snapshot, keep: int, group: Any = None) -> Path:
    """Write a checkpoint, whole or not at all, and remove the old ones.

    Args:
        folder: The folder of the checkpoints.
        taken: The state of training.
        keep: Number of checkpoints to keep, up to this one.
        group: The processes that hold the tensors if these are sharded; all of them call this.

    Returns:
        The new folder, `folder/step_XXXXXXXX`.

    Raises:
        OSError: If it cannot be written. The checkpoints of before are kept.
    """
    target = folder / f"step_{taken.step:08d}"
    temporary = folder / f".{target.name}.tmp"
    main = group is None or dist.get_rank(group) == 0
    try:
        run_on_all(lambda: _prepare(temporary) if main else None, group)
        sums = run_on_all(lambda: _write_parts(temporary, taken, group), group)
        run_on_all(lambda: _finish(temporary, target, taken, sums, keep) if main else None, group)
    except (OSError, SafetensorError) as error:
        if main:
            shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(_failed(folder, taken, error)) from error
    return target


def _prepare(temporary: Path) -> None:
    """Make an empty folder to write into, and remove those of writes that were cut off."""
    for old in temporary.parent.glob(".step_*.tmp"):
        shutil.rmtree(old)
    temporary.mkdir(parents=True)


def _write_parts(temporary: Path, taken: Snapshot, group: Any) -> dict[str, str]:
    """Write the tensors that are here, and return the checksums of the files."""
    if group is not None:
        return write_shards(temporary, taken.parts, group)
    files = {f"{name}.safetensors": dict(tensors) for name, tensors in taken.parts.items()}
    for name, tensors in files.items():
        save_tensors(temporary / name, tensors)
    return {name: checksum(temporary / name) for name in files}


def _finish(temporary: Path, target: Path, taken: Snapshot, sums: list[dict[str, str]], keep: int) -> None:
    """Write the rest, wait until everything is on disk, rename the folder, remove old checkpoints."""
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
    """The message of a write that failed."""
    before = newest(folder)
    kept = "there is none before it" if before is None else f"the checkpoint of step {before} is kept"
    free = shutil.disk_usage(folder if folder.is_dir() else ".").free
    return (
        f"the checkpoint of step {taken.step} could not be written to {folder}: {error}. "
        f"It needs {taken.bytes / 1e6:.1f} MB, {free / 1e6:.1f} MB are free; {kept}. "
        "Make room, or keep fewer checkpoints (keep=), then go on with --resume, resume=True"
    )


def complete(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first, without other files and temporary folders."""
    return sorted(path for path in folder.glob("step_*") if re.fullmatch(r"step_\d{8,}", path.name) and path.is_dir())


def newest(folder: Path) -> int | None:
    """The step of the newest checkpoint, unchecked; None if there is no checkpoint."""
    found = complete(folder)
    return int(found[-1].name.removeprefix("step_")) if found else None


def state_of(path: Path) -> dict[str, Any]:
    """Read state.json of a checkpoint after a check of every file.

    Files that training did not write there raise a warning, and are never opened.

    Args:
        path: The folder of the checkpoint.

    Returns:
        The content of state.json.

    Raises:
        ValueError: For a damaged checkpoint, naming the damage.
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
    """The checksum of state.json."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _look_for_strangers(path: Path, known: set[str]) -> None:
    """Refuse a foreign file among shards, which would be read with them; warn of one elsewhere, which is not opened."""
    strangers = sorted({file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()} - known)
    shards = [name for name in strangers if name.startswith(f"{FOLDER}/")]
    if shards:
        raise ValueError(f"checkpoint {path} is damaged: {', '.join(shards)} was not written by training: remove it")
    if strangers:
        warnings.warn(
            f"checkpoint {path} holds {', '.join(strangers)}, which training did not write: not opened", stacklevel=3
        )


def latest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Find the newest whole checkpoint. Each damaged one that is passed over raises a warning.

    Args:
        folder: The folder of the checkpoints.

    Returns:
        The folder of the checkpoint and its state; None if there is no checkpoint at all.

    Raises:
        ValueError: If all checkpoints are damaged.
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
    """Read one of the models of a checkpoint.

    Args:
        path: The folder of the checkpoint.
        name: One of `MODELS`.
        like: Tensors by name; those that are sharded are read sharded like them.

    Returns:
        A state dict, on the CPU if it is not sharded.
    """
    return read_part(path, name, like or {})


def read_optimizers(path: Path, weights: Sequence[Sequence[Tensor]] = ()) -> list[dict[str, Any]]:
    """Read the state dicts of the optimizers.

    Args:
        path: The folder of the checkpoint.
        weights: The weights of each optimizer, in the order of its groups. A state of the size of a sharded weight is
            sharded like it.

    Returns:
        The state dict of each optimizer, the flow's first.
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
    """A placeholder for the tensor of a name."""

    name: str


class _Itself(dict[str, _Name]):
    """A mapping from every name to its placeholder."""

    def __missing__(self, name: str) -> _Name:
        return _Name(name)
