"""Write the files of an exported folder: weights, index and the list of its files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..files import (
    FULL,
    checksum,
    not_written,
    read_json,
    remove,
    remove_leftovers,
    save_tensors,
    temporary_name,
    write_json,
)
from ..flow_map import FlowMap
from ..path import linear
from ..runs.lock import FolderLock
from .code import Code, made_by

MARK = "flow_map.json"
"""The file that marks a folder as an export of flowmaps, which the next export may replace, and lists its files."""
CARD = "README.md"
"""The model card, to which its reader may add a licence: it is not among the listed files."""


def write_folder(folder: str | Path, kind: str, write: Callable[[Path], None]) -> Path:
    """Write a folder atomically: to a temporary name, renamed when it is complete. An earlier export is replaced.

    Args:
        folder: The folder.
        kind: "pipeline" or "adapter".
        write: Writes the content to a given folder.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder holds something else.
        BlockingIOError: Another process writes this folder.
        OSError: The disk is full; an earlier export is kept.
    """
    folder = Path(folder)
    check_free(folder)
    with FolderLock(folder.parent, f"exporting to {folder.name} in it", f".{folder.name}.lock"):
        remove_leftovers(folder.parent, folder.name)
        beside = temporary_name(folder)
        try:
            beside.mkdir()
            write(beside)
            listed = {name: checksum(beside / name) for name in names_of(beside) if name != CARD}
            write_json(beside / MARK, {"format": 2, "kind": kind, "flowmaps": made_by(), "files": listed})
            if os.path.lexists(folder):
                remove(folder)
            beside.rename(folder)
        except OSError as error:
            raise (not_written(folder, error) if error.errno in FULL else error) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def add_file(folder: Path, name: str) -> None:
    """Add a file that was written to an exported folder to the list of its files."""
    mark = read_json(folder / MARK)
    mark["files"][name] = checksum(folder / name)
    write_json(folder / MARK, mark)


def names_of(folder: Path) -> list[str]:
    """List the names of all files and links in a folder, with `/` between their parts."""

    def walk(here: Path) -> Iterator[str]:
        for path in sorted(here.iterdir()):
            if path.is_dir() and not path.is_symlink():
                yield from walk(path)
            else:
                yield path.relative_to(folder).as_posix()

    return list(walk(folder))


def check_free(folder: Path) -> None:
    """Check that a folder is missing, empty or an earlier export.

    Raises:
        FileExistsError: Otherwise.
    """
    if not folder.exists() or (folder / MARK).is_file() or (folder.is_dir() and not any(folder.iterdir())):
        return
    raise FileExistsError(f"{folder} exists and is no export of flowmaps: choose another folder")


def write_model(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write config.json and the weights of one component.

    Args:
        folder: The folder of the component, created if missing.
        config: Its config.
        weights: Its weights by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    # cloned, because a file of tensors cannot hold two that share memory
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}
    save_tensors(folder / "diffusion_pytorch_model.safetensors", tensors, {"format": "pt"})


def write_index(folder: Path, pipeline: list[str], components: Mapping[str, Any], flow: FlowMap) -> None:
    """Write model_index.json and the scheduler, which restarts from noise for a map that only jumps to the data.

    Args:
        folder: The folder of the pipeline.
        pipeline: Module and class of the pipeline.
        components: Entries of the other components.
        flow: The flow map.
    """
    import diffusers

    sampler: Any = diffusers.FlowMapEulerDiscreteScheduler()
    sampler.save_pretrained(folder / "scheduler")
    scheduler = {"scheduler": ["diffusers", "FlowMapEulerDiscreteScheduler"]}
    if flow.only_target == 0 and flow.path == linear:
        code = Code("restart")
        scheduler = {"scheduler": [code.write(folder / "scheduler"), code.defines]}
    head = {"_class_name": pipeline, "_diffusers_version": diffusers.__version__}
    write_json(folder / "model_index.json", {**head, **components, **scheduler})
