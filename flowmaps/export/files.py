"""Write the files of an exported folder: source, weights and index."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor

from ..files import FULL, not_written, remove, remove_leftovers, save_tensors, temporary_name, write_json
from ..flow_map import FlowMap
from ..path import linear
from ..runs.lock import FolderLock
from .source import PACKAGE, Name, gathered

MARK = "flow_map.json"
"""The file that marks a folder as an export of flowmaps, which the next export may replace."""
TEMPLATES = f"{PACKAGE}.export.templates"


@dataclass(frozen=True)
class Code:
    """One file of source code.

    Attributes:
        stem: The name of the file without its checksum.
        text: The code.
    """

    stem: str
    text: str

    @property
    def name(self) -> str:
        """The name of the module, with a checksum because diffusers keeps the code of all folders together."""
        return f"{self.stem}_{hashlib.sha256(self.text.encode()).hexdigest()[:8]}"

    def around(self, old: str, new: str) -> Code:
        """Replace the base class of diffusers, `old`, by `new`."""
        return Code(self.stem, self.text.replace(f"import {old} as Stock", f"import {new} as Stock"))

    def write(self, folder: Path) -> str:
        """Write the file to a folder and return the name of the module."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.py").write_text(self.text, encoding="utf-8")
        return self.name


def code(stem: str, about: str, *names: Name) -> Code:
    """Gather definitions into one file that does not need flowmaps.

    Args:
        stem: The name of the file without its checksum.
        about: First line of its docstring.
        *names: The definitions, pairs (module, name).

    Returns:
        The file.
    """
    head = f'"""{about}\n\nWritten by flowmaps {made_by()}, Apache-2.0. It needs torch and diffusers alone.\n"""\n\n'
    return Code(stem, head + gathered(list(names)))


def made_by() -> str:
    """Return the version of this package."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "(no version)"


def write_folder(folder: str | Path, write: Callable[[Path], None]) -> Path:
    """Write a folder atomically: to a temporary name, renamed when it is complete. An earlier export is replaced.

    Args:
        folder: The folder.
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
            if os.path.lexists(folder):
                remove(folder)
            beside.rename(folder)
        except OSError as error:
            raise (not_written(folder, error) if error.errno in FULL else error) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


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
        name = "FlowMapRestartScheduler"
        source = code("flow_map_restart", "Steps of a map to the data alone.", (f"{TEMPLATES}.restart", name))
        scheduler = {"scheduler": [source.write(folder / "scheduler"), name]}
    head = {"_class_name": pipeline, "_diffusers_version": diffusers.__version__}
    write_json(folder / "model_index.json", {**head, **components, **scheduler})
