"""Copy the components of a pipeline to an exported folder, each as the known files that it consists of."""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import opened_tensors, read_json, write_json
from .words import without_paths

if TYPE_CHECKING:
    from ..integrations.diffusers.component_files import Kind
    from ..integrations.diffusers.folder import Saved


def copied(base: Saved, folder: Path, network: str) -> dict[str, Any]:
    """Copy the components of a pipeline besides the network and the scheduler.

    Args:
        base: The pipeline.
        folder: The folder to write to.
        network: The component that is the network.

    Returns:
        The entries of model_index.json, with the settings of the pipeline.

    Raises:
        ValueError: For a component that is not known, a file that is a link, and one that is not of its kind.
        FileNotFoundError: If a component has no config, or no weights in safetensors.
        ConnectionError: If a component is neither in the local cache of the hub nor may be downloaded.
    """
    from ..integrations.diffusers.components import component
    from ..integrations.diffusers.errors import explained

    kept = {name: value for name, value in base.index.items() if name[:1] != "_" and name not in (network, "scheduler")}
    for name, value in kept.items():
        if not isinstance(value, list) or value == [None, None]:
            continue
        part = component(base.name, name, value)
        with explained(base.name, name, online=base.online):
            source = base.folder(part)
        try:
            copy_component(part.kind, source, folder / name)
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"the {name} of {base.name} cannot be copied: {error}") from None
    return kept


def copy_component(kind: Kind, source: Path, target: Path) -> None:
    """Copy the files of a component; weights that are there as one variant alone become the main ones.

    Args:
        kind: Its files.
        source: Its folder.
        target: The folder to write.

    Raises:
        ValueError: For a file that is a link, or not of its kind.
        FileNotFoundError: If there is no config, or there are no weights in safetensors.
    """
    from ..integrations.diffusers.component_files import config_of, files_of

    variant = _only_variant(source, kind)
    target.mkdir()
    for name in files_of(source, kind, variant):
        path = regular_file(source.parent, f"{source.name}/{name}")
        main = name if variant is None else name.replace(f".{variant}", "", 1)
        if name == kind.config:
            write_json(target / name, _without_origin(config_of(source, kind)))
            continue
        if name.endswith(".safetensors"):
            with opened_tensors(path, "give the folder of another model"):
                pass
        shutil.copyfile(path, target / main)
        if variant is not None and name == kind.index(variant):
            index = read_json(path)
            names = {key: str(value).replace(f".{variant}", "", 1) for key, value in index["weight_map"].items()}
            write_json(target / main, {**index, "weight_map": names})


def regular_file(folder: Path, name: str) -> Path:
    """Return a file of a folder, if it is a regular file that lies in it.

    A link is refused, because a copy would carry away the file that it leads to, from anywhere on the machine. The
    links in the cache of the Hugging Face hub are accepted, from a snapshot to the blobs of the same repository.

    Args:
        folder: The folder.
        name: The name in it, with `/` between its parts.

    Returns:
        The file, without links.

    Raises:
        ValueError: If it is a link, or no regular file.
    """
    root = folder.resolve()
    path = root / name
    target = path.resolve()
    of_hub = root.parent.name == "snapshots" and target.parent == root.parent.parent / "blobs"
    if target != path and not of_hub:
        raise ValueError(
            f"{folder / name} is a link to {target}, and links are not followed: put the file itself there"
        )
    if not (target.exists() and stat.S_ISREG(target.lstat().st_mode)):
        raise ValueError(f"{folder / name} is no regular file")
    return target


def _without_origin(config: Mapping[str, Any]) -> dict[str, Any]:
    """Shorten the paths by which a config says where it was saved."""
    return {key: without_paths(value) if key.endswith(("_path", "_file")) else value for key, value in config.items()}


def _only_variant(source: Path, kind: Kind) -> str | None:
    """Name the variant of the weights if there are no main ones; None otherwise."""
    if not kind.weights or any((source / name).is_file() for name in (kind.single(None), kind.index(None))):
        return None
    single, index = (re.escape(name("VARIANT")).replace("VARIANT", r"(\w+)") for name in (kind.single, kind.index))
    there = sorted(path.name for path in source.iterdir()) if source.is_dir() else []
    return next(
        (found[1] for name in there if (found := re.fullmatch(single, name) or re.fullmatch(index, name))), None
    )
