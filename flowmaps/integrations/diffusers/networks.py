"""The networks of diffusers, all with the call network(x, time, **condition) -> a tensor of x's shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from diffusers.models.embeddings import LabelEmbedding
from torch import Tensor, nn

from ...files import weights_checksum
from ...serialise import describable, dtype_named
from ...students import TimeLayers
from .component_files import MODEL, folder_of
from .components import Component
from .errors import explained
from .kinds import KINDS, NetworkKind, Shapes, flux
from .time_layers import time_layers


@describable
class DiffusersNetwork(nn.Module):
    """A network of diffusers, `.model`, called as network(x, time, **condition) -> a tensor of x's shape.

    x is (B, C, H, W), or (B, C, T, H, W) for video, and time (B,), or (B, T) if it has a `frame_axis`. x and the
    embeddings are cast to the dtype of the model, and the output to the dtype of x. Further output channels are a
    learned variance and are dropped. The model's own label dropout is off; the data do it.

    Args:
        class_name: One of KINDS.
        config: Arguments of the class, as in the config.json of the model's folder.
        folder: Folder of the pipeline with the weights, or a name on the hub, read from the local cache: this
            class never downloads, see `teacher`. None: random weights.
        subfolder: Folder of the model in it.
        variant: Variant of the weight files, such as "fp16". None: the main files.
        dtype: Dtype of the weights, such as "bfloat16". None: float32.

    Raises:
        ValueError: For an unknown class, and when called with an unknown shape or condition.
        OSError: For weights that are missing or do not fit (FileNotFoundError, PermissionError, ConnectionError).
    """

    model: Any

    def __init__(
        self,
        class_name: str,
        config: Mapping[str, Any],
        folder: str | None = None,
        subfolder: str | None = None,
        *,
        variant: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__()
        self.class_name = _known(class_name)
        chosen = None if dtype is None else dtype_named(dtype)
        self.reads_folder = folder is not None
        if folder is None or torch.get_default_device().type == "meta":  # in outline, no file is read
            model = getattr(diffusers, class_name).from_config(plain(config))
            model = model if chosen is None else model.to(chosen)
        else:
            model = load(class_name, folder, subfolder, variant, chosen)
        self.model = _checked(model)
        self.loaded = "" if folder is None else weights_checksum(dict(model.named_parameters()))

    @classmethod
    def around(cls, model: Any) -> DiffusersNetwork:
        """Wrap a model in memory; the network is described by the model's config, without a folder."""
        network = cls.__new__(cls)
        nn.Module.__init__(network)
        network.class_name = _known(*(cls.__name__ for cls in type(model).__mro__))
        network.model, network.loaded = _checked(model), ""
        of_model = {"class_name": network.class_name, "config": plain(model.config)}
        object.__setattr__(network, "_arguments", of_model | dict.fromkeys(("folder", "subfolder", "variant", "dtype")))
        return network

    @property
    def kind(self) -> NetworkKind:
        """The call and the conditions of its class."""
        return KINDS[self.class_name]

    @property
    def needs(self) -> Shapes:
        """The conditions that it needs, with shapes without the rows."""
        return self.kind.needs(self.model)

    @property
    def takes(self) -> Shapes:
        """All conditions that it accepts, with shapes without the rows."""
        return self.needs | self.kind.may(self.model)

    @property
    def flow_map_places(self) -> TimeLayers:
        """Its time layers, for `fm.student`."""
        return time_layers(self.model).below("model")

    @property
    def frame_axis(self) -> int | None:
        """Axis of x along which times may differ, for times (B, T); None if it takes times (B,) alone."""
        return self.kind.frame_axis(self.model)

    @property
    def channels(self) -> int:
        """Number of channels of x."""
        per_token = 4 if self.kind.call is flux else 1
        return self.model.config.in_channels // per_token

    def forward(self, x: Tensor, time: Tensor, **condition: Tensor) -> Tensor:
        """Evaluate the model at x (B, C, H, W) and the scheduler's time (B,); a `Reading` interprets the output."""
        self._check(x, condition)
        dtype = self.model.dtype
        given = {name: value.to(dtype) if name in ("text", "pooled") else value for name, value in condition.items()}
        value = self.kind.call(self.model, x.to(dtype), time, given)
        return value[:, : x.shape[1]].to(x.dtype)

    def _check(self, x: Tensor, condition: Mapping[str, Tensor]) -> None:
        name, patch, takes = self.class_name, self.kind.patch(self.model), self.takes
        axes = "HW" if len(patch) == 2 else "THW"
        sides = zip(x.shape[2:], patch, strict=False)
        if x.ndim != 2 + len(patch) or x.shape[1] != self.channels or any(side % p for side, p in sides):
            multiples = ", ".join(f"{axis} a multiple of {p}" for axis, p in zip(axes, patch, strict=True) if p > 1)
            raise ValueError(
                f"{name} takes x of the shape (B, {self.channels}, {', '.join(axes)})"
                f"{' with ' if multiples else ''}{multiples}, but it got {tuple(x.shape)}"
            )
        if missing := [key for key in self.needs if key not in condition]:
            wanted = ", ".join(f"{key} {_written(shape)}" for key, shape in self.needs.items())
            raise ValueError(f"{name} needs the conditions {wanted}; missing: {', '.join(missing)}")
        for key, value in condition.items():
            if key not in takes:
                known = ", ".join(takes) or "none"
                raise ValueError(f"{name} takes no condition {key!r}; this model takes: {known}")
            expected = (x.shape[0], *takes[key])
            if len(value.shape) != len(expected) or any(
                e not in (None, n) for n, e in zip(value.shape, expected, strict=True)
            ):
                raise ValueError(
                    f"the condition {key!r} of {name} has the shape {_written(takes[key])}, here with {x.shape[0]} "
                    f"rows, but it got {tuple(value.shape)}"
                )


