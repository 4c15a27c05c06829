"""`train`: a generator over steps."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
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
from ..runs.plan import MakeOptimizer, Plan, Precision
from .interrupt import Interrupts
from .job import Job
from .learner import Learner
from .lost import is_lost, lost
from .monitor import Monitor
from .schedule import WarmUpDecay
from .teachers import guidance_of


@dataclass(frozen=True)
class State:
    """Where training is after `step` steps.

    loss: the `Loss` of the last step, detached; with several processes its values are those of the whole batch, its
    residuals those of the rows here. flow: the flow map in training, itself. ema: the one with averaged weights, in
    evaluation mode; both change with the next step. With shard=True they are spread over the processes until training
    has ended: `training.whole(state.ema)`, on all processes, is a copy to sample from. seconds: time spent training.
    progress: the share that is done, in [0, 1].
    """

    step: int
    loss: Loss
    flow: FlowMap
    ema: FlowMap
    lr: float
    seconds: float
    progress: float


def train(
    flow: FlowMap,
    method: Method,
    data: Any,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    batch_size: int = 256,
    lr: float = 1e-3,
    optimizer: MakeOptimizer | None = None,
    schedule: Callable[[float], float] = WarmUpDecay(),
    ema: float = 0.999,
    clip: float | None = None,
    accumulate: int = 1,
    shard: bool = False,
    seed: int = 0,
    labels: bool | None = None,
    precision: Precision = "no",
    compile: bool = False,
    out: str | Path | None = None,
    resume: bool = False,
    checkpoint_every: int = 1000,
    keep: int = 3,
    sample_every: int = 1000,
    log_every: int = 50,
    trackers: Sequence[Any] = ("tensorboard",),
    progress_bar: bool = True,
    accelerator: Accelerator | None = None,
    notes: dict[str, Any] | None = None,
) -> Iterator[State]:
    """Train a flow map; each item is the `State` after one step:  `for state in train(flow, method, data, steps=1000)`.

    The weights of `flow` and `method` are trained in place. A caller may stop at any step.

    data             a `Data`, or what `data.as_data` takes: a name, a tensor, (tensor, labels), a distribution, ...; a
                     method that needs none (`method.data_free`) draws none from it, and `data.no_data(shape)` will do
    steps, seconds   the length, in steps or in time spent on them; one of the two. A time budget does not give the same
                     numbers twice.
    batch_size       rows of a step, over all processes
    lr, optimizer    of AdamW with betas (0.9, 0.95) and no weight decay; or a function from weights to an optimizer,
                     with rates of its own. Networks beside the flow (`method.auxiliaries`) have another one each: the
                     one they ask for, or one made like this
    schedule         progress in [0, 1] -> factor of the learning rate; warm-up then linear decay by default, see
                     `training.constant`
    ema              decay of the averaged weights, min(ema, (1 + k)/(10 + k)) at the k-th step
    clip             largest norm of the gradient, of each optimizer's own weights
    accumulate       parts in which each process takes its rows of a step, one after the other, to save memory
    shard            spread weights, their gradients and averages and the optimizers' memory over the processes (FSDP2),
                     instead of keeping them in each; see `training.whole`
    seed             batches and random numbers of a step are a function of (seed, step), whatever the number of
                     processes and parts; the caller's generators are not touched
    labels           whether the network is given class labels as `label=`; None: if it takes them
    precision        "bf16" runs the loss under autocast
    compile          compile the loss with torch.compile; where that fails, a warning says so and training goes on
    out, resume      the run folder; `resume` goes on from its newest whole checkpoint, with the same numbers as if it
                     had never stopped
    checkpoint_every, keep      steps between checkpoints (there is always one at the end, and when the loop is left),
                                how many stay
    sample_every     steps between pictures of samples; 0 for none
    log_every        steps between rows of metrics.jsonl and of the trackers
    trackers         by the names that accelerate knows; an `accelerator` of yours brings its own, and for several
                     processes and stages needs find_unused_parameters
    notes            anything to keep in config.json

    Started by `accelerate launch` or `torchrun`, processes share the batch: the numbers are those of a single process,
    but for dropout and for what looks at several rows at once (batch normalisation).
    Ctrl-C and SIGTERM end the step, write a checkpoint, then leave (KeyboardInterrupt, SystemExit(143)).
    Raises FloatingPointError for a loss that is not finite, with step, term and times, and keeps the checkpoint before;
    FileExistsError for a folder with a run when not resuming, FileNotFoundError for one without when resuming;
    ValueError for a run of another configuration, naming what differs, and for arguments that cannot be.
    """
    for name, value in {"checkpoint_every": checkpoint_every, "keep": keep, "log_every": log_every}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    data = as_data(data)
    ours = accelerator is None
    accelerator = accelerator or make_accelerator(out, trackers, staged=isinstance(method, Stages))
    labels = uses_labels(flow.network, data, labels)
    plan = Plan(steps, seconds, batch_size, lr, optimizer, schedule, ema, clip, seed, precision, compile, labels)
    processes = processes_of(accelerator, accumulate, plan)
    flow.guidance = guidance_of(method, data) or flow.guidance
    config = run.configuration(flow, method, data, plan, notes or {})
    config["processes"] = {"count": processes.count, "accumulate": accumulate, "shard": shard}
    folder = open_folder(out, config, resume)
    if any(map(is_sharded, flow.parameters())):
        raise ValueError(
            "the weights of this flow map are spread over processes by an earlier run: take training.whole(flow)"
        )
    learner = Learner(flow, method, plan, accelerator, processes, shard and processes.count > 1)
    job = Job(learner, data, folder, config, checkpoint_every, keep, sample_every)
    if resume:
        job.restore()
    return steps_of(job, Monitor(folder, accelerator, plan, log_every, progress_bar, ours))


def processes_of(accelerator: Accelerator, accumulate: int, plan: Plan) -> Processes:
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
