"""The classes of components that are known, and the way to load one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import torch
from packaging.version import Version

from ...files import tensor_shapes
from ...runs.outline import check_size
from .component_files import ENCODER, MODEL, PROCESSOR, SCHEDULER, TOKENIZER, Kind, is_plain, staged
from .kinds import KINDS

VAES = "AutoencoderKL AutoencoderKLWan AutoencoderTiny AsymmetricAutoencoderKL VQModel".split()
ENCODERS = (
    "CLIPTextModel CLIPTextModelWithProjection T5EncoderModel UMT5EncoderModel CLIPVisionModel "
    "CLIPVisionModelWithProjection SiglipVisionModel"
).split()
TOKENIZERS = "CLIPTokenizer CLIPTokenizerFast T5Tokenizer T5TokenizerFast".split()
PROCESSORS = "CLIPImageProcessor CLIPFeatureExtractor SiglipImageProcessor".split()
CLASSES: Mapping[str, Mapping[str, Kind]] = {
    "diffusers": dict.fromkeys((*KINDS, *VAES), MODEL),
    "transformers": dict.fromkeys(ENCODERS, ENCODER)
    | dict.fromkeys(TOKENIZERS, TOKENIZER)
    | dict.fromkeys(PROCESSORS, PROCESSOR),
    "stable_diffusion": {"StableDiffusionSafetyChecker": ENCODER},
}
"""Known classes by library, as model_index.json names them; all schedulers of diffusers are known too."""
PARTS = ("stable_diffusion",)
"""Libraries of model_index.json that are parts of diffusers."""
PADDING = ("CLIPTokenizer", "CLIPTokenizerFast")
"""Tokenizers with which pipelines pad each text to its model_max_length."""
LONGEST_TEXT = 2**15
"""Largest number of tokens that a text is padded to."""
RENAMED = {"CLIPFeatureExtractor": "CLIPImageProcessor"}


@dataclass(frozen=True)
class Component:
    """A known component of a pipeline.

    Attributes:
        name: Its name, and the name of its folder.
        library: The library, as model_index.json names it.
        class_name: The class.
        kind: Its files.
    """

    name: str
    library: str
    class_name: str
    kind: Kind

    @property
    def type(self) -> Any:
        """The class. Raises ValueError if the installed version of its library does not have it."""
        return class_of(self.library, RENAMED.get(self.class_name, self.class_name))

    def load(self, folder: Path, variant: str | None = None, dtype: torch.dtype | None = None, **options: Any) -> Any:
        """Load it, without the network and from its known files alone.

        Args:
            folder: Its folder.
            variant: Variant of the weight files. None: the main files.
            dtype: Dtype of the weights. None: float32.
            **options: Further arguments of its from_pretrained.

        Returns:
            The result of its from_pretrained.

        Raises:
            FileNotFoundError: If a file is missing; weights are read from safetensors alone.
            ValueError: If its config names code or other files.
        """
        if self.kind.weights:
            options |= {"use_safetensors": True, "variant": variant}
            options |= in_dtype(dtype) if self.library == "diffusers" else {"dtype": dtype or torch.float32}
        with staged(folder, self.kind, variant) as files:
            return loaded(self.type, files, self.kind, folder, **options)


def loaded(cls: Any, files: Path, kind: Kind, folder: Path, **options: Any) -> Any:
    """Load a component from its known files by its class, whose size is compared with its weights first.

    Args:
        cls: The class, of diffusers or transformers.
        files: A folder of its known files alone.
        kind: Its files.
        folder: Its own folder, for messages.
        **options: Further arguments of its from_pretrained.

    Returns:
        The result of its from_pretrained.

    Raises:
        ValueError: If its config describes a far larger network than its weights, or texts of far more tokens than
            any encoder takes.
    """
    if kind.weights:
        config = json.loads((files / kind.config).read_text(encoding="utf-8"))
        shapes: dict[str, tuple[int, ...]] = {}
        for path in files.glob("*.safetensors"):
            shapes |= tensor_shapes(path)
        check_size(lambda: _made(cls, config), shapes, folder)
    made = cls.from_pretrained(files, local_files_only=True, **options)
    if cls.__name__ in PADDING and made.model_max_length > LONGEST_TEXT:
        raise ValueError(
            f"model_max_length of {kind.config} must be at most {LONGEST_TEXT}, the number of tokens that each text is "
            f"padded to, got {made.model_max_length}"
        )
    return made


def _made(cls: Any, config: dict[str, Any]) -> Any:
    """Make a model of its config. Raises ValueError if it cannot be made."""
    try:
        return cls(cls.config_class.from_dict(config)) if hasattr(cls, "config_class") else cls.from_config(config)
    except (TypeError, AttributeError, KeyError, RuntimeError, ZeroDivisionError) as error:
        raise ValueError(f"its config does not describe a {cls.__name__}: {error}") from error


def component(pipeline: str, name: str, entry: Any) -> Component:
    """Check the entry of a component in model_index.json.

    Args:
        pipeline: The pipeline, for messages.
        name: Name of the component.
        entry: The entry, [library, class].

    Returns:
        The component.

    Raises:
        ValueError: For a name that is no plain name, and for a library or a class that is not known.
    """
    if not is_plain(name):
        raise ValueError(f"{pipeline} has a component {name!r}: its name must have letters, digits and _ alone")
    if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)):
        raise ValueError(f"the {name} of {pipeline} must be given as [library, class], not as {entry!r}")
    library, class_name = entry
    kind = kind_of(library, class_name)
    if kind is None:
        known = f" (known are {', '.join(CLASSES[library])})" if library in CLASSES else ""
        raise ValueError(
            f"the {name} of {pipeline} is a {class_name} of {library!r}, which flowmaps neither loads nor "
            f"copies{known}: load the pipeline by DiffusionPipeline.from_pretrained and give the pipeline itself, or "
            f'leave this part out by "{name}": [null, null] in its model_index.json'
        )
    return Component(name, library, class_name, kind)


def kind_of(library: str, class_name: str) -> Kind | None:
    """The files of a component of a class; None for a class that is not known."""
    return SCHEDULER if _is_scheduler(library, class_name) else CLASSES.get(library, {}).get(class_name)


def is_known(library: str, class_name: str) -> bool:
    """Tell whether a class of a component is known."""
    return kind_of(library, class_name) is not None


def class_of(library: str, class_name: str) -> Any:
    """Find a class of a known library.

    Raises:
        ValueError: If the installed version does not have it.
    """
    module: Any = import_module("diffusers.pipelines.stable_diffusion" if library in PARTS else library)
    if not hasattr(module, class_name):
        raise ValueError(f"the class {class_name!r} is needed, which this version of {module.__name__} does not have")
    return getattr(module, class_name)


def in_dtype(dtype: torch.dtype | None) -> dict[str, torch.dtype | None]:
    """Return the dtype as the keyword argument of from_pretrained of diffusers, which newer versions renamed."""
    return {"dtype" if Version(diffusers.__version__) >= Version("0.42") else "torch_dtype": dtype}


def _is_scheduler(library: str, class_name: str) -> bool:
    """Tell whether a class is a scheduler of diffusers, which has a config alone."""
    found = getattr(diffusers, class_name, None) if library == "diffusers" and is_plain(class_name) else None
    return isinstance(found, type) and issubclass(found, diffusers.SchedulerMixin)