def load(class_name: str, folder: str, subfolder: str | None, variant: str | None, dtype: torch.dtype | None) -> Any:
    """Load a model of diffusers from safetensors, without the network.

    Args:
        class_name: Class of the model.
        folder: A folder, or a name in the local cache of the hub.
        subfolder: Folder of the model in it.
        variant: Variant of the weight files. None: the main files.
        dtype: Dtype of the weights. None: float32.

    Returns:
        The model.

    Raises:
        OSError: If weights are missing or have another shape.
    """
    part = Component(subfolder or "network", "diffusers", _known(class_name), MODEL)
    with explained(folder, subfolder, variant, online=False):
        where = folder_of(folder, subfolder, MODEL, variant, online=False)
        model, report = part.load(where, variant, dtype, output_loading_info=True)
        if missing := report["missing_keys"]:
            raise OSError(f"its weights do not fit a {class_name} of this config: {sorted(missing)[0]} is missing")
    return model


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a model or a scheduler without diffusers' own notes."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def forget_folder(module: nn.Module) -> None:
    """Describe every DiffusersNetwork inside by its config alone, in place.

    A checkpoint with all weights loads without the folder.

    Args:
        module: The module.
    """
    for part in module.modules():
        if isinstance(part, DiffusersNetwork):
            nowhere: dict[str, Any] = dict.fromkeys(("folder", "subfolder", "variant"))
            known: Any = part._arguments
            object.__setattr__(part, "_arguments", known | nowhere | {"config": plain(part.model.config)})


def _known(*names: str) -> str:
    """Return the first name in KINDS, out of a class and its bases."""
    for name in names:
        if name in KINDS:
            return name
    raise ValueError(
        f"flowmaps cannot call the class {names[0]!r} of diffusers; known classes are {', '.join(KINDS)}. For another "
        "network, write its call as a function and pass it to fm.teacher"
    )


def _checked(model: Any) -> nn.Module:
    """Check that a model takes only x and the conditions in KINDS, and switch its label dropout off."""
    config = model.config
    out, channels = getattr(config, "out_channels", None) or config.in_channels, config.in_channels
    if out < channels:
        raise ValueError(
            f"this {type(model).__name__} predicts {out} channels from {channels}: it needs an image beside the noisy "
            "one (inpainting, image to video, control), which flowmaps does not support"
        )
    if out != channels and (out != 2 * channels or hasattr(config, "guidance_embeds")):  # tokens of FLUX have no order
        raise ValueError(
            f"this {type(model).__name__} predicts {out} channels from {channels}, and flowmaps knows predictions of "
            f"{channels} channels, of some classes with as many of a learned variance behind them; write its call as a "
            "function that returns the prediction alone, and pass it to fm.teacher"
        )
    if (added := getattr(config, "addition_embed_type", None)) not in (None, "text_time"):
        raise ValueError(f"this {type(model).__name__} takes a condition of the kind {added!r}, which is not supported")
    for part in model.modules():
        if isinstance(part, LabelEmbedding):
            part.dropout_prob = 0.0
    return model


def _written(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join(['B', *('L' if n is None else str(n) for n in shape)])})"
