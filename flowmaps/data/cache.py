"""Reading a cache folder: encoded rows in memory-mapped shards, described by a manifest.

    cache.json                  origin of the rows, the shards with their checksums, whether all are written
    prompts.json                the texts, each once
    texts-00000.safetensors     their encodings, one row for each
    rows-00000.safetensors      x0, held (whether the row is held out), and label and prompt (the number of the text)
                                if present; a cache without images has prompt alone

`caching.make_cache` writes it, `load` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..files import checksum, read_json, unsealed
from ..serialise import fits
from .core import Batch, Data
from .data_free import no_data
from .decoding import parallel
from .manifest import check_manifest
from .prompts import Prompts
from .sources import hold_out
from .tables import TensorTable
from .transforms import drawn_from_moments

MANIFEST, TEXTS, FORMAT = "cache.json", "prompts.json", 1
TABLES = ("texts", "rows")
LARGEST_TEXTS = 2**32
"""Largest size of the texts in bytes."""
OWN = ("x0", "label", "held", "prompt")
"""Names in the table of rows that are not conditions."""


@dataclass(frozen=True, eq=False)
class CachedRows:
    """Cached rows, with their own conditions and the encodings of their texts.

    Args:
        rows: Table of the rows.
        prompts: Texts of the rows, which several rows may share.
        checksums: SHA-256 of each shard.
    """

    rows: TensorTable
    prompts: Prompts | None
    checksums: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the conditions."""
        of_text = self.prompts.table.names if self.prompts and "prompt" in self.rows.names else ()
        return (*(name for name in self.rows.names if name not in OWN), *of_text)

    def take(self, index: Tensor) -> Batch:
        """Rows by number, as in `sources.IndexedRows`."""
        found = self.rows.take(index)
        given = {name: value for name, value in found.items() if name not in OWN}
        if self.prompts is not None and "prompt" in found:
            given |= self.prompts.take(index)
        return Batch(found["x0"], found.get("label"), given=given or None)


def is_cache(path: Path) -> bool:
    """Whether a folder is a cache."""
    return (path / MANIFEST).is_file()


def cache_folder(path: str, /, *, check: bool = True) -> Data:
    """Open a cache folder. Its rows stay on disk and are read batch by batch.

    Args:
        path: The folder.
        check: Whether every file is compared with its checksum, once in each process. That reads every byte; without
            it only the sizes are checked, and flipped bits are not noticed.

    Returns:
        The data set, with texts and their encodings in `data.prompts`. A cache without images has prompts alone, as
        `no_data` has.

    Raises:
        ValueError: The cache is incomplete, or a file is damaged.
        FileNotFoundError: A shard is missing.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    if not manifest["complete"]:
        raise ValueError(f"the cache in {folder} is not complete: make it again with the same arguments to complete it")
    check_sizes(folder, manifest)
    if check:
        check_sums(folder, manifest)
    texts, rows = (
        TensorTable.mapped([folder / shard["file"] for shard in manifest["tables"][name]]) for name in TABLES
    )
    known = read_json(folder / TEXTS, LARGEST_TEXTS)
    index = rows.column("prompt") if "prompt" in rows.names else None
    if not fits(known, list[str]) or (index is not None and not _is_index(index, len(known))):
        raise ValueError(f"{folder / TEXTS} cannot be used: it must hold the texts that the rows of the cache name")
    sums = tuple(shard["sha256"] for shard in shards_of(manifest))
    return _data(manifest["data"], CachedRows(rows, Prompts(known, index, texts) if known else None, sums))


def _is_index(index: Tensor, texts: int) -> bool:
    """Whether the entries of a tensor are numbers of texts."""
    return index.ndim == 1 and not index.is_floating_point() and bool(((index >= 0) & (index < texts)).all())


def _data(about: Mapping[str, Any], table: CachedRows) -> Data:
    """The data set of a manifest's description and its table."""
    shape, kind, classes, name = tuple(about["shape"]), about["kind"], about["classes"], about["name"]
    prompts = table.prompts
    if "x0" not in table.rows.names:
        drawn = prompts if "prompt" in table.rows.names else None
        return replace(no_data(shape, classes, prompts=drawn, kind=kind), name=name, prompts=prompts)
    if tuple(table.rows.parts[0]["x0"].shape[1:]) != shape or "held" not in table.rows.names:
        raise ValueError(f"the rows of the cache {name} do not have the shape {shape} of its manifest")
    names = None if about["class_names"] is None else tuple(about["class_names"])
    source = hold_out(table, table.rows.column("held"))
    data = Data(name, shape, source, kind, classes, names, levels=about["levels"], given=table.given, prompts=prompts)
    return replace(drawn_from_moments(data), kind=kind) if about["moments"] else data


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read cache.json. Raises ValueError if it cannot be read, was changed, or has another format."""
    path = folder / MANIFEST
    try:
        manifest, intact = unsealed(read_json(path))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read ({error}): remove the folder and make the cache again") from None
    if not intact:
        raise ValueError(
            f"{path} is damaged, it has changed since it was written: remove the folder and make the cache again. To "
            'accept an edit, remove the entry "checksum"'
        )
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {manifest.get('format')}, and this version of flowmaps reads {FORMAT}: make the cache "
            "again"
        )
    check_manifest(manifest, path)
    return manifest


def shards_of(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The shards of both tables."""
    return [shard for name in TABLES for shard in manifest["tables"][name]]


def check_sizes(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Compare the sizes of the shards with the manifest.

    Raises:
        FileNotFoundError: A shard is missing.
        ValueError: A shard has another size.
    """
    for shard in shards_of(manifest):
        path = folder / shard["file"]
        if not path.is_file():
            raise FileNotFoundError(f"{path} is gone: make the cache again, which makes the missing shards")
        if path.stat().st_size != shard["bytes"]:
            raise ValueError(
                f"{path} is damaged, {path.stat().st_size} bytes instead of {shard['bytes']}: remove it and make the "
                "cache again, which makes the missing shards"
            )


def check_sums(folder: Path, manifest: Mapping[str, Any], again: bool = False) -> None:
    """Compare the files with their checksums, several at a time.

    Args:
        folder: The folder of the cache.
        manifest: Its manifest.
        again: Whether files are read that this process has compared before, too.

    Raises:
        ValueError: A file is damaged.
    """
    sums = {shard["file"]: shard["sha256"] for shard in shards_of(manifest)}
    sums |= {TEXTS: manifest["texts"]} if "texts" in manifest else {}  # not in a cache of version 0.1.0
    names = list(sums)
    intact = parallel(lambda number: is_intact(folder / names[number], sums[names[number]], again), range(len(names)))
    for name, whole in zip(names, intact, strict=True):
        if not whole:
            raise ValueError(
                f"{folder / name} is damaged: its checksum has changed. Make the cache again, which makes the damaged "
                "files"
            )


def is_intact(path: Path, expected: str, again: bool = False) -> bool:
    """Whether a file has a checksum.

    Args:
        path: The file.
        expected: The SHA-256.
        again: Whether it is read even if this process has read the unchanged file before.

    Returns:
        Whether the checksum is the expected one.
    """
    stat = path.stat()
    state = (str(path.resolve()), expected, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if again or state not in _intact:
        if checksum(path) != expected:
            return False
        _intact.add(state)
    return True


_intact: set[tuple[Any, ...]] = set()
"""Files that this process has compared with their checksums."""
