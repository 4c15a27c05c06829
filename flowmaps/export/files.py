"""What the parts of an exported folder are written with."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor

from ..flow_map import FlowMap
from ..path import linear
from .source import PACKAGE, Name, gathered

MARK = "flow_map.json"
"""What says that a folder was exported from here, so that the next export may replace it."""
TEMPLATES = f"{PACKAGE}.export.templates"


@dataclass(frozen=True)
class Code:
    """One file of source. Its name carries a part of its checksum, because diffusers keeps the code of all the folders
    that it loads side by side.
    """

    stem: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.stem}_{hashlib.sha256(self.text.encode()).hexdigest()[:8]}"

    def around(self, old: str, new: str) -> Code:
        """The same around another class of diffusers."""
        return Code(self.stem, self.text.replace(f"import {old} as Stock", f"import {new} as Stock"))

    def write(self, folder: Path) -> str:
        """Write it; the name of the module."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.py").write_text(self.text, encoding="utf-8")
        return self.name


def code(stem: str, about: str, *names: Name) -> Code:
    """A file that defines `names`, pairs (module, name), and needs no flowmaps."""
    head = f'"""{about}\n\nWritten by flowmaps {made_by()}, Apache-2.0. It needs torch and diffusers alone.\n"""\n\n'
    return Code(stem, head + gathered(list(names)))


def made_by() -> str:
    """The version of this package."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "(no version)"


def whole_or_absent(folder: str | Path, write: Callable[[Path], None]) -> Path:
    """Write a folder beside its place and move it there when it is whole; an earlier export is replaced.

    Raises FileExistsError where something else is there.
    """
    folder = Path(folder)
    check_free(folder)
    beside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        write(beside)
        if folder.exists():
            shutil.rmtree(folder)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def check_free(folder: Path) -> None:
    """Raises FileExistsError for a place that is taken by something that is no export."""
    if not folder.exists() or (folder / MARK).is_file() or (folder.is_dir() and not any(folder.iterdir())):
        return
    raise FileExistsError(f"{folder} exists and is no export of flowmaps: choose another folder")


def write_model(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """config.json and the weights of one component."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    # cloned, because a file of tensors cannot hold two that share memory
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})


def write_index(folder: Path, pipeline: list[str], components: Mapping[str, Any], flow: FlowMap) -> None:
    """model_index.json and the scheduler that samples flow maps, which for one to the data alone restarts."""
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


def write_json(path: Path, value: Any) -> None:
    """One JSON document."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
