"""The folder of a pipeline, with components that are loaded one by one when they are needed.

    model_index.json    the class of the pipeline and of every component
    unet/, transformer/ config.json and the weights of the network
    scheduler/, vae/, text_encoder/, tokenizer/, ...

The same holds for a name on the Hugging Face hub: only the files of the requested components are downloaded. Only known
classes are loaded, each from its known files, and weights from safetensors alone; see `components`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import torch

from ...files import read_json
from ...serialise import fits, shown_value
from .component_files import Kind, cached_file, config_of, files_of, folder_of, is_plain
from .components import Component, class_of, component
from .errors import explained, listed
from .networks import DiffusersNetwork

NETWORKS = ("unet", "transformer", "transformer_2")
"""Components that may be the network; some pipelines have two, one for each part of the times."""


def opened(folder_or_pipeline: Any, variant: str | None = None, *, online: bool = True) -> Saved | Loaded:
    """Open a pipeline to load its components.

    Args:
        folder_or_pipeline: A folder, a name on the hub, or a loaded pipeline.
        variant: Variant of the weight files, such as "fp16".
        online: Whether the files of a name on the hub may be downloaded. False: only the local cache is read, for a
            name that was found in a file.

    Returns:
        The opened pipeline.

    Raises:
        TypeError: For anything else.
        OSError: If there is no pipeline; see `explained`.
        ValueError: For a broken model_index.json.
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
    return Saved(name, _index(name, online), variant, online)


def networks(pipeline: Saved | Loaded) -> list[str]:
    """Name the components that are networks.

    Raises:
        ValueError: If there is none.
    """
    if found := [name for name in NETWORKS if pipeline.has(name)]:
        return found
    raise ValueError(
        f"{pipeline.name} has no network: none of its components ({', '.join(pipeline.names)}) is a unet or a "
        "transformer"
    )


def id2label(pipeline: Saved | Loaded, network: str) -> dict[int, str]:
    """Read the class names of a pipeline by number, from the entry `id2label` of the pipeline or of its network.

    Args:
        pipeline: The pipeline.
        network: The component.

    Returns:
        The names; {} if there are none.

    Raises:
        ValueError: For an entry that does not give names by number.
    """
    found = pipeline.setting("id2label") or pipeline.config(network).get("id2label") or {}
    names = {str(number): name for number, name in found.items()} if isinstance(found, dict) else None
    if not fits(names, dict[str, str]) or not all(re.fullmatch(r"\d{1,8}", number) for number in names or ()):
        raise ValueError(
            f"id2label of {pipeline.name} must give a class name for each number, got {shown_value(found)}: correct "
            "it, or remove it from model_index.json"
        )
    return {int(number): name for number, name in (names or {}).items()}


