"""An adapter in a folder: the trained weights without the frozen ones.

- `pytorch_lora_weights.safetensors`: the LoRA weights, which `load_lora_weights` of diffusers' pipelines reads
- `flow_map.safetensors`: a student's new embeddings of the second time and of its numeric conditions
- `flow_map_adapter.json`: rank, alpha, layers, and the checksum of the base
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch
from peft import get_peft_model_state_dict
from torch import Tensor, nn

from ...files import load_tensors, read_json, replacing, save_tensors, tensor_shapes, write_json
from ...flow_map import FlowMap
from ...serialise import mismatch
from .adapted import NAME, Adapted, adapted_of, core_of, lora, set_weight

WEIGHTS, NEW, SETTINGS = "pytorch_lora_weights.safetensors", "flow_map.safetensors", "flow_map_adapter.json"


FORMAT = 1
"""Format of `flow_map_adapter.json`."""


class Settings(TypedDict):
    """The content of `flow_map_adapter.json`, as far as an adapter is read by it."""

    format: int
    prefix: str
    model: str
    rank: int
    alpha: float
    dropout: float
    layers: list[str]
    new: list[str]


def save_adapter(flow: FlowMap, folder: str | Path) -> Path:
    """Write the trained weights of an adapted flow map, as they are at weight 1.

    Args:
        flow: An adapted flow map, or an average of one.
        folder: The folder, created if missing.

    Returns:
        The folder.

    Raises:
        ValueError: For a flow map without an adapter.
    """
    adapted, folder = adapted_of(flow), Path(folder)
    core = core_of(adapted)
    prefix = _prefix(core)
    folder.mkdir(parents=True, exist_ok=True)
    config = _plain(core.peft_config[NAME].to_dict()) | {"target_modules": adapted.layers}  # type: ignore[index,union-attr]
    # as diffusers writes it: without this note its readers take alpha = rank
    notes = {"lora_adapter_metadata": json.dumps({f"{prefix}.{key}": value for key, value in config.items()})}
    weights = {f"{prefix}.{name}": _here(value) for name, value in of_peft(core).items()}
    with replacing(folder / WEIGHTS) as temporary:
        save_tensors(temporary, weights, {"format": "pt", **notes})
    if new := {name: _here(value) for name, value in _new(adapted).items()}:
        with replacing(folder / NEW) as temporary:
            save_tensors(temporary, new, {"format": "pt"})
    write_json(
        folder / SETTINGS,
        {
            "format": FORMAT,
            "model": type(core).__name__,
            "prefix": prefix,
            "rank": config["r"],
            "alpha": config["lora_alpha"],
            "dropout": config["lora_dropout"],
            "layers": adapted.layers,
            "new": sorted(new),
            "base": bytes(adapted.checksum.tolist()).hex(),
        },
    )
    return folder


def load_adapter(flow: FlowMap, folder: str | Path, weight: float = 1.0) -> FlowMap:
    """Load an adapter from a folder.

    Args:
        flow: A student like the trained one, with the same base or another fine-tune of it, which is unchanged (see
            `lora`); or an adapted flow map with the same layers, into which the adapter is loaded.
        folder: The folder of the adapter.
        weight: Scale of the adapter, see `set_weight`.

    Returns:
        The adapted flow map.

    Raises:
        FileNotFoundError: If the folder has no adapter.
        ValueError: If it does not match the network, or its files are broken.
    """
    folder = Path(folder)
    settings = _settings(folder)
    if not isinstance(flow.network, Adapted):
        names = {name for name, _ in core_of(flow.network).named_modules()}
        if lost := [name for name in settings["layers"] if name not in names]:
            raise _misfit(folder, settings, flow, f"it has no layer {lost[0]}")
        rank, alpha, dropout = settings["rank"], settings["alpha"], settings["dropout"]
        flow = lora(flow, rank, alpha=alpha, targets=_exactly(settings["layers"]), dropout=dropout)
    adapted = adapted_of(flow)
    prefix = f"{settings['prefix']}."
    weights = {name.removeprefix(prefix): value for name, value in load_tensors(folder / WEIGHTS).items()}
    new = load_tensors(folder / NEW) if settings["new"] else {}
    for mine, theirs in ((of_peft(core_of(adapted)), weights), (_new(adapted), new)):
        if wrong := _difference(mine, theirs):
            raise _misfit(folder, settings, flow, wrong)
    with torch.no_grad():
        for mine, theirs in ((of_peft(core_of(adapted)), weights), (_new(adapted), new)):
            for name, value in mine.items():
                value.copy_(theirs[name])
    set_weight(flow, weight)
    return flow


def of_peft(core: nn.Module) -> dict[str, Tensor]:
    """Return the LoRA weights, without copying, by their names in peft, such as blocks.0.inner.lora_A.weight."""
    return get_peft_model_state_dict(core, adapter_name=NAME)


def _new(adapted: Adapted) -> dict[str, Tensor]:
    """Return the trained weights beside the LoRA, by their names in the student."""
    own = dict(adapted.named_parameters())
    return {name.removeprefix("network."): own[name].detach() for name in adapted.new}


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    if not path.is_file():
        there = "it has no " + SETTINGS if folder.is_dir() else "there is no such folder"
        raise FileNotFoundError(f"{folder} is no adapter of flowmaps: {there}")
    try:
        settings = read_json(path)
    except ValueError as error:
        raise ValueError(f"{error}: restore it, or save the adapter again") from None
    wrong = mismatch(settings, Settings, "")
    if wrong is None and settings["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {settings['format']}, but this version of flowmaps reads at most {FORMAT}: it was "
            "written by a later version"
        )
    ranks = {shape[0] for name, shape in tensor_shapes(folder / WEIGHTS).items() if ".lora_A." in name}
    if wrong is None and ranks != {settings["rank"]}:
        wrong = (
            f"its rank is {settings['rank']}, but the rank of the weights is {', '.join(map(str, ranks)) or 'unknown'}"
        )
    if wrong is not None:
        raise ValueError(f"{path} cannot be used: {wrong}. Restore it, or save the adapter again")
    return settings


def _misfit(folder: Path, settings: Mapping[str, Any], flow: FlowMap, reason: str) -> ValueError:
    core = type(core_of(flow.network)).__name__
    return ValueError(
        f"the adapter in {folder} belongs to a {settings['model']} and does not fit this {core}: {reason}. Give a "
        "student of the same kind of model, with the same time conditioning and the same conditions told="
    )


def _difference(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str | None:
    """Describe the first difference in names and shapes between the tensors of a network and of a file."""
    if lost := sorted(mine.keys() - theirs.keys()):
        return f"the file has no {lost[0]}"
    if more := sorted(theirs.keys() - mine.keys()):
        return f"the network has no {more[0]}"
    for name, value in mine.items():
        if value.shape != theirs[name].shape:
            return f"{name} is {tuple(theirs[name].shape)} in the file and {tuple(value.shape)} in the network"
    return None


def _prefix(core: nn.Module) -> str:
    """Name the component of a pipeline that a model of diffusers is."""
    if type(core).__module__.split(".")[0] != "diffusers":
        return "network"
    return "unet" if "UNet" in type(core).__name__ else "transformer"


def _here(value: Tensor) -> Tensor:
    return value.detach().to("cpu").contiguous().clone()


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the settings of peft to JSON values."""
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    return {key: value for key, value in plain.items() if isinstance(value, (bool, int, float, str, list, dict))}


def _exactly(layers: list[str]) -> str:
    """Make a regular expression that matches these layers alone."""
    return "|".join(map(re.escape, layers))
