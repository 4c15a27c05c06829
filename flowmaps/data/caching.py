"""Writing a cache folder (see `cache`) shard by shard. Each shard is written completely or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from torch import Tensor

from ..files import LOCK, checksum, is_leftover, replacing, save_tensors, sealed, write_json, write_text
from ..serialise import differences, shown
from .cache import FORMAT, MANIFEST, TABLES, TEXTS, check_sizes, check_sums, is_cache, is_intact, read_manifest
from .check import check_finite
from .core import Data
from .load import load

ShardReport = Callable[[str, int, int], None]
"""Called after each shard with the name of the table, the number of finished rows, and the number of all rows."""
MARK = "made"
"""Metadata key of a shard: a digest of its origin, and its rows. A single entry, so that the file is deterministic."""


@dataclass(frozen=True)
class Content:
    """A table to write.

    Args:
        rows: Number of rows.
        per_shard: Number of rows of a shard.
        make: Function from row numbers to tensors by name.
    """

    rows: int
    per_shard: int
    make: Callable[[range], dict[str, Tensor]]

    @property
    def shards(self) -> list[range]:
        """Row numbers of each shard."""
        return [range(at, min(at + self.per_shard, self.rows)) for at in range(0, self.rows, self.per_shard)]


def make_cache(
    folder: str | Path,
    made: Mapping[str, Any],
    about: Callable[[], Mapping[str, Any]],
    texts: Sequence[str],
    tables: Mapping[str, Content],
    report: ShardReport = lambda name, done, rows: None,
) -> Data:
    """Write a cache folder, or complete an interrupted one.

    Args:
        folder: The folder.
        made: Origin of the rows, as JSON values. A cache with another origin is refused.
        about: Function that returns the description of the rows for `cache.cache_folder`.
        texts: Texts of the table "texts".
        tables: The tables "texts" and "rows".
        report: Called after each shard.

    Returns:
        The data set in the folder.

    Raises:
        FileExistsError: The folder holds other files.
        ValueError: The cache has another origin, with the differences; or rows are not finite.
    """
    folder = Path(folder)
    manifest = begin(folder, made, about, texts)
    if not manifest["complete"]:
        key = hashlib.sha256(json.dumps(manifest["made"], sort_keys=True).encode()).hexdigest()
        for name in TABLES:
            fill(folder, manifest, name, tables[name], key, report)
        _write(folder, manifest | {"complete": True})
    return load(folder)


def begin(
    folder: Path, made: Mapping[str, Any], about: Callable[[], Mapping[str, Any]], texts: Sequence[str]
) -> dict[str, Any]:
    """Read and check the manifest of a folder, or start a new one.

    Args:
        folder: The folder.
        made: Origin of the rows, as JSON values.
        about: Function that returns the description of the rows.
        texts: The texts.

    Returns:
        The manifest; it is marked incomplete if a file is missing or damaged. Damaged texts are written again.

    Raises:
        FileExistsError: The folder holds other files.
        ValueError: The cache has another origin.
    """
    written = json.dumps(list(texts), ensure_ascii=False, indent=0) + "\n"
    if is_cache(folder):
        manifest = read_manifest(folder)
        refuse_other(folder, manifest, made)
        try:
            check_sizes(folder, manifest)
            check_sums(folder, manifest)
        except (ValueError, OSError):
            manifest["complete"] = False
            write_text(folder / TEXTS, written)
        return manifest
    if folder.exists() and not (folder.is_dir() and all(map(_left_over, folder.iterdir()))):
        raise FileExistsError(f"{folder} exists and is not a cache: choose another folder (--cache)")
    known = about()
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / TEXTS, written)
    tables: dict[str, list[Any]] = {name: [] for name in TABLES}
    manifest = {"format": FORMAT, "complete": False, "made": made, "data": known, "tables": tables}
    manifest["texts"] = checksum(folder / TEXTS)
    _write(folder, manifest)
    return json.loads(json.dumps(manifest))


def _left_over(path: Path) -> bool:
    """Whether this file is left over from an interrupted run without a manifest."""
    return path.name in (TEXTS, LOCK) or is_leftover(path, "*")


def refuse_other(folder: Path, manifest: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Raise ValueError, with the differences, if the manifest of the cache in `folder` has another origin."""
    changed = list(differences(manifest["made"], json.loads(json.dumps(made)), "its"))
    if changed:
        raise ValueError(
            f"the cache in {folder} has another origin: {shown(changed)}. Choose another folder (--cache), or remove "
            "this one"
        )


def fill(folder: Path, manifest: dict[str, Any], name: str, content: Content, key: str, report: ShardReport) -> None:
    """Write the missing shards of a table and enter each in the manifest.

    Args:
        folder: The folder.
        manifest: The manifest, which is updated.
        name: Name of the table.
        content: The table.
        key: Digest of the origin.
        report: Called after each shard.
    """
    known = {shard["file"]: shard for shard in manifest["tables"][name]}
    manifest["tables"][name] = []
    for number, rows in zip(count(), content.shards, strict=False):
        path = folder / f"{name}-{number:05d}.safetensors"
        mark = f"{key} {rows.start}:{rows.stop}"
        before = known.get(path.name)
        if not is_whole(path, mark) or (before is not None and not is_intact(path, before["sha256"])):
            save(path, content.make(rows), mark)
            before = None
        entry = before or {
            "file": path.name, "rows": len(rows), "bytes": path.stat().st_size, "sha256": checksum(path)
        }  # fmt: skip
        manifest["tables"][name].append(entry)
        _write(folder, manifest)
        report(name, rows.stop, content.rows)


def is_whole(path: Path, mark: str) -> bool:
    """Whether a shard exists with this mark, that is, with the same origin and the same rows."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return file.metadata() == {MARK: mark}
    except (SafetensorError, OSError):
        return False


def save(path: Path, tensors: Mapping[str, Tensor], mark: str) -> None:
    """Write a shard through a temporary file.

    Args:
        path: The shard.
        tensors: Tensors by name, rows first.
        mark: Its mark: digest and rows.

    Raises:
        ValueError: A value is not finite.
    """
    for name, tensor in tensors.items():
        check_finite(tensor, f"{name} of rows {mark.split()[1]} for {path}")
    with replacing(path) as temporary:
        save_tensors(temporary, {name: tensor.contiguous() for name, tensor in tensors.items()}, {MARK: mark})


def check_cache(folder: str | Path) -> None:
    """Compare every file with its checksum, reading every byte again. Raises ValueError for a damaged file."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    check_sizes(folder, manifest)
    check_sums(folder, manifest, again=True)


def _write(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest with its checksum."""
    write_json(folder / MANIFEST, sealed(manifest))
