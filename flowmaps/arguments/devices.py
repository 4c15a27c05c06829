"""Devices by their names."""

from __future__ import annotations

from typing import Any

import torch

from .names import did_you_mean
from .numbers import shown


def device_of(name: Any) -> torch.device:
    """The device of a name, as an argument `device`.

    Args:
        name: The name, such as "cpu", "cuda" or "cuda:1", or a device.

    Returns:
        The device.

    Raises:
        TypeError: It is neither a name nor a device.
        ValueError: The name is unknown, this torch has no such device here, or the device has no memory ("meta").
    """
    if not isinstance(name, str | torch.device):
        raise TypeError(f'`device` must be a name, such as "cpu" or "cuda:1", got {shown(name)}')
    here = devices_here()
    listed = f"this torch has {', '.join(here)} here"
    try:
        device = torch.device(name)
    except RuntimeError:
        near = did_you_mean(str(name), dict.fromkeys(("cpu", "cuda", "mps", *here)))
        raise ValueError(f"`device` must be a device of torch, got {shown(name)}{near}; {listed}") from None
    if device.type == "meta":
        raise ValueError(f"`device` must have memory, and meta has none, so nothing can be computed there; {listed}")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError):
        pass
    if any(one.partition(":")[0] == device.type for one in here):
        raise ValueError(f"there is no `device={device}`; {listed}")
    advice = "leave it out"
    if device.type == "cuda" and torch.version.cuda is None and torch.version.hip is None:
        advice = f"torch {torch.__version__} is a build without CUDA, so install torch for the GPU, or {advice}"
    raise ValueError(f"there is no `device={device}`; {listed}: {advice}")


def devices_here() -> list[str]:
    """The names of the devices that this torch can compute on."""
    if not torch.accelerator.is_available():
        return ["cpu"]
    kind = torch.accelerator.current_accelerator()
    assert kind is not None
    return ["cpu", *(f"{kind.type}:{index}" for index in range(torch.accelerator.device_count()))]
