"""Hugging Face data sets, from the hub or from a folder written by `save_to_disk`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..arguments import install
from .check import HELD_OUT_NAMES
from .core import IN_MEMORY, Data
from .decoding import Pictures, pillow
from .hugging_face_columns import ArrayColumn, label_column, label_tensor, rows_column, texts_of
from .pictures import image_data
from .prompts import Prompts

MARKS = ("dataset_info.json", "dataset_dict.json", "state.json")


def is_saved(path: Path) -> bool:
    """Whether a folder was written by `datasets.Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    return any((path / mark).is_file() for mark in MARKS)


def hugging_face(
    name: str,
    /,
    *,
    config: str | None = None,
    split: str | None = None,
    held_out: str | None = None,
    column: str | None = None,
    labels: str | bool | None = None,
    captions: str | bool = False,
    size: int | tuple[int, int] | None = None,
    mode: str | None = None,
    value_range: tuple[float, float] | None = None,
    local_files_only: bool = False,
) -> Data:
    """Read a Hugging Face data set.

    Args:
        name: Name on the hub, or a folder written by `save_to_disk`.
        config: Configuration, for a data set with several.
        split: Split of training rows. None: "train", or the only one.
        held_out: Split of held-out rows. None: "test" or "validation" if there is one; otherwise a fifth of the rows,
            at most 10000, is held out.
        column: Column of images or of arrays of numbers. None: the only one.
        labels: Column of class labels; its class names become `data.class_names`. None: the only ClassLabel column, or
            else a column of whole numbers, texts or truth values with a usual name (label, labels, target, class, y).
            False: no labels.
        captions: Column of texts, which become `data.prompts`. True: the only column with a usual name (text, caption,
            prompt, captions, txt).
        size: Size of images, as for a folder of images.
        mode: Mode of images, as for a folder of images.
        value_range: Values that become -1 and 1, as for a folder of images or for an array file.
        local_files_only: Read a data set of the hub from the local cache, where an earlier call has put it, and request
            nothing.

    Returns:
        The data set.

    Raises:
        FileNotFoundError: The data set does not exist, cannot be reached, or is not in the local cache.
        ValueError: A split or column does not exist, or labels are wrong.
        ImportError: `datasets` is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise ImportError(f"Hugging Face data sets are read with datasets: {install('data')}") from error
    if is_saved(Path(name)):
        loaded = datasets.load_from_disk(name)
    elif local_files_only and not Path(name).is_dir():
        loaded = _cached(name, config)
    else:
        try:
            loaded = datasets.load_dataset(name, config)
        except (FileNotFoundError, ConnectionError) as error:
            raise FileNotFoundError(
                f'there is no Hugging Face data set "{name}", or it cannot be reached: {error}'
            ) from error
    options: Any = {"labels": labels, "captions": captions, "size": size, "mode": mode, "value_range": value_range}
    return dataset_data(loaded, name, split=split, held_out=held_out, column=column, **options)


def _cached(name: str, config: str | None) -> Any:
    """A data set of the hub from the local cache, as `datasets` reads it without a network."""
    from datasets.packaged_modules.cache.cache import Cache

    try:
        names = {"dataset_name": name.rpartition("/")[2], "repo_id": name}
        found = Cache(**names, config_name=config, version="auto", hash="auto")
        found.download_and_prepare()
        return found.as_dataset()
    except (ValueError, OSError) as error:
        raise FileNotFoundError(
            f'the Hugging Face data set "{name}" is not in the local cache, and nothing is downloaded because a file '
            f'names it: if you trust it, run fm.data.load("hf:{name}") once, or pass data=fm.data.load("hf:{name}")'
        ) from error


def dataset_data(
    loaded: Any,
    name: str = "dataset",
    *,
    split: str | None = None,
    held_out: str | None = None,
    column: str | None = None,
    labels: str | bool | None = None,
    captions: str | bool = False,
    size: int | tuple[int, int] | None = None,
    mode: str | None = None,
    value_range: tuple[float, float] | None = None,
) -> Data:
    """Make a data set of a loaded Hugging Face data set.

    Args:
        loaded: A `datasets.Dataset` or `datasets.DatasetDict`.
        name: Name in messages and tables.
        split: As for `hugging_face`, like all other options.
        held_out: Split of held-out rows.
        column: Column of images or arrays.
        labels: Column of class labels.
        captions: Column of texts.
        size: Size of images.
        mode: Mode of images.
        value_range: Values that become -1 and 1.

    Returns:
        The data set.

    Raises:
        ValueError: A split or column does not exist, or labels are wrong.
    """
    parts = [_plain(part) for part in splits_of(loaded, name, split, held_out)]
    features = parts[0].features
    column = rows_column(features, column, name)
    texts = texts_of(parts, captions, name) if captions else None
    taken = [column] if isinstance(captions, bool) else [column, captions]
    labelled = label_column(features, labels, name, taken)
    _check_alike(parts, [name for name in (column, labelled) if name is not None], name)
    values = None if labelled is None else [value for part in parts for value in part[labelled]]
    label, found = label_tensor(values, name)
    names = getattr(features[labelled], "names", found) if labelled is not None else None
    held = None if len(parts) == 1 else torch.arange(sum(map(len, parts))) >= len(parts[0])
    if type(features[column]).__name__ == "Image":
        pictures = replace(_pictures(parts, column, label, held), texts=texts)
        return image_data(pictures, name, class_names=names, size=size, mode=mode, value_range=value_range)
    if size is not None or mode is not None:
        raise ValueError(f'size and mode are for images, and column "{column}" of {name} holds arrays of numbers')
    data = _arrays(parts, column, label, names, held, name, value_range)
    return data if texts is None else replace(data, prompts=Prompts.of_rows(texts))


def _check_alike(parts: Sequence[Any], columns: Sequence[str], name: str) -> None:
    """Raise ValueError if the splits have other columns, or number the same classes in another way."""
    for part in parts[1:]:
        for column in columns:
            if column not in part.features:
                raise ValueError(
                    f'the held-out split of {name} has no column "{column}", it has {", ".join(part.features)}: name '
                    "another split, held_out=SPLIT" + (", or pass labels=False" if column != columns[0] else "")
                )
            names = [getattr(one.features[column], "names", None) for one in (parts[0], part)]
            if names[0] != names[1]:
                raise ValueError(
                    f'the splits of {name} have other classes in column "{column}": {names[0]} and {names[1]}'
                )


def _plain(part: Any) -> Any:
    """A table whose values are Python objects, with the columns of its format. Raises ValueError for a stream."""
    if not hasattr(part, "with_format") or not hasattr(part, "select_columns") or not hasattr(part, "__len__"):
        raise ValueError(
            f"a Hugging Face data set must be a table, got {type(part).__name__}: load it without streaming=True, or "
            "pass one split of it to fm.data.as_data, whose items must have one shape"
        )
    return part.select_columns(part.format["columns"]).with_format(None)


def splits_of(loaded: Any, name: str, split: str | None, held_out: str | None) -> list[Any]:
    """The splits of a data set of several: [training part] or [training part, held-out part]."""
    if not isinstance(loaded, dict):
        if split is not None or held_out is not None:
            raise ValueError(f"{name} is a single table without splits, so split and held_out do not apply")
        return [loaded]
    split = split or (next(iter(loaded)) if len(loaded) == 1 else "train")
    held_out = held_out or next((key for key in HELD_OUT_NAMES if key in loaded and key != split), None)
    for key in (split, held_out):
        if key is not None and key not in loaded:
            raise ValueError(
                f'{name} has no split "{key}", it has {", ".join(loaded) or "none"}: name the split for training'
                f" (split=NAME of data.load), or pass it alone, as in data[{next(iter(loaded), key)!r}]"
            )
    if split == held_out:
        raise ValueError(f'split and held_out are both "{split}", and rows for training must not be held out')
    return [loaded[key] for key in (split, held_out) if key is not None]


def _pictures(parts: Sequence[Any], column: str, label: Tensor | None, held: Tensor | None) -> Pictures:
    """Encoded images, opened by row number, so that a broken one can be named and left out."""
    import datasets

    undecoded = [part.cast_column(column, datasets.Image(decode=False)).select_columns([column]) for part in parts]
    first = len(parts[0])

    def cell(row: int) -> dict[str, Any] | None:
        return (undecoded[0][row] if row < first else undecoded[1][row - first])[column]

    def opened(row: int) -> Any:
        found = cell(row)
        if found is None:
            raise ValueError("there is no image in this row")
        return pillow().open(BytesIO(found["bytes"]) if found["bytes"] is not None else found["path"])

    def encoded(row: int) -> bytes:
        found = cell(row)
        if found is None:
            return b""
        return found["bytes"] if found["bytes"] is not None else Path(found["path"]).read_bytes()

    names = [f"{part.split or 'rows'}[{row}]" for part in parts for row in range(len(part))]
    return Pictures(names, opened, label, held, encoded=encoded)


def _arrays(
    parts: Sequence[Any], column: str, label: Any, names: Any, held: Tensor | None, name: str, span: Any
) -> Data:
    """A column of arrays as data, in memory if it is small."""
    from .arrays import array_data

    rows = ArrayColumn([part.with_format("numpy") for part in parts], column, name)
    whole: Any = rows[:] if rows.nbytes <= IN_MEMORY else rows
    return array_data(whole, label, name, class_names=names, held=held, value_range=span)
