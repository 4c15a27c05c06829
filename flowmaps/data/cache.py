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

from ..files import read_json
from ..serialise import fits
from .core import Batch, Data
from .data_free import no_data
from .manifest import check_manifest
from .prompts import Prompts
from .sources import hold_out
from .tables import TensorTable
from .transforms import drawn_from_moments

MANIFEST, TEXTS = "cache.json", "prompts.json"
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
    """

    rows: TensorTable
    prompts: Prompts | None

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


def cache_folder(path: str, /) -> Data:
    """Open a cache folder. Its rows stay on disk and are read batch by batch.

    Only the sizes of the shards are checked; `caching.check_cache` reads every byte.

    Args:
        path: The folder.

    Returns:
        The data set, with texts and their encodings in `data.prompts`. A cache without images has prompts alone, as
        `no_data` has.

    Raises:
        ValueError: The cache is incomplete, or a shard is cut off.
        FileNotFoundError: A shard is missing.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    if not manifest["complete"]:
        raise ValueError(f"the cache in {folder} is not complete: make it again with the same arguments to complete it")
    check_sizes(folder, manifest)
    texts, rows = (
        TensorTable.mapped([folder / shard["file"] for shard in manifest["tables"][name]]) for name in TABLES
    )
    known = read_json(folder / TEXTS, LARGEST_TEXTS)
    index = rows.column("prompt") if "prompt" in rows.names else None
    if not fits(known, list[str]) or (index is not None and not _is_index(index, len(known))):
        raise ValueError(f"{folder / TEXTS} cannot be used: it must hold the texts that the rows of the cache name")
    return _data(manifest["data"], CachedRows(rows, Prompts(known, index, texts) if known else None))


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
    """Read cache.json. Raises ValueError if it cannot be read or has another format."""
    path = folder / MANIFEST
    try:
        manifest = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}): remove the folder and make the cache again") from None
    if isinstance(manifest, dict) and manifest.get("format") != 1:
        raise ValueError(f"{path} has another format than this version of flowmaps reads: make the cache again")
    check_manifest(manifest, path)
    return manifest


def check_sizes(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Compare the sizes of the shards with the manifest.

    Raises:
        FileNotFoundError: A shard is missing.
        ValueError: A shard has another size.
    """
    for shard in (shard for name in TABLES for shard in manifest["tables"][name]):
        path = folder / shard["file"]
        if not path.is_file():
            raise FileNotFoundError(f"{path} is gone: make the cache again, which makes the missing shards")
        if path.stat().st_size != shard["bytes"]:
            raise ValueError(
                f"{path} is damaged, {path.stat().st_size} bytes instead of {shard['bytes']}: remove it and make the "
                "cache again, which makes the missing shards"
            )
