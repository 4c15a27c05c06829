"""The folder of a pipeline: which components it has, loaded one by one, so that nothing is loaded that is not needed.

    model_index.json    the class of the pipeline and of every component
    unet/, transformer/ config.json and the weights of the network
    scheduler/, vae/, text_encoder/, tokenizer/, ...

A name on the Hugging Face hub goes the same way: only the files of the components that are asked for are downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import torch

from .errors import explained
from .networks import DiffusersNetwork, in_dtype

NETWORKS = ("unet", "transformer", "transformer_2")
"""The components that may be the network; two where a pipeline has one for each end of time."""


def opened(folder_or_pipeline: Any, variant: str | None = None) -> Saved | Loaded:
    """A folder, a name on the hub or a loaded pipeline, to ask for its components. Raises OSError (see `explained`)
    where there is no pipeline.
    """
    if isinstance(folder_or_pipeline, Saved | Loaded):
        return folder_or_pipeline
    if isinstance(folder_or_pipeline, diffusers.DiffusionPipeline):
        return Loaded(folder_or_pipeline)
    if not isinstance(folder_or_pipeline, str | Path):
        raise TypeError(
            "expected the folder of a pipeline, a name on the Hugging Face hub or a loaded pipeline, got a "
            f"{type(folder_or_pipeline).__name__}"
        )
    folder = Path(folder_or_pipeline).expanduser()
    name = str(folder.resolve()) if folder.is_dir() else str(folder_or_pipeline)
    return Saved(name, _index(name), variant)


def networks(pipeline: Saved | Loaded) -> list[str]:
    """The components that are networks. Raises ValueError where there is none."""
    if found := [name for name in NETWORKS if pipeline.has(name)]:
        return found
    raise ValueError(
        f"{pipeline.name} has no network: none of its components ({', '.join(pipeline.names)}) is a unet or a "
        "transformer"
    )


@dataclass(frozen=True)
class Saved:
    """A pipeline in a folder or on the hub."""

    name: str
    index: Mapping[str, Any]
    variant: str | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class of the pipeline; of one with code of its own, the class in that code."""
        name = self.index["_class_name"]
        return (name if isinstance(name, str) else name[-1],)

    @property
    def names(self) -> list[str]:
        """The components that it has."""
        return [key for key, value in self.index.items() if isinstance(value, list) and value[-1] is not None]

    def has(self, name: str) -> bool:
        return name in self.names

    def class_name(self, name: str) -> str:
        """Of a component."""
        return self._class(name).__name__

    def setting(self, name: str) -> Any:
        """What the pipeline itself is told, such as boundary_ratio; None where it is not."""
        return self.index.get(name)

    def config(self, name: str) -> dict[str, Any]:
        """Of a component of diffusers, without its weights."""
        with explained(self.name, name):
            return dict(self._class(name).load_config(self.name, subfolder=name))

    def network(self, name: str, dtype: torch.dtype | None) -> DiffusersNetwork:
        said = None if dtype is None else str(dtype).removeprefix("torch.")
        return DiffusersNetwork(
            self.class_name(name), self.config(name), self.name, name, variant=self.variant, dtype=said
        )

    def part(self, name: str) -> Any:
        """A component of diffusers, loaded."""
        cls = self._class(name)
        with explained(self.name, name, self.variant if issubclass(cls, torch.nn.Module) else None):
            variant = {"variant": self.variant} if issubclass(cls, torch.nn.Module) else {}
            return cls.from_pretrained(self.name, subfolder=name, **variant)

    def only(self, *kinds: str, dtype: torch.dtype | None = None) -> Any:
        """The pipeline with nothing but the components whose names begin with one of `kinds`; the others are None."""
        cls = self._of_diffusers(self.class_names[0])
        without = [key for key, value in self.index.items() if isinstance(value, list) and not key.startswith(kinds)]
        with explained(self.name, " and ".join(kinds), self.variant):
            return cls.from_pretrained(
                self.name, variant=self.variant, **in_dtype(dtype or torch.float32), **dict.fromkeys(without)
            )

    def _class(self, name: str) -> Any:
        if not self.has(name):
            raise ValueError(f"{self.name} has no component {name!r}; it has {', '.join(self.names)}")
        library, class_name = self.index[name]
        if library != "diffusers":
            raise ValueError(
                f"the {name} of {self.name} is a {class_name} of {library!r}, not of diffusers: load the pipeline by "
                "DiffusionPipeline.from_pretrained and give the pipeline itself"
            )
        return self._of_diffusers(class_name)

    def _of_diffusers(self, class_name: str) -> Any:
        if not hasattr(diffusers, class_name):
            raise ValueError(
                f"{self.name} needs the class {class_name!r}, which diffusers {diffusers.__version__} has not: a newer "
                "diffusers may"
            )
        return getattr(diffusers, class_name)


@dataclass(frozen=True)
class Loaded:
    """A pipeline in memory."""

    pipeline: Any

    @property
    def name(self) -> str:
        return f"this {type(self.pipeline).__name__}"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class of the pipeline and those that it comes from."""
        return tuple(cls.__name__ for cls in type(self.pipeline).__mro__)

    @cached_property
    def names(self) -> list[str]:
        """The components that it has."""
        return [name for name, part in self.pipeline.components.items() if part is not None]

    def has(self, name: str) -> bool:
        return name in self.names

    def class_name(self, name: str) -> str:
        """Of a component."""
        return type(self.part(name)).__name__

    def setting(self, name: str) -> Any:
        """What the pipeline itself is told; None where it is not."""
        return self.pipeline.config.get(name)

    def config(self, name: str) -> dict[str, Any]:
        return dict(self.part(name).config)

    def network(self, name: str, dtype: torch.dtype | None) -> DiffusersNetwork:
        model = self.part(name)
        if dtype not in (None, model.dtype):
            raise ValueError(f"a loaded pipeline keeps its dtype, {model.dtype}: call pipeline.to({dtype}) before")
        return DiffusersNetwork.around(model)

    def part(self, name: str) -> Any:
        if not self.has(name):
            raise ValueError(f"{self.name} has no component {name!r}; it has {', '.join(self.names)}")
        return getattr(self.pipeline, name)

    def only(self, *kinds: str, dtype: torch.dtype | None = None) -> Any:
        """The pipeline as it is."""
        return self.pipeline


def _index(name: str) -> dict[str, Any]:
    """model_index.json of a folder or of a repository on the hub."""
    if Path(name).is_dir():
        file = Path(name, "model_index.json")
        if not file.is_file():
            own = (Path(name) / "config.json").is_file()
            hint = "it is the folder of one model: give that of the pipeline around it" if own else _what(Path(name))
            raise FileNotFoundError(f"{name} is no pipeline of diffusers, it has no model_index.json; {hint}")
    else:
        from huggingface_hub import hf_hub_download

        with explained(name, "model_index.json"):
            file = Path(hf_hub_download(name, "model_index.json"))
    try:
        index = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
    if not (isinstance(index, dict) and "_class_name" in index):
        raise ValueError(f"{file} names no pipeline: it has no _class_name")
    return index


def _what(folder: Path) -> str:
    return f"it holds {', '.join(sorted(p.name for p in folder.iterdir())[:8]) or 'nothing'}"
