"""Convert the timesteps of diffusers to the two times of a flow map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def interval(timestep: Any, r_timestep: Any, schedule: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Convert timesteps to source and target time.

    A timestep of the schedule, up to rounding, is looked up there, so that its time is exact.

    Args:
        timestep: 1000 times the source time.
        r_timestep: 1000 times the target time. None: the next timestep of `schedule`; 0 for a scheduler that restarts.
        schedule: A scheduler with its timesteps set, or None.
        x: The states (B, *shape).

    Returns:
        (s, t) in [0, 1], each (B,) in x's dtype but never below float32.

    Raises:
        ValueError: If there is no next timestep.
    """
    source, position = _found(timestep, schedule)
    if r_timestep is None and getattr(schedule, "restarts", False):
        target: Any = 0.0
    elif r_timestep is not None:
        target = _found(r_timestep, schedule)[0]
    elif position is None:
        raise ValueError(
            "the target time is missing: pass r_timestep, or call the network through its pipeline, with a timestep of "
            "the scheduler"
        )
    else:
        target = schedule.sigmas[position + 1]
    s, t = (_rows(time, x) for time in (source, target))
    return s, t


def _found(timestep: Any, schedule: Any) -> tuple[Any, int | None]:
    """Return the time of a timestep, and its position on the schedule if it has one."""
    value = torch.as_tensor(timestep).flatten()
    rounding = max(torch.finfo(value.dtype).eps if value.is_floating_point() else 0, 1e-6)
    value = value.double()
    if schedule is not None and len(schedule.timesteps) and bool((value == value[0]).all()):
        gaps = (schedule.timesteps.to(value) - value[0]).abs()
        nearest = int(gaps.argmin())
        if gaps[nearest] <= rounding * value[0].abs():
            return schedule.sigmas[nearest], nearest
    return value / (1000 if schedule is None else schedule.config.num_train_timesteps), None


def _rows(time: Any, x: Tensor) -> Tensor:
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.as_tensor(time).to(x.device, dtype).flatten().expand(x.shape[0])
