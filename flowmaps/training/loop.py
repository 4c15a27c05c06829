"""The training loop: `train`, an iterator over steps."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, ProjectConfiguration

from ..arguments import shown
from ..data import as_data
from ..data.labels import uses_labels
from ..distributed.processes import Processes
from ..distributed.shards import is_sharded
from ..flow_map import FlowMap
from ..method.method import Loss, Method
from ..method.stages import Stages
from ..runs import folder as run
from ..runs.folder import Run
from .config import TrainConfig, takes
from .diagnostics import is_lost, lost_process
from .interrupt import Interrupts
from .job import Job
from .learner import Learner
from .logging import Monitor
from .teachers import guidance_of, refuse_student


@dataclass(frozen=True)
class State:
    """The state of training after a step.

    `flow` and `ema` are not copies and change with the next step. With shard=True their weights are sharded until
    training has ended; `training.unshard(state.ema)`, called on all processes, returns a copy to sample from.

    Attributes:
        step: Number of steps taken.
        loss: The `Loss` of the last step, detached. With several processes, its values are averages over the whole
            batch, and its residuals are the ones of this process.
        flow: The flow map in training.
        ema: The flow map with averaged weights, in evaluation mode.
        lr: Learning rate of the last step.
        seconds: Time spent training.
        progress: Share of training that is done, in [0, 1].
    """

    step: int
    loss: Loss
    flow: FlowMap
    ema: FlowMap
    lr: float
    seconds: float
    progress: float


@takes(TrainConfig)
def train(flow: FlowMap, method: Method, data: Any, **settings: Any) -> Iterator[State]:
    """Train a flow map in place, and iterate over the state after each step.

    The loop is `for state in fm.train(flow, method, data, steps=1000): ...`; it may be left at any step. The weights of
    `flow` and `method` are trained in place.

    Processes started by `accelerate launch` or `torchrun` share the batch. The numbers are the same as with a single
    process, except for dropout and for layers that mix rows (batch normalisation). Ctrl-C and SIGTERM finish the step,
    write a checkpoint and then stop (KeyboardInterrupt, SystemExit(143)).

    Args:
        flow: The flow map, on any device.
        method: The learning method; see `flowmaps.methods`.
        data: A `Data`, or anything that `data.as_data` takes: a name, a tensor, (tensor, labels), a distribution, ...
            For a data-free method (`method.data_free`) `data.no_data(shape)` is enough.
        **settings: The fields of `TrainConfig`, by name.

    Returns:
        An iterator over the states after each step.

    Raises:
        FloatingPointError: If the loss is not finite, with step, term and times; the previous checkpoint is kept.
        FileExistsError: If the folder has a run already, and resume is not set.
        FileNotFoundError: If the folder has no run, and resume is set.
        TypeError: If the flow map, the method or a setting is of another type.
        ValueError: If an argument is invalid, the flow map shares trained weights with its teacher, or the run to
            resume has another configuration; it lists the differences.
    """
    _check(flow, method)
    plan, data = TrainConfig(**settings), as_data(data)
    plan = replace(plan, labels=uses_labels(flow.network, data, plan.labels))
    accelerator = plan.accelerator or make_accelerator(plan.out, plan.trackers, staged=isinstance(method, Stages))
    processes = processes_of(accelerator, plan.accumulate, plan)
    flow.guidance = guidance_of(method, data) or flow.guidance
    config = run.configuration(flow, method, data, plan.deciding(), plan.notes or {})
    config["processes"] = {"count": processes.count, "accumulate": plan.accumulate, "shard": plan.shard}
    folder = open_folder(plan.out, config, plan.resume)
    if any(map(is_sharded, flow.parameters())):
        raise ValueError(
            "the weights of this flow map were sharded over processes by an earlier run: pass training.unshard(flow)"
        )
    refuse_student(flow, method)
    learner = Learner(flow, method, plan, accelerator, processes, plan.shard and processes.count > 1)
    job = Job(learner, data, folder, config, plan.checkpoint_every, plan.keep, plan.sample_every)
    if plan.resume:
        job.restore()
    return steps_of(job, Monitor(folder, accelerator, plan))


def _check(flow: Any, method: Any) -> None:
    """Raise TypeError unless these are a flow map and a method."""
    if not isinstance(flow, FlowMap):
        advice = ": wrap the network, FlowMap(network)" if isinstance(flow, torch.nn.Module) else ""
        raise TypeError(f"training needs a FlowMap, got {shown(flow)}{advice}")
    if not isinstance(method, Method):
        raise TypeError(f"training needs a Method, such as fm.methods.imf(), got {shown(method)}")


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


def open_folder(out: str | Path | None, config: dict[str, Any], resume: bool) -> Run | None:
    """Check the run folder, without creating it.

    Args:
        out: The folder. None: the run has no folder.
        config: The configuration of the run.
        resume: Whether to continue a run in the folder.

    Returns:
        The run folder, or None.

    Raises:
        FileExistsError: If the folder has a run already, and resume is not set.
        FileNotFoundError: If the folder has no run, and resume is set.
        ValueError: If the run to resume has another configuration, or resume is set without a folder.
    """
    if out is None:
        if resume:
            raise ValueError("resume=True needs the folder of the run, out=")
        return None
    return run.existing(Path(out), config) if resume else run.new(Path(out))


def make_accelerator(out: str | Path | None, trackers: Sequence[Any], staged: bool) -> Accelerator:
    """Create an accelerator that logs to the run folder.

    Args:
        out: The run folder. None: no logging.
        trackers: Names of experiment trackers, or trackers.
        staged: Whether the method has stages, so that weights of other stages get no gradient.

    Returns:
        The accelerator.

    Raises:
        ImportError: If a tracker is not installed.
    """
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=staged, gradient_as_bucket_view=True)]
    # without cpu=True, accelerate does not detect several processes that torchrun started on CPUs
    cpu = not torch.accelerator.is_available()
    if out is None:
        return Accelerator(cpu=cpu, kwargs_handlers=handlers)
    installed = [getattr(name, "value", name) for name in get_available_trackers()]
    for name in trackers:
        if isinstance(name, str) and name not in installed:
            known = ", ".join(installed) or "none"
            raise ImportError(f"the tracker {name} is unknown or not installed; installed trackers: {known}")
    project = ProjectConfiguration(project_dir=str(out), logging_dir=str(Path(out) / "tensorboard"))
    return Accelerator(cpu=cpu, log_with=list(trackers) or None, project_config=project, kwargs_handlers=handlers)


def steps_of(job: Job, monitor: Monitor) -> Iterator[State]:
    """Run the training loop, and yield the state after each step."""
    learner = job.learner
    batches = job.batches()
    with Interrupts(learner.agreement) as interrupts, monitor, job.saving or nullcontext():
        try:
            while job.progress < 1:
                interrupts.busy = True
                start = time.perf_counter()
                loss = learner.take(job.read(batches), job.progress)
                job.count(time.perf_counter() - start)
                if job.steps_here == 1:
                    job.begin()
                last = job.progress >= 1
                monitor.after(learner.step, loss, learner.lr, job.seconds, last)
                job.write_due(last)
                interrupts.busy = False
                interrupts.leave()
                yield State(
                    learner.step, loss, learner.flow, learner.average.flow, learner.lr, job.seconds, job.progress
                )
            learner.release()
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}{job.checkpoint_note}") from None
        except RuntimeError as error:
            if is_lost(error):
                raise lost_process(error, job.checkpoint_note) from error
            raise
        except (GeneratorExit, KeyboardInterrupt, SystemExit):
            if not interrupts.busy:
                job.save()
            raise
