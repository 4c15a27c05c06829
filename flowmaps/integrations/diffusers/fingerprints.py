"""What a cache was made by and of, in few bytes: enough to notice another pipeline or other images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...data import Data
from ...data.sources import Rows
from .folder import Loaded, Saved

ENCODERS = ("vae", "text_encoder", "tokenizer")
"""How the names of the components begin that make latents and conditions."""
BLOCK, BLOCKS, SAMPLED = 2**16, 64, 16
"""Of a large file so many bytes at so many places are looked at, and of images so many rows."""


def of_pipeline(pipeline: Saved | Loaded) -> dict[str, str]:
    """A digest of each component that encodes: of its files, as they lie in a folder; of the commit, of a name on the
    hub; of config and weights, of a loaded pipeline. The network is not among them, so that fine-tunes share a cache.
    """
    names = sorted(name for name in pipeline.names if name.startswith(ENCODERS))
    if isinstance(pipeline, Loaded):
        return {name: _of_object(pipeline.part(name)) for name in names}
    if not Path(pipeline.name).is_dir():
        from huggingface_hub import hf_hub_download

        return {"hub": pipeline.name, "commit": Path(hf_hub_download(pipeline.name, "model_index.json")).parent.name}
    return {name: _of_files(Path(pipeline.name) / name) for name in names}


def of_rows(rows: Rows, data: Data, held: Tensor) -> dict[str, Any]:
    """Number, shape and classes of rows, and a digest of some of them, of their labels and of which are held out."""
    places = torch.linspace(0, len(rows) - 1, min(SAMPLED, len(rows))).long()
    digest = hashlib.sha256()
    for part in rows.take(places).each(lambda part: part.cpu()):
        _update(digest, part)
    _update(digest, held)
    return {"rows": len(rows), "shape": list(data.shape), "classes": data.classes, "content": digest.hexdigest()}


def of_texts(texts: Sequence[str]) -> dict[str, Any]:
    """Their number and a digest of them."""
    return {"count": len(texts), "sha256": hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()}


def _of_files(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)} {size}\n".encode())
        with path.open("rb") as file:
            for start in _places(size):
                file.seek(start)
                digest.update(file.read(BLOCK))
    return digest.hexdigest()


def _places(size: int) -> Iterable[int]:
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
    """Takes in a tensor, or tensors by name."""
    if isinstance(part, Tensor):
        digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
        digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif part is not None:
        for name in sorted(part):
            digest.update(name.encode())
            _update(digest, part[name])
