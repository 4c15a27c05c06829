"""Reading of checkpoints, after a check of their checksums and without pickle."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from torch import Tensor

from ..distributed.shards import FOLDER, is_sharded, read_part
from ..files import checksum, join, read_json, unsealed
from ..serialise import mismatch, shown_value
from .beside import READS, again, unchanged

T = TypeVar("T")
MODELS = ("flow", "ema", "method")
"""Names of the models of a checkpoint."""
FORMAT = 1
"""Format of a checkpoint."""


class DamageError(ValueError):
    """A checkpoint that is not as it was written."""


NAME = rf"({FOLDER}/)?\w[\w.-]*"
"""Pattern of the names of files in a checkpoint."""


class CheckpointState(TypedDict):
    """The content of state.json, as far as a checkpoint is read by it."""

    step: int
    seconds: float
    files: dict[str, str]
    checksum: str


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


def read_state(path: Path, parts: Sequence[str] | None = None) -> dict[str, Any]:
    """Read state.json of a checkpoint, after a check of the files that are needed.

    Foreign files cause a warning and are never opened.

    Args:
        path: The folder of the checkpoint.
        parts: Names among `MODELS`, the models that will be read. None: everything, to resume training.

    Returns:
        The content of state.json.

    Raises:
        ValueError: If the checkpoint is damaged, or has the format of a later version; the message names the reason.
    """
    try:
        content = read_json(path / "state.json")
        if wrong := mismatch(content, CheckpointState, ""):
            raise ValueError(wrong)
    except (OSError, ValueError) as error:
        raise DamageError(f"checkpoint {path} is damaged: state.json cannot be read ({error})") from None
    state, intact = unsealed(content)
    sums = state["files"]
    if not intact:
        raise DamageError(f"checkpoint {path} is damaged: state.json has changed since it was written")
    if state.get("format", 1) > FORMAT:
        raise ValueError(
            f"checkpoint {path} has format {state['format']}, but this version of flowmaps reads at most {FORMAT}: it "
            "was written by a later version"
        )
    if strange := [name for name in sums if not re.fullmatch(NAME, name)]:
        raise DamageError(f"checkpoint {path} is damaged: {shown_value(strange[0])} is not the name of a file of it")
    for name in _needed(sums, parts):
        _check_file(path, name, sums.get(name))
    _check_foreign_files(path, {"state.json", *sums})
    return state


def _needed(sums: Mapping[str, str], parts: Sequence[str] | None) -> list[str]:
    """Return the files that hold the given models; all files for None. A shard holds parts of all models."""
    if parts is None:
        return list(sums)
    shards = [name for name in sums if name.startswith(f"{FOLDER}/")]
    return shards or [f"{part}.safetensors" for part in parts]


def _check_file(path: Path, name: str, expected: str | None) -> None:
    """Compare a file of a checkpoint with its checksum."""
    if expected is None or not (path / name).is_file():
        raise DamageError(f"checkpoint {path} is damaged: {name} is missing")
    if checksum(path / name) != expected:
        size = (path / name).stat().st_size
        raise DamageError(f"checkpoint {path} is damaged: {name} has changed since it was written ({size} bytes)")


def _check_foreign_files(path: Path, known: set[str]) -> None:
    """Refuse foreign files among the shards, which would be read with them; warn about others, which are not opened."""
    foreign = sorted({file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()} - known)
    shards = [name for name in foreign if name.startswith(f"{FOLDER}/")]
    if shards:
        raise DamageError(f"checkpoint {path} is damaged: {', '.join(shards)} was not written by training: remove it")
    if foreign:
        warnings.warn(
            f"checkpoint {path} holds {', '.join(foreign)}, which training did not write: not opened", stacklevel=3
        )


def latest(folder: Path, parts: Sequence[str] | None = None) -> tuple[Path, dict[str, Any]] | None:
    """Find the newest valid checkpoint. Each damaged one that is skipped causes a warning.

    Args:
        folder: The folder of the checkpoints.
        parts: Names among `MODELS`, the models that will be read; damage to other files does not matter. None:
            everything, to resume training.

    Returns:
        The folder of the checkpoint and its state; None if there is no checkpoint at all.

    Raises:
        ValueError: If all checkpoints are damaged, or one has the format of a later version.
    """
    return read_latest(folder, parts, lambda path, state: (path, state))


def read_latest(folder: Path, parts: Sequence[str] | None, read: Callable[[Path, dict[str, Any]], T]) -> T | None:
    """Read from the newest valid checkpoint, also while training writes others and removes this one.

    Args:
        folder: The folder of the checkpoints.
        parts: As for `latest`.
        read: Function of the folder of the checkpoint and of its state. It is called again with a newer checkpoint if
            this one is removed meanwhile.

    Returns:
        Its result; None if there is no checkpoint at all.

    Raises:
        ValueError: As `latest`.
        ReplacedError: If checkpoints are replaced faster than they can be read.
    """

    def attempt() -> T | None:
        found = _latest(folder, parts)
        if found is None:
            return None
        with unchanged(found[0]):
            return read(*found)

    return again(attempt)


def _latest(folder: Path, parts: Sequence[str] | None) -> tuple[Path, dict[str, Any]] | None:
    """Find the newest valid checkpoint, as `latest`. Raises ReplacedError if one is removed meanwhile."""
    damage = []
    for path in reversed(complete(folder)):
        try:
            with unchanged(path):
                state = read_state(path, parts)
        except DamageError as error:
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
    skeleton = read_json(path / "optimizer.json")
    like: dict[str, Tensor] = {}
    try:
        for state, its in zip(join(skeleton, _Placeholders()), weights, strict=False):
            for index, entry in state["state"].items():
                if is_sharded(its[index]):
                    like.update({value.name: its[index] for value in entry.values() if isinstance(value, _Placeholder)})
        return join(skeleton, read_part(path, "optimizer", like))
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"checkpoint {path} is damaged: its optimizer cannot be read ({error!r})") from None


@dataclass(frozen=True)
class _Placeholder:
    """A placeholder for a tensor, with its name."""

    name: str


class _Placeholders(dict[str, _Placeholder]):
    """A mapping from every name to its placeholder."""

    def __missing__(self, name: str) -> _Placeholder:
        return _Placeholder(name)
