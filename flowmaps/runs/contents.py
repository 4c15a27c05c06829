"""Contents of a data set as JSON in config.json, by which a resumed run notices other rows, labels or conditions.

Only training rows count. Labels are read completely, rows in memory up to `SMALL` bytes too; of other rows a sample is
read. Nothing depends on where files lie, and their times of change are noted apart.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from ..data import Data
from ..data.cache import CachedRows
from ..data.coupling import Coupled
from ..data.data_free import ZeroRows
from ..data.decoding import Pictures
from ..data.objects import ItemRows
from ..data.pictures import DecodedRows, FileRows
from ..data.prompts import Prompts
from ..data.sources import Finite, Fresh, IndexedRows, Stream, SubsetRows, TensorRows
from ..data.standardise import is_standardised
from ..data.text_files import PREFIX
from ..data.token_rows import TokenRows, WindowRows
from ..data.transformed import Transformed
from ..files import json_checksum
from .fingerprint import SMALL, fingerprint, of_tensors, short

IN_MEMORY, ON_DISK, ITEMS = 4096, 64, 16
"""Number of rows in a sample: of a tensor larger than `SMALL`, of files, and of a data set of torch that reads item by
item."""
READABLE = 10_000
"""Characters of JSON up to which an object is described in words."""


def contents(data: Data, whole: bool = False) -> dict[str, Any]:
    """Describe the contents of a data set.

    Args:
        data: The data set.
        whole: Whether every byte is read too.

    Returns:
        Digests by name; "unstable" for rows that differ each time they are read.
    """
    found = _of_source(data.source, whole)
    if data.prompts is not None:
        found["prompts"] = _of_prompts(data.prompts)
    place = (data.recipe or {}).get("name_or_path")
    place = place.removeprefix(PREFIX) if isinstance(place, str) else None
    if place is not None and Path(place).is_file():
        found["modified"] = Path(place).stat().st_mtime_ns
    return found


def _of_source(source: Any, whole: bool) -> dict[str, Any]:
    """Describe the rows of a source."""
    if is_standardised(source):  # the units are an entry of the flow map
        return _of_source(source.source, whole)
    if isinstance(source, Transformed):
        changed = {"transforms": fingerprint(source.transforms)} if source.everywhere else {}
        return _of_source(source.source, whole) | changed
    if isinstance(source, Coupled):  # the coupling itself is described by its teacher, and computed anew
        label = getattr(source.pairs.train, "label", None)
        return {} if label is None else {"label": _of_tensor(label, torch.arange(source.size), whole)}
    if isinstance(source, Finite):
        return _of_table(source.train, torch.arange(source.size), whole)
    if isinstance(source, Fresh):
        return {"sampler": _bounded(fingerprint(source.sample))}
    if isinstance(source, ZeroRows):
        return {} if source.prompts is None else {"conditions": _of_prompts(source.prompts)}
    if isinstance(source, Stream):
        return _of_stream(source, whole)
    return {"source": _bounded(fingerprint(source))}


def _bounded(found: Any) -> Any:
    """A fingerprint, or its digest if it is long."""
    text = json.dumps(found)
    return found if len(text) <= READABLE else {"characters": len(text), "sha256": short(json_checksum(found))}


def _of_table(table: IndexedRows, index: Tensor, whole: bool) -> dict[str, Any]:
    """Describe the rows of a table with the numbers `index`, in this order."""
    if isinstance(table, SubsetRows):
        return _of_table(table.rows, table.index[index], whole)
    if isinstance(table, (DecodedRows, FileRows)) and table.pictures.encoded is not None:
        return _of_pictures(table.pictures, table.rows[index].tolist(), whole)
    if isinstance(table, TensorRows):
        parts = {"x0": table.x, "label": table.label, "noise": table.noise, **(table.given or {})}
        there = {name: part for name, part in parts.items() if part is not None}
        return {name: _of_tensor(part, index, whole, name == "label") for name, part in there.items()}
    if isinstance(table, TokenRows):
        parts = {"tokens": table.tokens, "label": table.label}
        there = {name: part for name, part in parts.items() if part is not None}
        return {name: _of_tensor(part, index, whole) for name, part in there.items()}
    if isinstance(table, WindowRows):
        return {"windows": [len(table), table.length, table.stride], "sha256": of_tensors([table.tokens])}
    if isinstance(table, CachedRows):
        return {"rows": len(index), "sha256": short(json_checksum([table.checksums, of_tensors([index])]))}
    if isinstance(table, ItemRows):
        return _of_items(table.dataset, index, whole)
    known: dict[str, Any] = {"rows": len(index), "sha256": of_tensors(_taken(table, _sample(index, ON_DISK)))}
    label = getattr(table, "label", None)
    known |= {} if label is None else {"label": _of_tensor(label, index, whole, True)}
    return known | ({"whole_sha256": of_tensors(_taken(table, index))} if whole else {})


def _of_tensor(tensor: Tensor, index: Tensor, whole: bool, complete: bool = True) -> dict[str, Any]:
    """Describe some rows of a tensor, by all of them if it is small or must be read completely."""
    size = len(index) * _row_bytes(tensor)
    chosen = index if complete or size <= SMALL else _sample(index, IN_MEMORY)
    known = {
        "tensor": [len(index), *tensor.shape[1:]],
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "sha256": of_tensors(_parts(tensor, chosen)),
    }
    return known | ({"whole_sha256": of_tensors(_parts(tensor, index))} if whole and chosen is not index else {})


def _row_bytes(tensor: Tensor) -> int:
    """The number of bytes of one row."""
    return math.prod(tensor.shape[1:]) * tensor.element_size()


def _parts(tensor: Tensor, index: Tensor) -> Iterator[Tensor]:
    """Some rows of a tensor, a part at a time."""
    return (tensor[rows.to(tensor.device)] for rows in index.split(max(1, SMALL // max(1, _row_bytes(tensor)))))


def _taken(table: IndexedRows, index: Tensor) -> Iterator[Tensor]:
    """The tensors of some rows of a table, a part at a time."""
    for rows in index.split(ON_DISK):
        x0, label, noise, given = table.take(rows)
        yield from (part for part in (x0, label, noise, *(given or {}).values()) if part is not None)


def _sample(index: Tensor, count: int) -> Tensor:
    """At most `count` numbers, evenly spread."""
    if len(index) <= count:
        return index
    return index[torch.arange(count) * (len(index) - 1) // (count - 1)]


def _of_pictures(pictures: Pictures, numbers: list[int], whole: bool) -> dict[str, Any]:
    """Describe encoded images by their names and sizes, by the bytes of some, and by all labels."""
    known: dict[str, Any] = {"rows": len(numbers)}
    if pictures.files is not None:
        stats = [pictures.files[row].stat() for row in numbers]
        sizes = [[pictures.names[row], stat.st_size] for row, stat in zip(numbers, stats, strict=True)]
        known["files"] = {"bytes": sum(size for _, size in sizes), "sha256": short(json_checksum(sizes))}
        known["modified"] = max(stat.st_mtime_ns for stat in stats)
    some = _sample(torch.tensor(numbers), ON_DISK).tolist()
    known["images"] = {"sha256": _of_encoded(pictures, some)}
    if whole:
        known["images"]["whole_sha256"] = _of_encoded(pictures, numbers)
    if pictures.label is not None:
        known["label"] = _of_tensor(pictures.label, torch.tensor(numbers), whole)
    return known


def _of_encoded(pictures: Pictures, numbers: Iterable[int]) -> str:
    """Compute a digest of encoded images."""
    assert pictures.encoded is not None
    digest = hashlib.sha256()
    for number in numbers:
        digest.update(hashlib.sha256(pictures.encoded(number)).digest())
    return short(digest.hexdigest())


def _of_items(dataset: Any, index: Tensor, whole: bool) -> dict[str, Any]:
    """Describe a map-style data set of torch, unless its items differ each time they are read."""
    if isinstance(dataset, TensorDataset):
        parts = dict(zip(("x0", "label"), dataset.tensors, strict=False))
        return {name: _of_tensor(part, index, whole, name == "label") for name, part in parts.items()}
    known: dict[str, Any] = {"rows": len(index)}
    label = _targets(dataset)
    if label is not None and len(label) == len(dataset):
        known["label"] = _of_tensor(label, index, whole)
    some = _sample(index, ITEMS)
    with torch.random.fork_rng(devices=[]):  # random changes of items leave the caller's random numbers alone
        first, again = (_of_read(dataset, some) for _ in range(2))
        if first != again:
            return known | {"items": "unstable"}
        return known | {"sha256": first} | ({"whole_sha256": _of_read(dataset, index)} if whole else {})


def _of_read(dataset: Any, index: Tensor) -> str:
    """Compute a digest of items."""
    return short(json_checksum([fingerprint(dataset[row]) for row in index.tolist()]))


def _targets(dataset: Any) -> Tensor | None:
    """All labels of a data set, where it lists them as the data sets of torchvision do."""
    if isinstance(dataset, Subset):
        found = _targets(dataset.dataset)
        return None if found is None else found[torch.as_tensor(dataset.indices)]
    listed = next((item for name in ("targets", "labels") if (item := getattr(dataset, name, None)) is not None), None)
    try:
        return None if listed is None else torch.as_tensor(listed)
    except (TypeError, ValueError, RuntimeError):
        return None


def _of_stream(source: Stream, whole: bool) -> dict[str, Any]:
    """Describe the data set behind a loader, or else the first batch of a stream, unless it differs each time."""
    dataset = getattr(source.iterable, "dataset", None)
    if isinstance(dataset, Dataset) and not isinstance(dataset, IterableDataset) and hasattr(dataset, "__len__"):
        return _of_items(dataset, torch.arange(len(dataset)), whole)
    if getattr(source.iterable, "num_workers", 0):
        return {"items": "unstable"}
    with torch.random.fork_rng(devices=[]):
        first, again = (short(json_checksum(fingerprint(next(iter(source.iterable), None)))) for _ in range(2))
    return {"sha256": first} if first == again else {"items": "unstable"}


def _of_prompts(prompts: Prompts) -> dict[str, Any]:
    """Describe texts, the text of each row, and the encodings of some texts."""
    known: dict[str, Any] = {"texts": {"sha256": short(json_checksum(list(prompts.texts)))}}
    if prompts.index is not None:
        known["rows"] = {"sha256": of_tensors([prompts.index])}
    if len(prompts.table):
        some: Mapping[str, Tensor] = prompts.table.take(_sample(torch.arange(len(prompts.table)), ON_DISK))
        known["encodings"] = {"sha256": of_tensors(some[name] for name in sorted(some))}
    return known
