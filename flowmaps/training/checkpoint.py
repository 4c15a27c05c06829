"""Checkpoints: a folder per step, written whole or not at all, with checksums, readable without pickle.

step_00001000/   flow.safetensors  ema.safetensors  method.safetensors  optimizer.safetensors  optimizer.json
                 state.json
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .files import checksum, flush, join, load_tensors, save_tensors, split, write_json

MODELS = ("flow", "ema", "method")


def write(
    folder: Path,
    step: int,
    models: Mapping[str, dict[str, Tensor]],
    optimizers: list[dict[str, Any]],
    state: dict[str, Any],
    keep: int,
) -> Path:
    """Write `folder/step_XXXXXXXX` and remove all but the last `keep` checkpoints.

    models: name -> state dict, one safetensors file each. optimizers: their state dicts, in one file. state: small
    numbers, for state.json.
    """
    target = folder / f"step_{step:08d}"
    temporary = folder / f".{target.name}.tmp"
    for old in folder.glob(".step_*.tmp"):
        shutil.rmtree(old)
    temporary.mkdir(parents=True)
    for name, tensors in models.items():
        save_tensors(temporary / f"{name}.safetensors", tensors)
    found: dict[str, Tensor] = {}
    write_json(temporary / "optimizer.json", split(optimizers, found))
    save_tensors(temporary / "optimizer.safetensors", found)
    for file in temporary.iterdir():
        flush(file)
    sums = {file.name: checksum(file) for file in sorted(temporary.iterdir())}
    write_json(temporary / "state.json", {"step": step, **state, "files": sums})
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
    flush(folder)
    for old in complete(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def complete(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first; other names, and temporary ones, are passed over."""
    return sorted(path for path in folder.glob("step_*") if re.fullmatch(r"step_\d{8,}", path.name) and path.is_dir())


def state_of(path: Path) -> dict[str, Any]:
    """The content of state.json after every file was checked. Raises ValueError for a damaged checkpoint, naming what
    is wrong.
    """
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        sums = dict(state["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"checkpoint {path} is damaged: state.json cannot be read ({error})") from None
    for name, expected in sums.items():
        if not (path / name).is_file():
            raise ValueError(f"checkpoint {path} is damaged: {name} is missing")
        if checksum(path / name) != expected:
            raise ValueError(
                f"checkpoint {path} is damaged: {name} is not what was written ({(path / name).stat().st_size} bytes)"
            )
    return state


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


def read_model(path: Path, name: str) -> dict[str, Tensor]:
    """One of the models of a checkpoint, as a state dict on the CPU."""
    return load_tensors(path / f"{name}.safetensors")


def read_optimizers(path: Path) -> list[dict[str, Any]]:
    """The state dicts of the optimizers, the flow's first."""
    return join(
        json.loads((path / "optimizer.json").read_text(encoding="utf-8")), load_tensors(path / "optimizer.safetensors")
    )
