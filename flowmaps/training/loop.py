"""`train`: a generator over steps."""

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
from .diagnostics import is_lost, lost
from .interrupt import Interrupts
from .job import Job
from .learner import Learner
from .logging import Monitor
from .teachers import guidance_of


@dataclass(frozen=True)
class State:
    """Where training is after `step` steps.

    loss: the `Loss` of the last step, detached; with several processes its values are those of the whole batch, its
    residuals those of the rows here. flow: the flow map in training, itself. ema: the one with averaged weights, in
    evaluation mode; both change with the next step. With shard=True they are spread over the processes until training
    has ended: `training.unshard(state.ema)`, on all processes, is a copy to sample from. seconds: time spent training.
    progress: the share that is done, in [0, 1].
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
    """Train a flow map; each item is the `State` after one step:  `for state in train(flow, method, data, steps=1000)`.

    The weights of `flow` and `method` are trained in place. A caller may stop at any step.

    Started by `accelerate launch` or `torchrun`, processes share the batch: the numbers are the same as with a single
    process, except for dropout and for layers that look at several rows at once (batch normalisation). Ctrl-C and
    SIGTERM end the step, write a checkpoint, then leave (KeyboardInterrupt, SystemExit(143)).

    Args:
        flow: The flow map, on any device.
        method: How it learns; see `flowmaps.methods`.
        data: A `Data`, or anything that `data.as_data` takes: a name, a tensor, (tensor, labels), a distribution, ...
            A method that needs none (`method.data_free`) draws none from it, and `data.no_data(shape)` will do.
        **settings: The fields of `TrainConfig`, by name.

    Returns:
        An iterator over the states after each step.

    Raises:
        FloatingPointError: For a loss that is not finite, with step, term and times; the checkpoint before is kept.
        FileExistsError: For a folder with a run, when not resuming.
        FileNotFoundError: For a folder without a run, when resuming.
        ValueError: For a run of another configuration, naming what differs, and for arguments that cannot be.
    """
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
            "the weights of this flow map are spread over processes by an earlier run: take training.unshard(flow)"
        )
    learner = Learner(flow, method, plan, accelerator, processes, plan.shard and processes.count > 1)
    job = Job(learner, data, folder, config, plan.checkpoint_every, plan.keep, plan.sample_every)
    if plan.resume:
        job.restore()
    return steps_of(job, Monitor(folder, accelerator, plan))


def processes_of(accelerator: Accelerator, accumulate: int, plan: TrainConfig) -> Processes:
    """Who shares a batch. Raises ValueError for what cannot be with several processes, or with this accelerator."""
    kind, own = accelerator.distributed_type, accelerator.gradient_accumulation_steps
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ValueError(f"weights cannot be spread by accelerate's {kind.value}: start without it and pass shard=True")
    if own > 1:
        raise ValueError(f"the accelerator accumulates {own} gradients: pass accumulate={own} instead")
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started != accelerator.num_processes:
        raise ValueError(
            f"{started} processes were started, and the accelerator of each knows of {accelerator.num_processes}: on "
            "processors it has to be made with Accelerator(cpu=True)"
        )
    processes = Processes(accelerator.process_index, accelerator.num_processes, accumulate)
    processes.check(plan.batch_size)
    if plan.seconds is not None and processes.count > 1:
        raise ValueError("a time budget needs a single process, since clocks differ: give steps= instead")
    return processes


def open_folder(out: str | Path | None, config: dict[str, Any], resume: bool) -> Run | None:
    """The run folder, checked but not yet made."""
    if out is None:
        if resume:
            raise ValueError("resume=True needs the folder of the run, out=")
        return None
    return run.existing(Path(out), config) if resume else run.new(Path(out))


def make_accelerator(out: str | Path | None, trackers: Sequence[Any], staged: bool) -> Accelerator:
    """An accelerator that logs into the run folder; with stages its processes expect weights that a loss leaves out.

    Raises ImportError for a tracker that is not installed.
    """
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=staged, gradient_as_bucket_view=True)]
    # without it, accelerate overlooks that torchrun has started several processes on processors
    cpu = not torch.accelerator.is_available()
    if out is None:
        return Accelerator(cpu=cpu, kwargs_handlers=handlers)
    installed = [getattr(name, "value", name) for name in get_available_trackers()]
    for name in trackers:
        if isinstance(name, str) and name not in installed:
            known = ", ".join(installed) or "none"
            raise ImportError(f"the tracker {name} is not known or not installed; installed are {known}")
    project = ProjectConfiguration(project_dir=str(out), logging_dir=str(Path(out) / "tensorboard"))
    return Accelerator(cpu=cpu, log_with=list(trackers) or None, project_config=project, kwargs_handlers=handlers)


def steps_of(job: Job, monitor: Monitor) -> Iterator[State]:
    """The loop itself."""
    learner = job.learner
    batches = job.batches()
    with Interrupts(learner.agreement) as interrupts, monitor, job.saving or nullcontext():
        try:
            while job.progress < 1:
                interrupts.busy = True
                start = time.perf_counter()
                loss = learner.take(job.read(batches), job.progress)
                job.count(time.perf_counter() - start)
                if job.here == 1:
                    job.begin()
                last = job.progress >= 1
                monitor.after(learner.step, loss, learner.lr, job.seconds, last)
                job.keep_up(last)
                interrupts.busy = False
                interrupts.leave()
                yield State(
                    learner.step, loss, learner.flow, learner.average.flow, learner.lr, job.seconds, job.progress
                )
            learner.release()
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}{job.kept}") from None
        except RuntimeError as error:
            if is_lost(error):
                raise lost(error, job.kept) from error
            raise
        except (GeneratorExit, KeyboardInterrupt, SystemExit):
            if not interrupts.busy:
                job.save()
            raise
