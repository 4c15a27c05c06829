"""The networks of diffusers, all called in one way: network(x, time, **condition) -> a tensor of x's shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from diffusers.models.embeddings import LabelEmbedding
from packaging.version import Version
from torch import Tensor, nn

from ...files import weights_checksum
from ...serialise import describable
from ...students import TimeLayers
from .errors import explained
from .kinds import KINDS, Kind, Shapes, flux
from .time_layers import time_layers


@describable
class DiffusersNetwork(nn.Module):
    """A network of diffusers, `.model`, called as network(x, time, **condition) -> a tensor of x's shape.

    class_name: one of KINDS. config: its arguments, as in the config.json of the model's folder. folder: where its
    weights are, a pipeline's folder or a name on the hub, with the subfolder of the model in it; without a folder the
    weights are random. variant, dtype: which files of weights ("fp16") and what they become ("bfloat16"); by default
    the main ones, in float32.

    x is (B, C, H, W), or (B, C, T, H, W) for video, and time (B,). x and the embeddings are cast to the dtype of the
    model and the value back. Channels past those of x are a learned variance, and dropped. Labels are never dropped at
    random by the model itself: that is for the data to do.
    Raises ValueError for a class, a shape or a condition that is not known, OSError (FileNotFoundError,
    PermissionError, ConnectionError) for weights that cannot be had or do not fit.
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
        chosen = None if dtype is None else getattr(torch, dtype)
        if folder is None:
            model = getattr(diffusers, class_name).from_config(dict(config))
            model = model if chosen is None else model.to(chosen)
        else:
            model = load(class_name, folder, subfolder, variant, chosen)
        self.model = _whole(model)
        self.loaded = "" if folder is None else weights_checksum(dict(model.named_parameters()))

    @classmethod
    def around(cls, model: Any) -> DiffusersNetwork:
        """The network around a model that is there already; described by its config, without a folder."""
        network = cls.__new__(cls)
        nn.Module.__init__(network)
        network.class_name = _known(*(cls.__name__ for cls in type(model).__mro__))
        network.model, network.loaded = _whole(model), ""
        of_model = {"class_name": network.class_name, "config": plain(model.config)}
        object.__setattr__(network, "_arguments", of_model | dict.fromkeys(("folder", "subfolder", "variant", "dtype")))
        return network

    @property
    def kind(self) -> Kind:
        """How its class is called."""
        return KINDS[self.class_name]

    @property
    def needs(self) -> Shapes:
        """The conditions that it needs, with their shapes without the rows."""
        return self.kind.needs(self.model)

    @property
    def takes(self) -> Shapes:
        """All the conditions that it may be given."""
        return self.needs | self.kind.may(self.model)

    @property
    def flow_map_places(self) -> TimeLayers:
        """Its time layers, for `fm.student`."""
        return time_layers(self.model).below("model")

    @property
    def channels(self) -> int:
        """Of x."""
        per_token = 4 if self.kind.call is flux else 1
        return self.model.config.in_channels // per_token

    def forward(self, x: Tensor, time: Tensor, **condition: Tensor) -> Tensor:
        """The model's output at x (B, C, H, W) and the scheduler's time (B,); what it means is for a `Reading` to
        say.
        """
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
            wanted = ", ".join(f"{key} {_said(shape)}" for key, shape in self.needs.items())
            raise ValueError(f"{name} needs the conditions {wanted}; missing: {', '.join(missing)}")
        for key, value in condition.items():
            if key not in takes:
                known = ", ".join(takes) or "none"
                raise ValueError(f"{name} takes no condition {key!r}; those of this model: {known}")
            expected = (x.shape[0], *takes[key])
            if len(value.shape) != len(expected) or any(
                e not in (None, n) for n, e in zip(value.shape, expected, strict=True)
            ):
                raise ValueError(
                    f"the condition {key!r} of {name} has the shape {_said(takes[key])}, here with {x.shape[0]} rows, "
                    f"but it got {tuple(value.shape)}"
                )


def load(class_name: str, folder: str, subfolder: str | None, variant: str | None, dtype: torch.dtype | None) -> Any:
    """A model of diffusers with the weights of a folder or of a repository on the hub. Raises OSError where one of them
    is missing or has another shape.
    """
    with explained(folder, subfolder, variant):
        model, report = getattr(diffusers, class_name).from_pretrained(
            folder, subfolder=subfolder, variant=variant, output_loading_info=True, **in_dtype(dtype)
        )
        if missing := report["missing_keys"]:
            raise OSError(f"its weights are not those of a {class_name} of this config, without {sorted(missing)[0]}")
    return model


def in_dtype(dtype: torch.dtype | None) -> dict[str, torch.dtype | None]:
    """The argument of from_pretrained, which was renamed."""
    return {"dtype" if Version(diffusers.__version__) >= Version("0.42") else "torch_dtype": dtype}


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in the config of a model or a scheduler, without the notes that diffusers keeps beside them."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def forget_folder(module: nn.Module) -> None:
    """From now on every DiffusersNetwork inside is described by its config alone, not by a folder to load: for maps
    whose checkpoints hold all their weights, which need the folder no more.
    """
    for part in module.modules():
        if isinstance(part, DiffusersNetwork):
            nowhere: dict[str, Any] = dict.fromkeys(("folder", "subfolder", "variant"))
            known: Any = part._arguments
            object.__setattr__(part, "_arguments", known | nowhere | {"config": plain(part.model.config)})


def _known(*names: str) -> str:
    """The first of the names, those of a class and its bases, that KINDS has."""
    for name in names:
        if name in KINDS:
            return name
    raise ValueError(
        f"flowmaps does not know how to call the class {names[0]!r} of diffusers; it knows {', '.join(KINDS)}. For "
        "another network, write its call as a function and give that to fm.teacher"
    )


def _whole(model: Any) -> nn.Module:
    """The model, where all that it takes is the noisy x and what KINDS has conditions for."""
    config = model.config
    if (out := getattr(config, "out_channels", None) or config.in_channels) not in (
        config.in_channels, 2 * config.in_channels,
    ):  # fmt: skip
        raise ValueError(
            f"this {type(model).__name__} predicts {out} channels from {config.in_channels}: it takes an image beside "
            "the noisy one (inpainting, image to video, control), which flowmaps does not give it"
        )
    if (added := getattr(config, "addition_embed_type", None)) not in (None, "text_time"):
        raise ValueError(f"this {type(model).__name__} takes a condition of the kind {added!r}, which is not supported")
    for part in model.modules():
        if isinstance(part, LabelEmbedding):
            part.dropout_prob = 0.0
    return model


def _said(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join(['B', *('L' if n is None else str(n) for n in shape)])})"
