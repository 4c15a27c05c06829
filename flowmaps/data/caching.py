"""Writing a cache folder (`cache`) shard by shard, each whole or not there: what is done is never done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from torch import Tensor

from ..serialise import differences, shown
from .cache import MANIFEST, TABLES, TEXTS, check_sizes, is_cache, read_manifest
from .check import check_finite
from .core import Data
from .load import load

Report = Callable[[str, int, int], None]
"""Told after each shard: the name of the table, rows that are done, rows in all."""
MARK = "made"
"""What a shard says of itself: a digest of what it was made from, and which rows it has. One entry alone, whose order
in the file nothing can change."""


@dataclass(frozen=True)
class Content:
    """A table to be made: its number of rows, the rows of a shard, and what makes some of them, by name."""

    rows: int
    per_shard: int
    make: Callable[[range], dict[str, Tensor]]

    @property
    def shards(self) -> list[range]:
        return [range(at, min(at + self.per_shard, self.rows)) for at in range(0, self.rows, self.per_shard)]


def make_cache(
    folder: str | Path,
    made: Mapping[str, Any],
    about: Callable[[], Mapping[str, Any]],
    texts: Sequence[str],
    tables: Mapping[str, Content],
    report: Report = lambda name, done, rows: None,
) -> Data:
    """The cache in `folder`, which is made, or gone on with where its making was stopped at any moment.

    made: what the rows come from, JSON-able; the cache is refused where it was made from anything else, ValueError
    naming what differs. about: gives what `cache.cache_folder` needs to know of the rows. texts: of the table "texts".
    tables: "texts" and "rows". Raises FileExistsError for a folder that holds other things, ValueError for rows that
    are not finite.
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
    """The manifest that is there, checked, or a new one. One whose shards are gone or cut off is not complete."""
    from ..files import write_text

    if is_cache(folder):
        manifest = read_manifest(folder)
        refuse_other(folder, manifest, made)
        try:
            check_sizes(folder, manifest)
        except (ValueError, OSError):
            manifest["complete"] = False
        return manifest
    if folder.exists() and not (folder.is_dir() and all(map(_left_over, folder.iterdir()))):
        raise FileExistsError(f"{folder} exists and is no cache: choose another folder (--cache)")
    known = about()
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / TEXTS, json.dumps(list(texts), ensure_ascii=False, indent=0) + "\n")
    tables: dict[str, list[Any]] = {name: [] for name in TABLES}
    manifest = {"format": 1, "complete": False, "made": made, "data": known, "tables": tables}
    _write(folder, manifest)
    return json.loads(json.dumps(manifest))


def _left_over(path: Path) -> bool:
    """Whether a making that was stopped before there was a manifest left this behind."""
    return path.name == TEXTS or path.match(".*.tmp")


def refuse_other(folder: Path, manifest: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Raise ValueError where a cache was made from something else."""
    changed = list(differences(manifest["made"], json.loads(json.dumps(made)), "its"))
    if changed:
        raise ValueError(
            f"the cache in {folder} was made from something else: {shown(changed)}. Choose another "
            "folder (--cache), or remove this one"
        )


def fill(folder: Path, manifest: dict[str, Any], name: str, content: Content, key: str, report: Report) -> None:
    """Make the shards of a table that are not there whole, entering each in the manifest."""
    from ..files import checksum

    known = {shard["file"]: shard for shard in manifest["tables"][name]}
    manifest["tables"][name] = []
    for number, rows in zip(count(), content.shards, strict=False):
        path = folder / f"{name}-{number:05d}.safetensors"
        mark = f"{key} {rows.start}:{rows.stop}"
        before = known.get(path.name)
        if not is_whole(path, mark) or (before is not None and before["sha256"] != checksum(path)):
            save(path, content.make(rows), mark)
            before = None
        entry = before or {
            "file": path.name, "rows": len(rows), "bytes": path.stat().st_size, "sha256": checksum(path)
        }  # fmt: skip
        manifest["tables"][name].append(entry)
        _write(folder, manifest)
        report(name, rows.stop, content.rows)


def is_whole(path: Path, mark: str) -> bool:
    """Whether the shard is there, made from the same and with the same rows: it has its name only once it is whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return file.metadata() == {MARK: mark}
    except (SafetensorError, OSError):
        return False


def save(path: Path, tensors: Mapping[str, Tensor], mark: str) -> None:
    """Write a shard through a temporary file. Raises ValueError for numbers that are not finite."""
    from safetensors.torch import save_file

    from ..files import flush

    for name, tensor in tensors.items():
        check_finite(tensor, f"{name} of rows {mark.split()[1]} for {path}")
    temporary = path.with_name(f".{path.name}.tmp")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata={MARK: mark})
    flush(temporary)
    temporary.replace(path)
    flush(path.parent)


def check_cache(folder: str | Path) -> None:
    """Compare every shard with its checksum, reading all of it. Raises ValueError for one that is damaged."""
    from ..files import checksum

    folder = Path(folder)
    manifest = read_manifest(folder)
    check_sizes(folder, manifest)
    for shard in (shard for name in TABLES for shard in manifest["tables"][name]):
        if checksum(folder / shard["file"]) != shard["sha256"]:
            raise ValueError(
                f"{folder / shard['file']} is damaged: its checksum is another. Remove this file and make the cache "
                "again, which makes what is missing"
            )


def _write(folder: Path, manifest: Mapping[str, Any]) -> None:
    from ..files import write_json

    write_json(folder / MANIFEST, manifest)
