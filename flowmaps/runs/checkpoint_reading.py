"""Reading of checkpoints, after a check of their checksums and without pickle."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..distributed.shards import FOLDER, is_sharded, read_part
from ..files import checksum, join
from .beside import READS, again, unchanged

MODELS = ("flow", "ema", "method")
"""Names of the models of a checkpoint."""


def complete(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first; other files and temporary folders are ignored."""
    found: list[Path] = []
    for _ in range(READS):
        named = sorted(path for path in folder.glob("step_*") if re.fullmatch(r"step_\d{8,}", path.name))
        found = [path for path in named if path.is_dir()]
        if found or not named:
            break  # else a writer has removed them since they were listed, and a newer one is there
    return found


def newest(folder: Path) -> int | None:
    """Return the step of the newest checkpoint, without a check of its files; None if there is no checkpoint."""
    found = complete(folder)
    return int(found[-1].name.removeprefix("step_")) if found else None


def read_state(path: Path) -> dict[str, Any]:
    """Read state.json of a checkpoint, after a check of all its files.

    Foreign files cause a warning and are never opened.

    Args:
        path: The folder of the checkpoint.

    Returns:
        The content of state.json.

    Raises:
        ValueError: If the checkpoint is damaged; the message names the damage.
    """
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        expected, sums = state.pop("checksum"), dict(state["files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"checkpoint {path} is damaged: state.json cannot be read ({error})") from None
    if state_checksum(state) != expected:
        raise ValueError(f"checkpoint {path} is damaged: state.json has changed since it was written")
    for name, expected in sums.items():
        if not (path / name).is_file():
            raise ValueError(f"checkpoint {path} is damaged: {name} is missing")
        if checksum(path / name) != expected:
            size = (path / name).stat().st_size
            raise ValueError(f"checkpoint {path} is damaged: {name} has changed since it was written ({size} bytes)")
    _check_foreign_files(path, {"state.json", *sums})
    return state


def state_checksum(state: Mapping[str, Any]) -> str:
    """Compute the checksum of the content of state.json."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _check_foreign_files(path: Path, known: set[str]) -> None:
    """Refuse foreign files among the shards, which would be read with them; warn about others, which are not opened."""
    foreign = sorted({file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()} - known)
    shards = [name for name in foreign if name.startswith(f"{FOLDER}/")]
    if shards:
        raise ValueError(f"checkpoint {path} is damaged: {', '.join(shards)} was not written by training: remove it")
    if foreign:
        warnings.warn(
            f"checkpoint {path} holds {', '.join(foreign)}, which training did not write: not opened", stacklevel=3
        )


def latest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Find the newest valid checkpoint. Each damaged one that is skipped causes a warning.

    Args:
        folder: The folder of the checkpoints.

    Returns:
        The folder of the checkpoint and its state; None if there is no checkpoint at all.

    Raises:
        ValueError: If all checkpoints are damaged.
    """
    return again(lambda: _latest(folder))


def read_newest(folder: Path, name: str) -> tuple[Path, dict[str, Any], dict[str, Tensor]] | None:
    """Read a model of the newest valid checkpoint, also while training writes others.

    Args:
        folder: The folder of the checkpoints.
        name: One of `MODELS`.

    Returns:
        The folder of the checkpoint, its state, and the state dict of the model; None if there is no checkpoint.

    Raises:
        ValueError: If all checkpoints are damaged.
    """

    def read() -> tuple[Path, dict[str, Any], dict[str, Tensor]] | None:
        found = _latest(folder)
        if found is None:
            return None
        with unchanged(found[0]):
            return *found, read_model(found[0], name)

    return again(read)


def _latest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Find the newest valid checkpoint, as `latest`. Raises ReplacedError if one is removed meanwhile."""
    damage = []
    for path in reversed(complete(folder)):
        try:
            with unchanged(path):
                state = read_state(path)
        except ValueError as error:
            damage.append(str(error))
        else:
            for message in damage:
                warnings.warn(f"{message}; going back to {path.name}", stacklevel=2)
            return path, state
    if damage:
        raise ValueError(f"no checkpoint in {folder} is valid: " + "; ".join(damage))
    return None


def read_model(path: Path, name: str, like: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Read a model of a checkpoint.

    Args:
        path: The folder of the checkpoint.
        name: One of `MODELS`.
        like: Tensors by name; for a sharded one, the tensor is read sharded in the same way. None: nothing is sharded.

    Returns:
        The state dict; on the CPU unless it is sharded.
    """
    return read_part(path, name, like or {})


def read_optimizers(path: Path, weights: Sequence[Sequence[Tensor]] = ()) -> list[dict[str, Any]]:
    """Read the state dicts of the optimizers.

    Args:
        path: The folder of the checkpoint.
        weights: The weights of each optimizer, in the order of its groups. States of a sharded weight are sharded like
            it if they have its size.

    Returns:
        The state dict of each optimizer, the flow's first.
    """
    skeleton = json.loads((path / "optimizer.json").read_text(encoding="utf-8"))
    like: dict[str, Tensor] = {}
    for state, its in zip(join(skeleton, _Placeholders()), weights, strict=False):
        for index, entry in state["state"].items():
            if is_sharded(its[index]):
                like.update({value.name: its[index] for value in entry.values() if isinstance(value, _Placeholder)})
    return join(skeleton, read_part(path, "optimizer", like))


@dataclass(frozen=True)
class _Placeholder:
    """A placeholder for a tensor, with its name."""

    name: str


class _Placeholders(dict[str, _Placeholder]):
    """A mapping from every name to its placeholder."""

    def __missing__(self, name: str) -> _Placeholder:
        return _Placeholder(name)
