"""Checkpoints: one folder for each step, written atomically, with checksums and without pickle.

A folder such as `step_00001000/` holds:

- `state.json`, `optimizer.json`
- `flow.safetensors`, `ema.safetensors`, `method.safetensors`, `optimizer.safetensors`
- instead of the four, if tensors are sharded over processes: `shards/shard-XXXXX-model-00001-of-00001.safetensors`
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor

from ..distributed.shards import cpu_copies, run_on_all, write_shards
from ..files import (
    checksum,
    delete,
    flush,
    free_space,
    remove,
    remove_leftovers,
    save_tensors,
    sealed,
    split,
    temporary_name,
    write_json,
)
from .checkpoint_reading import (
    FORMAT,
    MODELS,
    complete,
    latest,
    newest,
    read_model,
    read_optimizers,
    read_state,
)

__all__ = [
    "MODELS", "Snapshot", "complete", "latest", "newest", "read_model", "read_optimizers", "read_state", "snapshot",
    "write",
]  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """A copy of the state of training at one step, so that training can continue while it is written.

    Attributes:
        step: Number of steps taken.
        parts: The tensors of each model by name, and the tensors of the optimizers under "optimizer".
        optimizers: The state dicts of the optimizers, without their tensors.
        state: Numbers for state.json.
    """

    step: int
    parts: Mapping[str, Mapping[str, Tensor]]
    optimizers: Any
    state: Mapping[str, Any]

    @property
    def bytes(self) -> int:
        """Size of all tensors, in bytes."""
        return sum(tensor.numel() * tensor.element_size() for part in self.parts.values() for tensor in part.values())


def snapshot(
    step: int, models: Mapping[str, Mapping[str, Tensor]], optimizers: list[dict[str, Any]], state: Mapping[str, Any]
) -> Snapshot:
    """Copy the state of training to CPU memory.

    Args:
        step: Number of steps taken.
        models: The state dict of each model, by name.
        optimizers: The state dict of each optimizer.
        state: Numbers for state.json.

    Returns:
        The copy.
    """
    found: dict[str, Tensor] = {}
    skeleton = split(optimizers, found)
    parts = {name: cpu_copies(part.items()) for name, part in {**models, "optimizer": found}.items()}
    return Snapshot(step, parts, json.loads(json.dumps(skeleton)), state)


def write(folder: Path, taken: Snapshot, keep: int, group: Any = None) -> Path:
    """Write a checkpoint atomically, and remove old ones.

    Args:
        folder: The folder of the checkpoints.
        taken: The state of training.
        keep: Number of checkpoints to keep, including this one.
        group: The processes that hold sharded tensors; all of them call this. None: this process has all tensors.

    Returns:
        The new folder, `folder/step_XXXXXXXX`.

    Raises:
        OSError: If it cannot be written. Earlier checkpoints are kept.
    """
    target = folder / f"step_{taken.step:08d}"
    main = group is None or dist.get_rank(group) == 0
    temporary = temporary_name(target)
    try:
        names = run_on_all(lambda: _prepare(temporary) if main else None, group)
        temporary = folder / next(name for name in names if name is not None)
        sums = run_on_all(lambda: _write_parts(temporary, taken, group), group)
        run_on_all(lambda: _finish(temporary, target, taken, sums, keep) if main else None, group)
    except OSError as error:
        if main:
            with suppress(OSError):
                delete(temporary)
        raise OSError(_failure_message(folder, taken, error)) from error
    return target


def _prepare(temporary: Path) -> str:
    """Create an empty folder to write to, after the leftovers of interrupted writes are removed; returns its name."""
    remove_leftovers(temporary.parent, "step_*")
    temporary.mkdir(parents=True)
    return temporary.name


def _write_parts(temporary: Path, taken: Snapshot, group: Any) -> dict[str, str]:
    """Write the tensors of this process, and return the checksums of the files."""
    if group is not None:
        return write_shards(temporary, taken.parts, group)
    files = {f"{name}.safetensors": dict(tensors) for name, tensors in taken.parts.items()}
    for name, tensors in files.items():
        save_tensors(temporary / name, tensors)
    return {name: checksum(temporary / name) for name in files}


def _finish(temporary: Path, target: Path, taken: Snapshot, sums: list[dict[str, str]], keep: int) -> None:
    """Write the other files, flush everything to disk, rename the folder, and remove old checkpoints."""
    write_json(temporary / "optimizer.json", taken.optimizers)
    files = {name: value for part in sums for name, value in sorted(part.items())}
    files["optimizer.json"] = checksum(temporary / "optimizer.json")
    if missing := [name for name in files if not (temporary / name).is_file()]:
        raise OSError(f"{missing[0]} is missing: the run folder must be visible to all processes")
    for path in temporary.rglob("*"):
        flush(path)
    state = {"format": FORMAT, "step": taken.step, **taken.state, "files": files}
    write_json(temporary / "state.json", sealed(state))
    if os.path.lexists(target):
        remove(target)
    temporary.rename(target)
    flush(target.parent)
    # later checkpoints are damaged, or training would have resumed from them: do not count them among the kept ones
    for old in [path for path in complete(target.parent) if path.name <= target.name][:-keep]:
        remove(old)


def _failure_message(folder: Path, taken: Snapshot, error: BaseException) -> str:
    """Compose the message for a failed write."""
    before = newest(folder)
    kept = "there is no earlier checkpoint" if before is None else f"the checkpoint of step {before} is kept"
    free = free_space(folder)
    return (
        f"the checkpoint of step {taken.step} could not be written to {folder}: {error}. "
        f"It needs {taken.bytes / 1e6:.1f} MB, {free / 1e6:.1f} MB are free; {kept}. "
        "Make room, or keep fewer checkpoints (keep=), then go on with --resume, resume=True"
    )
