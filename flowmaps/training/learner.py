"""One training step, and all state that it changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..data import Batch
from ..data.labels import condition_of
from ..distributed.processes import Processes
from ..distributed.shards import unshard_in_place
from ..draws import seeded
from ..flow_map import FlowMap
from ..method.method import Loss, Method
from ..method.own_writes import OwnWrites, explain
from ..runs.checkpoint import read_model, read_optimizers
from .agreement import Agreement
from .compiling import Compiled
from .config import TrainConfig
from .diagnostics import all_finite, find_cause
from .ema import Average
from .loss_module import LossModule, sharded
from .optimizers import Optimizers
from .still_times import ROWS, StillTimes
from .teachers import move_teachers, teachers

PINNED = ("cuda",)
"""Types of devices that copy from pinned memory without waiting."""


class Learner:
    """The state of training: flow map, method, optimizers and weight average; `take` does one step.

    Args:
        flow: The flow map. It is trained in place.
        method: The method.
        plan: The settings of the run.
        accelerator: The accelerator of the run.
        processes: The processes that share a batch.
        shard: Whether to shard the weights over the processes.
        device: The device. None: the accelerator's.

    Attributes:
        step: Number of steps taken.
        average: The weight average.
        moved: Whether the last step moved the flow map, and not only networks beside it.
    """

    def __init__(
        self,
        flow: FlowMap,
        method: Method,
        plan: TrainConfig,
        accelerator: Accelerator,
        processes: Processes = Processes(),
        shard: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self.plan, self.accelerator, self.device = plan, accelerator, device or accelerator.device
        self.processes = processes
        self.step = 0
        self.moved = False
        self._first = True
        self._before = Batch(torch.empty(0))  # the batch of the last step, whose loss is checked late on a GPU
        self.flow, self.method = flow.to(self.device).train(), method.to(self.device)
        move_teachers(method, self.device)
        method.begin(flow)
        method.follow(flow)
        self.dtype = flow.like.dtype
        self.raw = LossModule(flow, method, plan.precision)
        self.module = sharded(self.raw, self.device) if shard else self._prepared()
        self.optimizers = Optimizers(flow, method, plan)
        self.optimizers.prepare(accelerator)
        self.average = Average(flow, plan.ema)
        self.agreement = Agreement(processes, self.device)
        self._own_writes = OwnWrites(flow, method, off=shard)
        self._still_times = StillTimes(flow, off=shard or processes.index > 0)
        if plan.compile:
            self.raw.measure = Compiled()

    def _prepared(self) -> nn.Module:
        """The loss in the data-parallel wrapper of accelerate; it is on its device already."""
        return self.accelerator.prepare_model(self.raw, device_placement=False)

    @property
    def lr(self) -> float:
        """Learning rate of the last step, in the first parameter group of the flow."""
        return self.optimizers.lr

    def take(self, batch: Batch, progress: float) -> Loss:
        """Take one step of the optimizers and of the average.

        Args:
            batch: The rows of the batch that belong to this process.
            progress: Share of training that is done, in [0, 1].

        Returns:
            The loss, detached. Values are averages over the whole batch; residuals are the ones of this process.

        Raises:
            FloatingPointError: If the loss is not finite, with the cause.
        """
        batch = batch.each(self._moved)
        self.optimizers.schedule(self.plan.schedule(progress))
        if self._first and self.plan.compile:
            coupled = any(term.group is not None for term in self.method.terms)  # by blocks, which need all rows
            few = batch if coupled else batch.rows(slice(ROWS * len(self.method.terms)))
            self._still_times.watch_uncompiled(self.method, few.x0, condition_of(few, bool(self.plan.labels)))
        condition = condition_of(batch, bool(self.plan.labels))
        fresh = self.step == 0
        with self._own_writes.once(batch.x0, condition, progress, fresh), self._still_times.watching():
            self.method.follow(self.flow, progress, moved=self.moved)
            try:
                losses = self.backward(batch, progress)
            except Exception as error:
                if not (isinstance(self.raw.measure, Compiled) and self.raw.measure.give_up(error)):
                    explain(error)
                    raise
                losses = []
            if not losses:  # here the error is gone, and with it the activations that its traceback holds
                losses = self.backward(batch, progress)
        if self._first and not self._all_used():
            # DistributedDataParallel waits for the gradients of all weights, unless it searches for unused ones
            handler = DistributedDataParallelKwargs(find_unused_parameters=True, gradient_as_bucket_view=True)
            self.accelerator.ddp_handler = handler
            self.module = self._prepared()
            losses = self.backward(batch, progress)
        self._first = False
        with self._explained(self._before if self.agreement.is_late else batch):
            loss = self.agreement(self.step + 1, losses)
        self.method.observe(loss, progress)
        self._before = batch
        self.moved = any(weight.grad is not None for weight in self.flow.parameters())
        self.optimizers.step(self.accelerator, self.plan.clip)
        if self.moved:
            self.average.update()
        self.step += 1
        self._still_times.examine()
        return loss

    def backward(self, batch: Batch, progress: float) -> list[Loss]:
        """Accumulate the gradient of a batch, part by part; the last part averages it over the processes.

        The random numbers of the loss are drawn for the whole batch, equally in all processes. The random layers of a
        network (dropout) draw other numbers in each part.

        Args:
            batch: The rows of the batch that belong to this process.
            progress: Share of training that is done, in [0, 1].

        Returns:
            The loss of each part, detached.
        """
        self.optimizers.zero_grad()
        processes, seed, losses = self.processes, self.plan.seed, []
        for k in range(processes.accumulate):
            rows, part = processes.rows(k, self.plan.batch_size), batch.rows(processes.part(k))
            last, condition = k == processes.accumulate - 1, condition_of(part, bool(self.plan.labels))
            with seeded(self.device, seed, self.step):
                pairs = self.method.draw(self.flow, part.x0, condition, noise=part.noise, progress=progress, rows=rows)
            local = nullcontext() if last else self.accelerator.no_sync(self.module)
            with local, seeded(self.device, seed, self.step, rows.first):
                loss = self.module(pairs, progress)
                self.accelerator.backward(loss.value / processes.accumulate)
            losses.append(Loss(loss.value.detach(), loss.terms))
        return losses

    @contextmanager
    def _explained(self, batch: Batch) -> Iterator[None]:
        """Add the cause to the error about a loss that is not finite (context manager)."""
        try:
            yield
        except FloatingPointError as error:
            found = find_cause(self.flow, self.method, batch, bool(self.plan.labels), self.agreement.is_late)
            raise FloatingPointError(f"{error}; {found}") from None

    def _check_last(self) -> None:
        """Check the last loss, if it is still unchecked."""
        with self._explained(self._before):
            self.agreement.finish()

    def _moved(self, part: Tensor) -> Tensor:
        """Move a part of a batch to the device; to a GPU from pinned memory, so that the CPU does not wait for it."""
        dtype = self._dtype_of(part)
        if self.device.type in PINNED and part.device.type == "cpu":
            part = part.to(dtype=dtype).pin_memory()
        return part.to(self.device, dtype, non_blocking=True)

    def _dtype_of(self, part: Tensor) -> torch.dtype | None:
        """Return the dtype of the weights for floating-point tensors; None, for no conversion, for labels."""
        return self.dtype if part.is_floating_point() else None

    def _all_used(self) -> bool:
        """Whether every weight has a gradient, or the data-parallel wrapper does not wait for all of them."""
        waits = isinstance(self.module, DistributedDataParallel) and not self.module.find_unused_parameters
        return not waits or all(weight.grad is not None for weights in self.optimizers.weights() for weight in weights)

    def release(self) -> None:
        """End training: check the last loss, and gather sharded weights. All processes call it."""
        self._check_last()
        unshard_in_place([self.flow, self.method, self.average.flow, *teachers(self.method)])

    def is_finite(self) -> bool:
        """Whether the last loss, all trained weights and the optimizer states on this process are finite.

        It waits for the device.
        """
        self._check_last()
        fixed = {id(weight) for weight in self.flow.parameters() if not weight.requires_grad}
        weights = (weight for part in (self.flow, self.method, self.average.flow) for weight in part.parameters())
        return all_finite(
            [*(weight for weight in weights if id(weight) not in fixed), *self.optimizers.state_tensors()]
        )

    def models(self) -> dict[str, dict[str, Tensor]]:
        """Return the state dict of each model for a checkpoint, by name. All processes call it.

        Raises:
            FloatingPointError: If the last loss was not finite.
        """
        self._check_last()
        return {
            "flow": self.flow.state_dict(),
            "ema": self.average.flow.state_dict(),
            "method": self.method.state_dict(),
        }

    def state(self) -> dict[str, Any]:
        """Return the numbers for a checkpoint."""
        return {"average_updates": self.average.updates, "moved": self.moved}

    def restore(self, checkpoint: Path, state: dict[str, Any]) -> None:
        """Continue from a checkpoint.

        Args:
            checkpoint: The folder of the checkpoint.
            state: The content of its state.json.
        """
        self.method.load_state_dict(read_model(checkpoint, "method", self.method.state_dict()))
        # after the method, so that its averaged targets detect the change of the weights
        self.flow.load_state_dict(read_model(checkpoint, "flow", self.flow.state_dict()))
        self.average.flow.load_state_dict(read_model(checkpoint, "ema", self.average.flow.state_dict()))
        self.average.updates = state["average_updates"]
        self.moved = state.get("moved", True)  # checkpoints before turns do not say it
        self.optimizers.load_state_dicts(read_optimizers(checkpoint, self.optimizers.weights()))
        self.step = state["step"]
