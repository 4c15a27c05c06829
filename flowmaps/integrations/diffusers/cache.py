"""Images and prompts encoded once, by the pipeline that is distilled, into a folder that training reads."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data import Data, as_data, load
from ...data.cache import is_cache, read_manifest
from ...data.caching import Content, Report, make_cache, refuse_other
from ...data.prompts import Prompts, read_lines
from .encoding import Encoding, Whole, table_of
from .fingerprints import of_pipeline, of_rows, of_texts
from .folder import Loaded, Saved, opened

IMAGES_OF_A_SHARD, TEXTS_OF_A_SHARD = 1024, 256
"""At most so many are encoded again after a stop."""


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
    report: Report = lambda name, done, rows: None,
) -> Data:
    """Training data for the network of a diffusers pipeline: latents of images by its VAE, conditions of prompts by its
    text encoders, class labels as they are. Written to the folder `out` once; the same call again, also after it was
    stopped at any moment, goes on with what is there, and encodes nothing twice.

    images: a `Data` or what `data.as_data` takes: a folder of images, an array of images or of ready latents. None:
        prompts alone, or class labels alone, for methods that need no data.
    prompts: a file with a prompt on each line, or the prompts; one for each image in their order, where there are
        images. None: the captions that come with the images (`data.prompts`).
    negative: a prompt to guide away from. Its conditions are in `data.prompts.conditions(negative)`, as those of the
        empty prompt always are in `data.prompts.conditions("")`.
    classes: number of classes, where there are no images to tell. size: of the images in pixels, for networks that are
        told it and where there are no images; by default the pipeline's own.
    moments: keep mean and standard deviation of each latent, to draw it anew in every epoch.
    dtype: of what is stored, None for that of the encoders. batch_size: images or prompts that are encoded at a time.
    device: where; by default the GPU where there is one. report: told after each shard.

    The encoders are loaded only where something is left to encode. Of several processes the first one encodes.
    Raises ValueError for images that are no finite set or do not fit the VAE, for prompts that are missing or as many
    as images neither, and for a cache of something else; FileExistsError for a folder with other things.
    """
    pipeline = opened(folder_or_pipeline, variant)
    data = None if images is None else _loaded(images, pipeline.has("text_encoder") and prompts is None)
    whole = None if data is None else table_of(data)
    known = texts_of(pipeline, data, whole, prompts, negative)
    made = {
        "pipeline": of_pipeline(pipeline),
        "images": None if whole is None or data is None else of_rows(whole.rows, data, whole.held),
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
        "rows": _rows(encode, data, whole, known.index),
    }
    return make_cache(out, made, lambda: encode.about(data, classes), known.texts, tables, report)


def _rows(encode: Encoding, data: Data | None, whole: Whole | None, index: Tensor | None) -> Content:
    """The table of rows; of prompts alone where there are no images."""
    prompt = {} if index is None else {"prompt": index}
    if data is None or whole is None:
        return Content(0 if index is None else len(index), 2**20, lambda rows: _some(prompt, rows))

    def make(rows: range) -> dict[str, Tensor]:
        return {**encode.images(whole, encode.are_latents(data), rows), **_some({"held": whole.held, **prompt}, rows)}

    return Content(len(whole.rows), IMAGES_OF_A_SHARD, make)


def _some(columns: Mapping[str, Tensor], rows: range) -> dict[str, Tensor]:
    return {name: column[rows.start : rows.stop] for name, column in columns.items()}


def _loaded(images: Any, captions: bool) -> Data:
    """The images, with their captions where these are wanted and may be there."""
    if captions and isinstance(images, str | Path):
        folder = Path(images)
        if str(images).startswith("hf:") or (folder.is_dir() and not is_cache(folder)):
            return load(images, captions=True)
    return as_data(images)


def texts_of(
    pipeline: Saved | Loaded,
    data: Data | None,
    whole: Whole | None,
    prompts: Sequence[str] | str | Path | None,
    negative: str | None,
) -> Prompts:
    """The texts to be encoded, the empty one and the negative one last, and the number of each row's, where it is not
    told one already. Raises ValueError for a network with text and no prompts, for one without and prompts, and for
    another number of them than images.
    """
    if not pipeline.has("text_encoder"):
        if prompts is not None or negative is not None:
            raise ValueError(f"the network of {pipeline.name} is not told a text, so no prompts apply")
        return Prompts(())
    lines = read_lines(prompts) if isinstance(prompts, str | Path) else prompts
    own = Prompts((), torch.empty(0, dtype=torch.int64)) if lines is None else Prompts.of_rows(lines)
    if data is not None and whole is not None:
        own = _of_images(data, len(whole.rows), own)
    elif not len(own):
        raise ValueError(f"the network of {pipeline.name} is told a text, so it needs --prompts FILE, prompts=")
    texts = dict.fromkeys([*own.texts, "", *([] if negative is None else [negative])])
    return Prompts(list(texts), own.index)


def _of_images(data: Data, rows: int, own: Prompts) -> Prompts:
    if not len(own):
        if data.prompts is None and "text" not in data.given:
            raise ValueError(
                f"the network is told a text, and {data.name} has no captions: write them beside the images (see "
                "data.image_folder), or give a prompt for each image by --prompts FILE, prompts="
            )
        return Prompts(()) if data.prompts is None else data.prompts
    if len(own) == 1:
        return Prompts(own.texts, torch.zeros(rows, dtype=torch.int64))
    if len(own) != rows:
        raise ValueError(f"there are {len(own)} prompts for {rows} images of {data.name}: one for each is needed")
    return own


def _made_by_the_first(folder: Path, made: Mapping[str, Any]) -> Data:
    """The cache that another process makes, once it is there."""
    while not (is_cache(folder) and read_manifest(folder)["complete"]):
        time.sleep(0.5)
    refuse_other(folder, read_manifest(folder), made)
    return load(folder)