@dataclass(frozen=True)
class Saved:
    """A pipeline in a folder or on the hub.

    Attributes:
        name: The folder or the name on the hub.
        index: Its model_index.json.
        variant: Variant of the weight files.
        online: Whether the files of a name on the hub may be downloaded.
    """

    name: str
    index: Mapping[str, Any]
    variant: str | None = None
    online: bool = True

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class of the pipeline; for a pipeline with its own code, the class in that code."""
        name = self.index["_class_name"]
        return (name if isinstance(name, str) else name[-1],)

    @property
    def names(self) -> list[str]:
        """The names of its components."""
        lists = {
            key: value
            for key, value in self.index.items()
            if isinstance(value, list) and is_plain(key) and key != "id2label"
        }
        return [key for key, value in lists.items() if value and value[-1] is not None]

    def has(self, name: str) -> bool:
        """Tell whether it has a component."""
        return name in self.names

    def entry(self, name: str) -> tuple[str, str]:
        """Return library and class of a component, which may be unknown."""
        listed = self.index[name]
        return (".".join(map(str, listed[:-1])), str(listed[-1]))

    def class_name(self, name: str) -> str:
        """Name the class of a component."""
        return self.component(name).class_name

    def setting(self, name: str) -> Any:
        """Return a setting of the pipeline itself, such as boundary_ratio; None if it is not set."""
        return self.index.get(name)

    def config(self, name: str) -> dict[str, Any]:
        """Read the config of a component, without its weights."""
        part = self.component(name)
        alone = replace(part, kind=Kind(part.kind.config))  # not to download its weights
        with explained(self.name, name, online=self.online):
            return config_of(self.folder(alone), part.kind)

    def network(self, name: str, dtype: torch.dtype | None) -> DiffusersNetwork:
        """Load a network in a dtype (None: float32)."""
        part, kind = self.component(name), None if dtype is None else str(dtype).removeprefix("torch.")
        with explained(self.name, name, self.variant, online=self.online):
            self.folder(part, self.variant)
        return DiffusersNetwork(part.class_name, self.config(name), self.name, name, variant=self.variant, dtype=kind)

    def part(self, name: str, dtype: torch.dtype | None = None) -> Any:
        """Load a component in a dtype (None: float32)."""
        part = self.component(name)
        variant = self.variant if part.kind.weights else None
        with explained(self.name, name, variant, online=self.online):
            return part.load(self.folder(part, variant), variant, dtype)

    def only(self, *kinds: str, dtype: torch.dtype | None = None) -> Any:
        """Load the pipeline with some of its components.

        Args:
            *kinds: Prefixes of the components; the others are None.
            dtype: Dtype of the weights. None: float32.

        Returns:
            The pipeline.
        """
        arguments = list(inspect.signature(class_of("diffusers", self.class_names[0])).parameters.values())
        without = {argument.name: None for argument in arguments if argument.default is argument.empty}
        settings = {key: value for key, value in self.index.items() if not isinstance(value, list)}
        known = {argument.name: settings[argument.name] for argument in arguments if argument.name in settings}
        parts = {name: self._with_variant(name).part(name, dtype) for name in self.names if name.startswith(kinds)}
        return class_of("diffusers", self.class_names[0])(**without | known | parts)

    def component(self, name: str) -> Component:
        """Check the entry of a component.

        Raises:
            ValueError: If there is none of this name, or its class is not known.
        """
        if not self.has(name):
            raise ValueError(f"{self.name} has no component {name!r}; it has {', '.join(self.names)}")
        return component(self.name, name, self.index[name])

    def folder(self, part: Component, variant: str | None = None) -> Path:
        """Return the folder of a component, with the weights of a variant, downloaded if needed."""
        return folder_of(self.name, part.name, part.kind, variant, online=self.online)

    def _with_variant(self, name: str) -> Saved:
        """Return this pipeline; without its variant if the component has no such weights, as diffusers does."""
        part = self.component(name)
        if self.variant is None or not part.kind.weights:
            return self
        try:
            with explained(self.name, name, self.variant, online=self.online):
                files_of(self.folder(part, self.variant), part.kind, self.variant)
        except FileNotFoundError:
            return replace(self, variant=None)
        return self


@dataclass(frozen=True)
class Loaded:
    """A pipeline in memory, with the interface of `Saved`.

    Attributes:
        pipeline: The pipeline of diffusers.
    """

    pipeline: Any

    @property
    def name(self) -> str:
        """A name for error messages."""
        return f"this {type(self.pipeline).__name__}"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the pipeline, with its bases."""
        return tuple(cls.__name__ for cls in type(self.pipeline).__mro__)

    @cached_property
    def names(self) -> list[str]:
        """The names of its components."""
        return [name for name, part in self.pipeline.components.items() if part is not None]

    def has(self, name: str) -> bool:
        """Tell whether it has a component."""
        return name in self.names

    def entry(self, name: str) -> tuple[str, str]:
        """Return library and class of a component."""
        kind = type(self.part(name))
        package, *parts = kind.__module__.split(".")
        return (parts[1] if parts[:1] == ["pipelines"] else package, kind.__name__)

    def class_name(self, name: str) -> str:
        """Name the class of a component."""
        return self.entry(name)[1]

    def setting(self, name: str) -> Any:
        """Return a setting of the pipeline itself; None if it is not set."""
        return self.pipeline.config.get(name)

    def config(self, name: str) -> dict[str, Any]:
        """Return the config of a component."""
        return dict(self.part(name).config)

    def network(self, name: str, dtype: torch.dtype | None) -> DiffusersNetwork:
        """Return a network.

        Args:
            name: The component.
            dtype: Its dtype, which cannot be changed here. None: its own.

        Returns:
            The network around the component.

        Raises:
            ValueError: For another dtype.
        """
        model = self.part(name)
        if dtype not in (None, model.dtype):
            raise ValueError(f"a loaded pipeline keeps its dtype, {model.dtype}: call pipeline.to({dtype}) before")
        return DiffusersNetwork.around(model)

    def part(self, name: str) -> Any:
        """Return a component.

        Raises:
            ValueError: If there is none of this name.
        """
        if not self.has(name):
            raise ValueError(f"{self.name} has no component {name!r}; it has {', '.join(self.names)}")
        return getattr(self.pipeline, name)

    def only(self, *kinds: str, dtype: torch.dtype | None = None) -> Any:
        """Return the pipeline, with all its components."""
        return self.pipeline


def _index(name: str, online: bool) -> dict[str, Any]:
    """Read model_index.json of a folder or of a repository on the hub."""
    if Path(name).is_dir():
        file = Path(name, "model_index.json")
        if not file.is_file():
            own = (Path(name) / "config.json").is_file()
            hint = "it is the folder of one model: give the folder of its pipeline" if own else ""
            hint = hint or f"it holds {listed(Path(name), 8)}"
            raise FileNotFoundError(f"{name} is no pipeline of diffusers, it has no model_index.json; {hint}")
    else:
        from huggingface_hub import hf_hub_download

        with explained(name, "model_index.json", online=online):
            index_file = "model_index.json"
            file = Path(hf_hub_download(name, index_file)) if online else cached_file(name, index_file)
    index = read_json(file)
    if not (isinstance(index, dict) and fits(index.get("_class_name"), str | tuple[str, str])):
        raise ValueError(f"{file} names no pipeline: it has no _class_name")
    return index
