"""The training loop: `train`, an iterator over steps."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..arguments import brief_repr, shown
from ..data import Data, as_data
from ..data.labels import uses_labels
from ..data.on_path import on_path
from ..data.standardise import with_units
from ..distributed.launcher import ends_with_launcher
from ..distributed.processes import Processes
from ..distributed.shards import is_sharded, run_on_all, world_group
from ..flow_map import FlowMap
from ..method.method import Loss, Method
from ..method.several import Several
from ..methods.landscape import method_of
from ..runs import folder as run
from ..runs.folder import Run
from ..runs.loading import read_units
from ..runs.lock import FolderLock, check_free
from ..runs.resuming import existing
from ..units import Units
from .accelerating import device_for, make_accelerator, processes_of
from .config import TrainConfig, check_names, clock_of, names, takes
from .diagnostics import is_lost, lost_process
from .interrupt import Interrupts
from .job import Job
from .label_checks import warn_of_labels
from .learner import Learner
from .logging import Monitor
from .record import trained_of
from .teachers import check_backbone, check_classes, guidance_of, refuse_student

SETTINGS = names(TrainConfig)
"""Names of the keyword arguments of `train`."""


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

    def __repr__(self) -> str:
        return brief_repr(self, ("step", "loss", "lr", "seconds", "progress"))


@takes(TrainConfig)
def train(flow: FlowMap, method: Method | str, data: Any, **settings: Any) -> Iterator[State]:
    """Train a flow map in place, and iterate over the state after each step.

    The loop is `for state in fm.train(flow, method, data, steps=1000): ...`; it may be left at any step. Without a loop
    nothing is trained; `fm.fit` runs to the end. The weights of `flow` and `method` are trained in place.

    Processes started by `accelerate launch` or `torchrun` share the batch. The numbers are the same as with a single
    process, except for dropout and for layers that mix rows (batch normalisation). Ctrl-C, SIGTERM, SIGHUP and SIGUSR1
    finish the step, write a checkpoint and then stop (KeyboardInterrupt, SystemExit with code 143, 129 and 75).

    One process at a time writes into a run folder: it is locked from this call until the loop ends or is left.

    Args:
        flow: The flow map, on any device.
        method: The learning method, or its name such as "imf"; see `flowmaps.methods`.
        data: A `Data`, or anything that `data.as_data` takes: a name, a tensor, (tensor, labels), a distribution, ...
            For a data-free method (`method.data_free`) `data.no_data(shape)` is enough.
        **settings: The fields of `TrainConfig`, by name.

    Returns:
        An iterator over the states after each step.

    Raises:
        FloatingPointError: If the loss is not finite, with step, term and times; the previous checkpoint is kept.
        BlockingIOError: If another process, or another loop of this one, trains into the folder; it is named.
        FileExistsError: If the folder has a run already, and resume is not set.
        FileNotFoundError: If the folder has no run, and resume is set.
        TypeError: If the flow map, the method or a setting is of another type.
        ValueError: If an argument is invalid, the flow map shares trained weights with its teacher, or the run to
            resume has another configuration; it lists the differences.
    """
    check_names("train", settings, SETTINGS)
    plan = TrainConfig(**settings)
    method = _checked(flow, method)
    data = as_data(data, standardise=None if flow.units is None else False) if not isinstance(data, Data) else data
    flow.units = _units(flow, data, plan)
    data = on_path(flow.path, with_units(data, flow.units), look=not method.data_free)
    wanted, plan = plan.labels, replace(plan, labels=uses_labels(flow.network, data, plan.labels))
    warn_of_labels(flow.network, data, wanted, bool(plan.labels))
    accelerator = plan.accelerator or make_accelerator(plan, staged=isinstance(method, Several))
    processes = processes_of(accelerator, plan.accumulate, plan)
    device = device_for(plan, accelerator, processes)
    check_backbone(flow, method)
    if plan.labels:
        check_classes(flow, method, data)
    flow.guidance = guidance_of(method, data) or flow.guidance
    if method.trains_flow:
        flow.trained = trained_of(flow, method, data, bool(plan.labels))
    config: dict[str, Any] = {}
    if plan.out is not None:
        config = run.configuration(flow, method, data, plan.deciding(), plan.notes or {}, plan.fingerprint)
    config["processes"] = {"count": processes.count, "accumulate": plan.accumulate, "shard": plan.shard}
    if any(map(is_sharded, flow.parameters())):
        raise ValueError(
            "the weights of this flow map were sharded over processes by an earlier run: pass training.unshard(flow)"
        )
    refuse_student(flow, method)
    with ExitStack() as failed:
        folder, lock = open_folder(plan.out, config, plan.resume, processes)
        failed.enter_context(lock or nullcontext())
        learner = Learner(flow, method, plan, accelerator, processes, plan.shard and processes.count > 1, device)
        config["optimizers"] = learner.optimizers.options
        job = Job(learner, data, folder, lock, config)
        if folder is not None and plan.resume:
            existing(folder.path, config, ("optimizers",))
            job.restore()
        failed.pop_all()  # from here on the loop holds the lock
    return Steps(job, Monitor(folder, accelerator, plan))


@takes(TrainConfig)
def fit(flow: FlowMap, method: Method | str, data: Any, **settings: Any) -> State:
    """Train a flow map in place to the end, and return the last state: `train` without a loop of your own.

    Args:
        flow: The flow map, on any device.
        method: The learning method, or its name; see `flowmaps.methods`.
        data: The data, as for `train`.
        **settings: The fields of `TrainConfig`, by name.

    Returns:
        The state after the last step. Its `ema` has the averaged weights, to sample from. If a finished run is resumed,
        there was no step, and the loss is NaN without terms.

    Raises:
        FloatingPointError: As `train`, as all other errors.
    """
    steps = train(flow, method, data, **settings)
    assert isinstance(steps, Steps)
    last = deque(steps, maxlen=1)
    return last[0] if last else state_of(steps.job, Loss(torch.tensor(math.nan), {}))


class Steps(Iterator[State]):
    """The iterator of `train`. It warns if it is dropped before its first step, for then nothing was trained.

    Args:
        job: The job.
        monitor: Its progress bar and trackers.

    Attributes:
        job: The job.
    """

    def __init__(self, job: Job, monitor: Monitor) -> None:
        self.job, self._steps, self._touched = job, steps_of(job, monitor), False

    def __iter__(self) -> Iterator[State]:
        """Iterate over the steps, without a frame of this class in each."""
        self._touched = True
        return self._steps

    def __next__(self) -> State:
        """Take a step."""
        return next(iter(self))

    def close(self) -> None:
        """Leave the loop: write a checkpoint, and release the run folder."""
        self._touched = True
        self._steps.close()

    def __del__(self) -> None:
        """Warn if no step was taken."""
        if not getattr(self, "_touched", True):
            warnings.warn(
                "fm.train(...) was not iterated, so nothing was trained: write `for state in fm.train(...): ...`, or "
                "call fm.fit(...), which trains to the end",
                stacklevel=2,
            )


def state_of(job: Job, loss: Loss) -> State:
    """The state of training after a step with this loss."""
    learner = job.learner
    return State(learner.step, loss, learner.flow, learner.average.flow, learner.lr, job.seconds, job.progress)


def _units(flow: FlowMap, data: Data, plan: TrainConfig) -> Units | None:
    """The units to train in: of the flow map, of the run that goes on, or of the data."""
    if flow.units is not None:
        return flow.units
    if plan.resume and plan.out is not None and (file := Run(Path(plan.out)).config).is_file():
        return read_units(run.read_config(plan.out), file)
    return data.units


def _checked(flow: Any, method: Any) -> Method:
    """Return the method, made by its name if need be. Raises TypeError unless these are a flow map and a method."""
    if not isinstance(flow, FlowMap):
        advice = ": wrap the network, FlowMap(network)" if isinstance(flow, nn.Module) else ""
        raise TypeError(f"training needs a FlowMap, got {shown(flow)}{advice}")
    if flow.like.dtype.itemsize < 4:
        raise ValueError(
            f"the weights are {flow.like.dtype}, in which small steps are rounded away: train flow.float(), with "
            'precision="bf16" for fast products; frozen weights may stay as they are beside trained ones in float32'
        )
    made = method_of(method)
    for term in made.terms:
        term.check_path(flow.path)
    return made


def open_folder(
    out: str | Path | None, config: dict[str, Any], resume: bool, processes: Processes
) -> tuple[Run | None, FolderLock | None]:
    """Check and lock the run folder. The first process holds the lock for all of them.

    Args:
        out: The folder. None: the run has no folder.
        config: The configuration of the run.
        resume: Whether to continue a run in the folder.
        processes: The processes of the run; all of them call this.

    Returns:
        The run folder, and its lock on the first process.

    Raises:
        BlockingIOError: If another process or another loop trains into the folder.
        FileExistsError: If the folder has a run already, and resume is not set.
        FileNotFoundError: If the folder has no run, and resume is set.
        ValueError: If the run to resume has another configuration, or resume is set without a folder.
    """
    if out is None:
        if resume:
            raise ValueError("resume=True needs the folder of the run, out=")
        return None, None
    path, held = Path(out), list[FolderLock]()

    def lock() -> None:
        if processes.index == 0:
            check_free(path)
            # nothing is made in a folder that cannot be the one of this run
            run.read_config(path) if resume else run.new(path)
            held.append(FolderLock(path, "training into it"))

    run_on_all(lock, world_group())
    try:
        folder = existing(path, config) if resume else run.new(path)
        if held:
            folder.remove_leftovers()
    except BaseException:
        for one in held:
            one.release()
        raise
    return folder, held[0] if held else None


def steps_of(job: Job, monitor: Monitor) -> Generator[State]:
    """Run the training loop, and yield the state after each step."""
    learner, now = job.learner, clock_of(job.learner.plan.clock)
    batches = job.batches()
    with (
        job.lock or nullcontext(),
        Interrupts(learner.agreement) as interrupts,
        ends_with_launcher(),
        monitor,
        job.saving or nullcontext(),
    ):
        try:
            while job.progress < 1:
                interrupts.busy = True
                start = now()
                loss = learner.take(job.read(batches), job.progress)
                job.count(now() - start)
                if job.steps_here == 1:
                    job.begin()
                last = job.progress >= 1
                monitor.after(learner.step, loss, learner.lr, job.seconds, last)
                job.write_due(last)
                interrupts.busy = False
                interrupts.leave()
                yield state_of(job, loss)
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
