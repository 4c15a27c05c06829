"""The sizes of a training run that are not given: the network of images and the rows of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..data import Data
from ..recipes.sizes import Sizes, are_large, sizes_for, token_rows
from ..runs.folder import read_config
from .trained_run import Say, device, settings_of_training

NAMES = ("width", "depth", "batch_size")


def sized(
    data: Data,
    given: Mapping[str, Any],
    *,
    network: str,
    steps: int | None,
    seconds: float | None,
    before: Mapping[str, Any] | None,
    say: Say,
    where: Any = None,
) -> dict[str, Any]:
    """Choose the sizes that are not given.

    A U-Net that the recipe for the data chooses gets sizes for the device and the length of training; a line says
    them. A step on tokens has rows for the device. Anything else has the usual ones.

    Args:
        data: The data set.
        given: width, depth and batch_size, None where they are not given.
        network: Kind of network, "auto" for the recipe for the data.
        steps: Training steps.
        seconds: Training time, instead of `steps`.
        before: The sizes of the run that goes on (`sizes_before`). None: a new run.
        say: Receives the line.
        where: The device of training. None: a GPU if there is one.

    Returns:
        width and depth, None for the network's own, and batch_size.
    """
    found = {name: given.get(name) for name in NAMES}
    if network == "auto" and are_large(data) and None in found.values():
        if before:
            found = {name: before.get(name) if value is None else value for name, value in found.items()}
        else:
            where = device(where)
            chosen = asdict(sizes_for(data, where, steps=steps, seconds=seconds, **found))
            usual = asdict(Sizes())
            if any(found[name] is None and chosen[name] != usual[name] for name in NAMES):
                say(_said(data, where, chosen))
                found = chosen
    if found["batch_size"] is None and data.kind == "tokens":
        found["batch_size"] = (before or {}).get("batch_size") or token_rows(data, device(where))
    if found["batch_size"] is None:
        found["batch_size"] = settings_of_training()["batch_size"]
    return found


def _said(data: Data, where: str, chosen: Mapping[str, Any]) -> str:
    """The line about sizes that are smaller than the usual ones."""
    shape = " x ".join(map(str, data.shape))
    named = [", ".join(f"`{name}={sizes[name]}`" for name in NAMES) for sizes in (chosen, asdict(Sizes()))]
    kind = "CPU" if where.startswith("cpu") else "GPU"
    return (
        f"Images of {shape} on a {kind} get a smaller network and fewer rows a step, so "
        f"that training takes about an hour at most: {named[0]}. With more time: {named[1]}"
    )


def sizes_before(folder: Path | str | None) -> dict[str, Any] | None:
    """The sizes of the run in a folder, which goes on; None without a run.

    Args:
        folder: The run folder.

    Returns:
        batch_size, and width and depth of a U-Net.
    """
    if folder is None or not (Path(folder) / "config.json").is_file():
        return None
    config = read_config(folder)
    network = inside(config["flow"]["network"])
    found: dict[str, Any] = {"batch_size": config["training"].get("batch_size")}
    if isinstance(network, Mapping) and network.get("type") == "networks.UNet":
        arguments = network.get("arguments", {})
        found |= {"width": arguments.get("width"), "depth": arguments.get("blocks")}
    return found


def inside(network: Any) -> Any:
    """The description of the network within wrappers of it, such as `networks.GaussianEndpoint`."""
    while isinstance(network, Mapping) and isinstance(network.get("arguments"), Mapping):
        if "network" not in network["arguments"]:
            break
        network = network["arguments"]["network"]
    return network
