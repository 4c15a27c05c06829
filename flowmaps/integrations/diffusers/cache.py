"""Encode images and prompts once, by the encoders of a pipeline, into a folder for training."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data import Data, as_data, load
from ...data.cache import MANIFEST, TABLES, TEXTS, is_cache, read_manifest
from ...data.caching import Content, ShardReport, make_cache, refuse_other
from ...data.prompts import Prompts, read_lines
from ...distributed.launcher import ends_with_launcher
from ...files import remove_leftovers
from ...runs.lock import FolderLock
from .encoding import AllRows, Encoding, all_rows
from .fingerprints import of_pipeline, of_rows, of_texts
from .folder import Loaded, Saved, opened

IMAGES_OF_A_SHARD, TEXTS_OF_A_SHARD = 1024, 256
"""Rows of a shard, the largest number that is encoded again after an interruption."""


def cached(
    folder_or_pipeline: Any,
    images: Any = None,
    prompts: Sequence[str] | str | Path | None = None,
    *,
    out: str | Path,
    negative: str | None = None,
    classes: int | None = None,
    size: tuple[int, ...] | None = None,
    moments: bool = False,
    dtype: torch.dtype | None = torch.float16,
    batch_size: int = 16,
    device: str | torch.device | None = None,
    variant: str | None = None,
    report: ShardReport = lambda name, done, rows: None,
) -> Data:
    """Make training data for the network of a diffusers pipeline, encoded once and stored in a folder.

    Images become latents by the pipeline's VAE, prompts become conditions by its text encoders, and class labels stay.
    Repeating the call resumes an interrupted one: existing shards are kept. The encoders are loaded only if a shard is
    missing. With several processes the first one encodes and the others wait.

    Args:
        folder_or_pipeline: As for `teacher`.
        images: A `Data` or anything that `data.as_data` accepts: a folder of images, an array of images or of ready
            latents. None: prompts or class labels alone, for methods that need no data.
        prompts: A file with one prompt a line, or the prompts; with images one for each image, in their order, or a
            single one for all. None: the captions of the images (`data.prompts`).
        out: The folder of the cache.
        negative: A prompt to guide away from; `data.prompts.conditions(negative)` has its conditions, as
            `data.prompts.conditions("")` always has the conditions of the empty prompt.
        classes: Number of classes, without images.
        size: Size of the images in pixels, for networks with a size condition, and without images. None: the
            pipeline's own.
        moments: Whether to store mean and standard deviation of each latent and draw it again in every epoch.
        dtype: Dtype of the stored tensors. None: the dtype of the encoders.
        batch_size: Images or prompts that are encoded at a time.
        device: Device of the encoders. None: the GPU if there is one.
        variant: Variant of the weight files, such as "fp16".
        report: Called after each shard with its table, the number of finished rows, and the number of all rows.

    Returns:
        The data, read from the cache.

    Raises:
        ValueError: For images that are not a finite set or do not fit the VAE, missing prompts, a number of prompts
            different from the images, and a cache with another origin.
        FileExistsError: For a folder with other files.
        BlockingIOError: If another process encodes into the folder; the message names it.
    """
    pipeline = opened(folder_or_pipeline, variant)
    data = None if images is None else _loaded(images, pipeline.has("text_encoder") and prompts is None)
    table = None if data is None else all_rows(data)
    known = texts_of(pipeline, data, table, prompts, negative)
    made = {
        "pipeline": of_pipeline(pipeline),
        "images": None if table is None or data is None else of_rows(table.rows, data, table.held),
        "texts": of_texts(known.texts) if known.texts else None,
        "prompts": None if known.index is None else of_texts([known.texts[i] for i in known.index.tolist()]),
        **{"classes": classes, "size": size, "moments": moments, "dtype": str(dtype)},
    }
    if int(os.environ.get("RANK", 0)):
        return _made_by_the_first(Path(out), made)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    encode = Encoding(pipeline, size, moments, dtype, batch_size, where)
    tables = {
        "texts": Content(len(known.texts), TEXTS_OF_A_SHARD, lambda rows: encode.texts(known.texts, rows)),
        "rows": _rows(encode, data, table, known.index),
    }
    with _lock(Path(out)):
        return make_cache(out, made, lambda: encode.about(data, classes), known.texts, tables, report)


def _rows(encode: Encoding, data: Data | None, table: AllRows | None, index: Tensor | None) -> Content:
    """Make the content of the cache's rows; prompts alone if there are no images."""
    prompt = {} if index is None else {"prompt": index}
    if data is None or table is None:
        return Content(0 if index is None else len(index), 2**20, lambda rows: _some(prompt, rows))

    def make(rows: range) -> dict[str, Tensor]:
        return {**encode.images(table, encode.are_latents(data), rows), **_some({"held": table.held, **prompt}, rows)}

    return Content(len(table.rows), IMAGES_OF_A_SHARD, make)


