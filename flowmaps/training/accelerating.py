"""The accelerator of a training run, its processes, and its device."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, ProjectConfiguration

from ..arguments import device_of
from ..distributed.processes import Processes, join
from .config import TrainConfig


def make_accelerator(plan: TrainConfig, staged: bool) -> Accelerator:
    """Create an accelerator that logs to the run folder.

    Args:
        plan: The settings of the run, with its folder and its trackers. Without a folder nothing is logged.
        staged: Whether the method has stages, so that weights of other stages get no gradient.

    Returns:
        The accelerator.

    Raises:
        ImportError: If a tracker is not installed.
    """
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=staged, gradient_as_bucket_view=True)]
    cpu = join(plan.timeout, plan.device is not None and torch.device(plan.device).type == "cpu")
    if plan.out is None:
        return Accelerator(cpu=cpu, kwargs_handlers=handlers)
    installed = [getattr(name, "value", name) for name in get_available_trackers()]
    for name in plan.trackers:
        if isinstance(name, str) and name not in installed:
            known = ", ".join(installed) or "none"
            raise ImportError(f"the tracker {name} is unknown or not installed; installed trackers: {known}")
    project = ProjectConfiguration(project_dir=str(plan.out), logging_dir=str(Path(plan.out) / "tensorboard"))
    return Accelerator(cpu=cpu, log_with=list(plan.trackers) or None, project_config=project, kwargs_handlers=handlers)


def processes_of(accelerator: Accelerator, accumulate: int, plan: TrainConfig) -> Processes:
    """Return the processes that share a batch.

    Args:
        accelerator: The accelerator of the run.
        accumulate: Number of accumulated parts of a step.
        plan: The settings of the run.

    Returns:
        This process among all of them.

    Raises:
        ValueError: If the settings are invalid for several processes or for this accelerator.
    """
    kind, own = accelerator.distributed_type, accelerator.gradient_accumulation_steps
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ValueError(f"accelerate's {kind.value} cannot shard the weights: start without it and pass shard=True")
    if own > 1:
        raise ValueError(f"the accelerator accumulates {own} gradients: pass accumulate={own} instead")
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started != accelerator.num_processes:
        raise ValueError(
            f"{started} processes were started, but the accelerator of each counts {accelerator.num_processes}: on "
            "CPUs create it with Accelerator(cpu=True)"
        )
    processes = Processes(accelerator.process_index, accelerator.num_processes, accumulate)
    processes.check(plan.batch_size)
    if plan.seconds is not None and processes.count > 1:
        raise ValueError("a time budget needs a single process, because clocks differ: pass steps= instead")
    return processes


def device_for(plan: TrainConfig, accelerator: Accelerator, processes: Processes) -> torch.device:
    """Return the device of this process.

    The setting stands beside the accelerator, because accelerate chooses one device for the life of a program.

    Args:
        plan: The settings of the run.
        accelerator: The accelerator of the run.
        processes: This process among all of them.

    Returns:
        The device of the setting, or else the accelerator's.

    Raises:
        ValueError: If the setting is not the device of an accelerator of the user, or of one among several processes.
    """
    if plan.device is None:
        return accelerator.device
    wanted, device = torch.device(plan.device), device_of(plan.device)
    there = accelerator.device
    fits = wanted.type == there.type and wanted.index in (None, 0 if there.index is None else there.index)
    if processes.count > 1 and not (wanted.type == there.type and wanted.index is None):
        raise ValueError(
            f"{processes.count} processes train together, each on a device of its own (this one on {there}), so "
            f"`device={wanted}` cannot be the device of all: leave it out, choose the GPUs by CUDA_VISIBLE_DEVICES, or "
            "start all processes with `device=cpu`"
        )
    if plan.accelerator is not None and not fits:
        raise ValueError(f"the accelerator is on {there}, and `device={wanted}` is another: give one of the two")
    return there if processes.count > 1 or plan.accelerator is not None else device
