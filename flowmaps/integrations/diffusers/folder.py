"""The folder of a pipeline, with components that are loaded one by one when they are needed.

    model_index.json    the class of the pipeline and of every component
    unet/, transformer/ config.json and the weights of the network
    scheduler/, vae/, text_encoder/, tokenizer/, ...

The same holds for a name on the Hugging Face hub: only the files of the requested components are downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import torch

from ...files import read_json
from ...serialise import fits
from .errors import explained, listed
from .networks import DiffusersNetwork, in_dtype

NETWORKS = ("unet", "transformer", "transformer_2")
"""Components that may be the network; some pipelines have two, one for each part of the times."""


def opened(folder_or_pipeline: Any, variant: str | None = None) -> Saved | Loaded:
    """Open a pipeline to load its components.

    Args:
        folder_or_pipeline: A folder, a name on the hub, or a loaded pipeline.
        variant: Variant of the weight files, such as "fp16".

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
    return Saved(name, _index(name), variant)


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


@dataclass(frozen=True)
class Saved:
    """A pipeline in a folder or on the hub.

    Attributes:
        name: The folder or the name on the hub.
        index: Its model_index.json.
        variant: Variant of the weight files.
    """

    name: str
    index: Mapping[str, Any]
    variant: str | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class of the pipeline; for a pipeline with its own code, the class in that code."""
        name = self.index["_class_name"]
        return (name if isinstance(name, str) else name[-1],)

    @property
    def names(self) -> list[str]:
        """The names of its components."""
        return [key for key, value in self.index.items() if fits(value, tuple[str, str])]

    def has(self, name: str) -> bool:
        """Tell whether it has a component."""
        return name in self.names

    def class_name(self, name: str) -> str:
        """Name the class of a component."""
        return self._class(name).__name__

    def setting(self, name: str) -> Any:
        """Return a setting of the pipeline itself, such as boundary_ratio; None if it is not set."""
        return self.index.get(name)

    def config(self, name: str) -> dict[str, Any]:
        """Read the config of a component of diffusers, without its weights."""
        with explained(self.name, name):
            return dict(self._class(name).load_config(self.name, subfolder=name))

    def network(self, name: str, dtype: torch.dtype | None) -> DiffusersNetwork:
        """Load a network in a dtype (None: float32)."""
        kind = None if dtype is None else str(dtype).removeprefix("torch.")
        return DiffusersNetwork(
            self.class_name(name), self.config(name), self.name, name, variant=self.variant, dtype=kind
        )

    def part(self, name: str) -> Any:
        """Load a component of diffusers."""
        cls = self._class(name)
        with explained(self.name, name, self.variant if issubclass(cls, torch.nn.Module) else None):
            variant = {"variant": self.variant} if issubclass(cls, torch.nn.Module) else {}
            return cls.from_pretrained(self.name, subfolder=name, **variant)

    def only(self, *kinds: str, dtype: torch.dtype | None = None) -> Any:
        """Load the pipeline with some of its components.

        Args:
            *kinds: Prefixes of the components; the others are None.
            dtype: Dtype of the weights. None: float32.

        Returns:
            The pipeline.
        """
        cls = self._of_diffusers(self.class_names[0], diffusers.DiffusionPipeline)
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
        return self._of_diffusers(class_name, (diffusers.ModelMixin, diffusers.SchedulerMixin))

    def _of_diffusers(self, class_name: Any, kinds: Any) -> Any:
        """Find a class of diffusers by its name in the index. The name is in diffusers' own list of its classes."""
        found = getattr(diffusers, class_name) if class_name in vars(diffusers)["__all__"] else None
        if not (isinstance(found, type) and issubclass(found, kinds)):
            raise ValueError(
                f"{self.name} needs the class {class_name!r}, which diffusers {diffusers.__version__} does not have: "
                "a newer diffusers may"
            )
        return found


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

    def class_name(self, name: str) -> str:
        """Name the class of a component."""
        return type(self.part(name)).__name__

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


def _index(name: str) -> dict[str, Any]:
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

        with explained(name, "model_index.json"):
            file = Path(hf_hub_download(name, "model_index.json"))
    index = read_json(file)
    if not (isinstance(index, dict) and fits(index.get("_class_name"), str | tuple[str, str])):
        raise ValueError(f"{file} names no pipeline: it has no _class_name")
    return index