def _some(columns: Mapping[str, Tensor], rows: range) -> dict[str, Tensor]:
    return {name: column[rows.start : rows.stop] for name, column in columns.items()}


def _loaded(images: Any, captions: bool) -> Data:
    """Load the images, with captions if they are wanted and possible."""
    if captions and isinstance(images, str | Path):
        folder = Path(images)
        if str(images).startswith("hf:") or (folder.is_dir() and not is_cache(folder)):
            return load(images, captions=True)
    return as_data(images)


def texts_of(
    pipeline: Saved | Loaded,
    data: Data | None,
    table: AllRows | None,
    prompts: Sequence[str] | str | Path | None,
    negative: str | None,
) -> Prompts:
    """Collect the texts to encode, and the index of each row's text.

    Args:
        pipeline: The pipeline.
        data: The images. None: prompts alone.
        table: All rows of the images.
        prompts: As for `cached`.
        negative: As for `cached`.

    Returns:
        The texts, with the empty one and the negative one last, and the index of each row's text.

    Raises:
        ValueError: For a text-conditioned network without prompts, an unconditioned one with prompts, and a number of
            prompts different from the images.
    """
    if not pipeline.has("text_encoder"):
        if prompts is not None or negative is not None:
            raise ValueError(f"the network of {pipeline.name} has no text conditioning, so it takes no prompts")
        return Prompts(())
    lines = read_lines(prompts) if isinstance(prompts, str | Path) else prompts
    own = Prompts((), torch.empty(0, dtype=torch.int64)) if lines is None else Prompts.of_rows(lines)
    if data is not None and table is not None:
        own = _of_images(data, len(table.rows), own)
    elif not len(own):
        raise ValueError(f"the network of {pipeline.name} needs texts: pass --prompts FILE, or prompts=")
    texts = dict.fromkeys([*own.texts, "", *([] if negative is None else [negative])])
    return Prompts(list(texts), own.index)


def _of_images(data: Data, rows: int, own: Prompts) -> Prompts:
    """Match prompts with the rows of images; without prompts the images' own captions."""
    if not len(own):
        if data.prompts is None and "text" not in data.given:
            raise ValueError(
                f"the network needs texts, and {data.name} has no captions: write them beside the images (see "
                "data.image_folder), or pass a prompt for each image by --prompts FILE, or prompts="
            )
        return Prompts(()) if data.prompts is None else data.prompts
    if len(own) == 1:
        return Prompts(own.texts, torch.zeros(rows, dtype=torch.int64))
    if len(own) != rows:
        raise ValueError(f"there are {len(own)} prompts for {rows} images of {data.name}: one for each is needed")
    return own


def _lock(folder: Path) -> AbstractContextManager[Any]:
    """Lock the folder of a cache. A complete one that is in use, or cannot be written to, is read without a lock."""
    try:
        held = FolderLock(folder, "encoding into it")
    except OSError:
        if not _is_complete(folder):
            raise
        return nullcontext()
    remove_leftovers(folder, MANIFEST, TEXTS, *(f"{table}-*.safetensors" for table in TABLES))
    return held


def _is_complete(folder: Path) -> bool:
    """Whether a folder is a cache whose shards are all written."""
    return is_cache(folder) and read_manifest(folder)["complete"]


def _made_by_the_first(folder: Path, made: Mapping[str, Any]) -> Data:
    """Wait for the cache that the first process makes, and load it."""
    with ends_with_launcher():
        while not _is_complete(folder):
            time.sleep(0.5)
    refuse_other(folder, read_manifest(folder), made)
    return load(folder)
