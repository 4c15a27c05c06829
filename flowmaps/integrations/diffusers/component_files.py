"""The files that a component of a pipeline consists of. Nothing else of its folder is loaded or copied.

A loader gets these files in a folder of their own, so that no other file of the pipeline (code, pickles, adapters,
other formats of weights) can reach it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import LocalEntryNotFoundError

from ...arguments import between
from ...files import read_json
from ...serialise import mismatch

PICKLES = (".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth")
"""Suffixes of weight files that may hold code."""
REFUSED = (
    "_attn_implementation", "_attn_implementation_internal", "attn_implementation", "auto_map",
    "experts_implementation", "quantization_config", "transformers_weights",
)  # fmt: skip
"""Keys of a config by which a loader would fetch or import code, or read other files."""
ENTRIES: dict[str, Any] = {
    "latents_mean": list[float] | None, "latents_std": list[float] | None, "num_train_timesteps": int | None,
    "sample_size": int | list[int] | None, "scale_factor_spatial": int, "scale_factor_temporal": int,
    "scaling_factor": float | None, "shift_factor": float | None, "trained_betas": list[float] | None,
}  # fmt: skip
"""Types of the entries of a config that are used here."""
MOST_TIMESTEPS = 10**6
"""Largest number of timesteps of a scheduler, which makes tables of that length."""
HARMLESS = (None, False, "eager", "sdpa")
"""Values with which a refused key changes nothing."""


@dataclass(frozen=True)
class Kind:
    """The files of a kind of component.

    Attributes:
        config: The config, which must be there.
        weights: First part of the names of the weight files. "": it has no weights.
        others: Further files.
    """

    config: str
    weights: str = ""
    others: tuple[str, ...] = ()

    def single(self, variant: str | None) -> str:
        """Return the name of weights in one file; `variant` None: the main file."""
        return f"{self.weights}.{variant}.safetensors" if variant else f"{self.weights}.safetensors"

    def index(self, variant: str | None) -> str:
        """Return the name of the index of weights in several files."""
        return f"{self.weights}.safetensors.index.{f'{variant}.' if variant else ''}json"

    def shards(self, variant: str | None) -> list[str]:
        """Return patterns of the names of weights in several files; variants have an older form too."""
        main = f"{self.weights}-?????-of-?????.safetensors"
        before = f"{self.weights}.{variant}-?????-of-?????.safetensors"
        return [before, main.replace(".safetensors", f".{variant}.safetensors")] if variant else [main]

    def names(self, variant: str | None) -> list[str]:
        """Return the names of all its files, some as patterns."""
        weights = [self.single(variant), self.index(variant), *self.shards(variant)]
        return [self.config, *self.others, *(weights if self.weights else [])]


MODEL = Kind("config.json", "diffusion_pytorch_model")
SCHEDULER = Kind("scheduler_config.json")
ENCODER = Kind("config.json", "model", ("generation_config.json",))
TOKENIZER = Kind(
    "tokenizer_config.json",
    others=(
        "added_tokens.json", "merges.txt", "special_tokens_map.json", "spiece.model", "tokenizer.json", "vocab.json",
    ),
)  # fmt: skip
PROCESSOR = Kind("preprocessor_config.json")


def folder_of(pipeline: str, name: str | None, kind: Kind, variant: str | None = None, *, online: bool) -> Path:
    """Find the folder of a component.

    Args:
        pipeline: A folder, or a name on the hub.
        name: Folder of the component in it. None: the pipeline's own.
        kind: Its files.
        variant: Variant of the weights. None: the main files.
        online: Whether its files may be downloaded from the hub; otherwise only the local cache is read.

    Returns:
        The folder.

    Raises:
        ValueError: For a name or a variant that is no plain name.
        LocalEntryNotFoundError: If it is not in the local cache; and the errors of the hub.
    """
    if not (name is None or is_plain(name)):
        raise ValueError(f"the name of a component has letters, digits and _ alone, got {name!r}")
    if not (variant is None or re.fullmatch(r"[A-Za-z0-9_-]+", variant)):
        raise ValueError(f"the name of a variant has letters, digits, _ and - alone, got {variant!r}")
    if Path(pipeline).is_dir():
        return Path(pipeline, name or "")
    wanted = [f"{name}/{file}" if name else file for file in kind.names(variant)]
    if not online:
        found = cached_file(pipeline, wanted[0]).parent
        weights = {kind.single(variant), kind.index(variant)} if kind.weights else {kind.config}
        if not any(path.name in weights or path.suffix in PICKLES for path in found.iterdir()):
            raise LocalEntryNotFoundError(f"{kind.single(variant)} is not in the local cache")
        return found
    return Path(snapshot_download(pipeline, allow_patterns=wanted), name or "")


def cached_file(pipeline: str, name: str) -> Path:
    """Find a file of a repository in the local cache of the hub, without a request.

    Raises:
        LocalEntryNotFoundError: If it is not there.
    """
    found = try_to_load_from_cache(pipeline, name)
    if not isinstance(found, str):
        raise LocalEntryNotFoundError(f"{name} is not in the local cache")
    return Path(found)


def is_plain(name: Any) -> bool:
    """Tell whether a name has letters, digits and _ alone, and starts with a letter."""
    return isinstance(name, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) is not None


@contextmanager
def staged(folder: Path, kind: Kind, variant: str | None = None) -> Iterator[Path]:
    """Make a temporary folder of links to the known files of a component (context manager)."""
    names = files_of(folder, kind, variant)
    with tempfile.TemporaryDirectory(prefix="flowmaps-", ignore_cleanup_errors=True) as temporary:
        for name in names:
            target = Path(temporary, name)
            if name == kind.config:  # the text that was checked
                target.write_text(json.dumps(config_of(folder, kind)), encoding="utf-8")
                continue
            try:
                os.symlink((folder / name).resolve(), target)
            except OSError:  # a system without links
                shutil.copyfile(folder / name, target)
        try:
            yield Path(temporary)
        except (OSError, ValueError) as error:
            error.args = tuple(
                part.replace(temporary, str(folder)) if isinstance(part, str) else part for part in error.args
            )
            raise


def files_of(folder: Path, kind: Kind, variant: str | None = None) -> list[str]:
    """List the files that a component consists of.

    Args:
        folder: Its folder.
        kind: Its files.
        variant: Variant of the weights. None: the main files.

    Returns:
        The names.

    Raises:
        FileNotFoundError: If there is no config, or there are no weights in safetensors.
        ValueError: If the config names code, or the index of the weights other files.
    """
    config_of(folder, kind)
    others = [kind.config, *(name for name in kind.others if (folder / name).is_file())]
    return [*others, *(_weights(folder, kind, variant) if kind.weights else [])]


def config_of(folder: Path, kind: Kind) -> dict[str, Any]:
    """Read the config of a component.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not JSON, or names code or other files to load.
    """
    if not (folder / kind.config).is_file():
        raise FileNotFoundError(f"no file named {kind.config} is there")
    config = _json(folder / kind.config)
    for key, value in _entries(config):
        if key in REFUSED and value not in HARMLESS:
            raise ValueError(
                f"{kind.config} has {key!r}, by which a loader fetches code, other files or quantised weights, and "
                "flowmaps loads none of these: remove it, or give the folder of another model"
            )
    check_entries(config, kind.config)
    return config


def check_entries(config: Mapping[str, Any], name: str) -> None:
    """Check the entries of a config that are used here.

    Args:
        config: The config.
        name: Its name, for messages.

    Raises:
        ValueError: If an entry is of another type, or a scheduler has an impossible number of timesteps.
    """
    for key, hint in ENTRIES.items():
        if key in config and (wrong := mismatch(config[key], hint, key)) is not None:
            raise ValueError(f"{name} cannot be used: {wrong}")
    if config.get("num_train_timesteps") is not None:
        between(1, MOST_TIMESTEPS, num_train_timesteps=config["num_train_timesteps"])


def _json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ValueError for anything else."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return found


def _entries(config: Any) -> Iterator[tuple[str, Any]]:
    """Iterate over the keys and values of a config and of the configs in it."""
    parts = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in parts:
        yield str(key), value
        yield from _entries(value)


def _weights(folder: Path, kind: Kind, variant: str | None) -> list[str]:
    """List the weight files: a single one, or an index and the files that it names."""
    found = [name for name in (kind.single(variant), kind.index(variant)) if (folder / name).is_file()]
    if not found:
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
        raise FileNotFoundError(f"no file named {kind.single(variant)} is there{_instead_of(pickles)}")
    return [*found, *(_shards(folder, kind, variant) if kind.index(variant) in found else [])]


def _instead_of(pickles: list[str]) -> str:
    """Advise on weights that are there as pickles alone."""
    if not pickles:
        return ""
    return (
        f", and {', '.join(pickles)} may hold code, so it is never opened: if you trust it, write it as safetensors by "
        "DiffusionPipeline.from_pretrained(FOLDER).save_pretrained(ANOTHER) of diffusers, and give that folder"
    )


def _shards(folder: Path, kind: Kind, variant: str | None) -> list[str]:
    """List the files that the index of the weights names. Raises ValueError for anything but safetensors beside it."""
    index = kind.index(variant)
    names = _json(folder / index).get("weight_map")
    if not (isinstance(names, dict) and names):
        raise ValueError(f"{index} is no index of weights: it has no weight_map")
    found = sorted({str(name) for name in names.values()})
    shapes = "|".join(re.escape(shape).replace(r"\?", r"\d") for shape in kind.shards(variant))
    if strange := [name for name in found if re.fullmatch(shapes, name) is None]:
        raise ValueError(f"{index} names {strange[0]!r}, which is no part of these weights in safetensors")
    if lost := [name for name in found if not (folder / name).is_file()]:
        raise FileNotFoundError(f"no file named {lost[0]} is there, which {index} names")
    return found
