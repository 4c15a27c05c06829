"""Fingerprints of a pipeline, of images and of texts, by which a cache detects that it was made from others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...data import Data
from ...data.sources import IndexedRows
from ...files import add_tensor
from .autoencoders import autoencoder
from .folder import Loaded, Saved

ENCODERS = ("vae", "text_encoder", "tokenizer")
"""Prefixes of the components that make latents and conditions."""
BLOCK, BLOCKS, SAMPLED = 2**16, 64, 16
"""A large file is read in BLOCKS blocks of BLOCK bytes, evenly spread; a data set in SAMPLED rows."""


def of_pipeline(pipeline: Saved | Loaded) -> dict[str, str]:
    """Compute a digest of each encoder of a pipeline.

    The digest covers the files in a folder, the commit on the hub, or config and weights of a loaded pipeline. The
    network does not enter, so that fine-tunes share a cache.

    Args:
        pipeline: The pipeline.

    Returns:
        Digests by component.
    """
    vae = autoencoder(pipeline)
    names = sorted(name for name in pipeline.names if name.startswith(ENCODERS) or name == vae)
    if isinstance(pipeline, Loaded):
        return {name: _of_object(pipeline.part(name)) for name in names}
    if not Path(pipeline.name).is_dir():
        from huggingface_hub import hf_hub_download

        index = hf_hub_download(pipeline.name, "model_index.json")
        return {"hub": pipeline.name, "commit": Path(index).parent.name}
    return {name: _of_files(Path(pipeline.name) / name) for name in names}


def of_rows(rows: IndexedRows, data: Data, held: Tensor) -> dict[str, Any]:
    """Describe the rows of a data set.

    Args:
        rows: All rows.
        data: The data set.
        held: (N,), whether a row is held out.

    Returns:
        Number, shape and classes, and a digest of some rows with their labels and of `held`.
    """
    sampled = torch.linspace(0, len(rows) - 1, min(SAMPLED, len(rows))).long()
    digest = hashlib.sha256()
    for part in rows.take(sampled).each(lambda part: part.cpu()):
        _update(digest, part)
    _update(digest, held)
    return {"rows": len(rows), "shape": list(data.shape), "classes": data.classes, "content": digest.hexdigest()}


def of_texts(texts: Sequence[str]) -> dict[str, Any]:
    """Describe texts by their number and a digest."""
    return {"count": len(texts), "sha256": hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()}


def _of_files(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)} {size}\n".encode())
        with path.open("rb") as file:
            for start in _offsets(size):
                file.seek(start)
                digest.update(file.read(BLOCK))
    return digest.hexdigest()


def _offsets(size: int) -> Iterable[int]:
    """Return the offsets of the blocks that are read of a file."""
    if size <= BLOCK * BLOCKS:
        return range(0, size, BLOCK)
    return [round(i * (size - BLOCK) / (BLOCKS - 1)) for i in range(BLOCKS)]


def _of_object(part: Any) -> str:
    digest = hashlib.sha256(type(part).__name__.encode())
    config = getattr(part, "config", None)
    digest.update(json.dumps(dict(config) if isinstance(config, dict) else str(config), default=str).encode())
    if isinstance(part, nn.Module):
        for name, value in part.state_dict().items():
            digest.update(name.encode())
            _update(digest, value)
    return digest.hexdigest()


def _update(digest: Any, part: Any) -> None:
    """Update a digest with a tensor, or with tensors by name."""
    if isinstance(part, Tensor):
        add_tensor(digest, part)
    elif part is not None:
        for name in sorted(part):
            digest.update(name.encode())
            _update(digest, part[name])
