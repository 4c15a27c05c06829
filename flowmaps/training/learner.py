"""One training step, and everything that a step changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..data import Batch
from ..distributed.processes import Processes
from ..distributed.shards import release
from ..draws import seeded
from ..flow_map import FlowMap
from ..method.method import Loss, Method, measure
from ..method.term import Drawn
from ..runs.checkpoint import read_model, read_optimizers
from ..velocity import Companion
from .agreement import Agreement
from .compiling import Compiled
from .condition import condition_of
from .config import Precision, TrainConfig
from .diagnostics import all_finite
from .ema import Average
from .optimizers import Optimizers
from .teachers import move_teachers, teachers


class LossModule(nn.Module):
    """The whole loss as a module's forward: what a data-parallel wrapper has to wrap, so that no part of the loss
    passes its hooks by, and what is compiled.
    """

    def __init__(self, flow: FlowMap, method: Method, precision: Precision = "no") -> None:
        super().__init__()
        self.flow, self.method, self.precision = flow, method, precision
        self.measure: Callable[..., Loss] = measure

    def forward(self, drawn: Sequence[Drawn], progress: float = 0.0) -> Loss:
        """`Method.measure` on what `Method.draw` has drawn: a value to call backward() on, its terms detached."""
        device = drawn[0].pair.x0.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return detached(self.measure(self.flow, self.method.now(progress), drawn))


class Learner:
    """Flow, method, optimizers and average, moved forward one batch at a time by `advance`."""

    def __init__(
        self,
        flow: FlowMap,
        method: Method,
        plan: TrainConfig,
        accelerator: Accelerator,
        processes: Processes = Processes(),
        shard: bool = False,
    ) -> None:
        self.plan, self.accelerator, self.device = plan, accelerator, accelerator.device
        self.processes = processes
        self.step = 0
        self._first = True
        self.flow, self.method = flow.to(self.device).train(), method.to(self.device)
        move_teachers(method, self.device)
        method.begin(flow)
        method.follow(flow)
        self.dtype = flow.like.dtype
        self.raw = LossModule(flow, method, plan.precision)
        self.module = sharded(self.raw, self.device) if shard else accelerator.prepare_model(self.raw)
        self.optimizers = Optimizers(flow, method, plan)
        self.optimizers.prepare(accelerator)
        self.average = Average(flow, plan.ema)
        self.agreement = Agreement(processes, self.device)
        if plan.compile:
            self.raw.measure = Compiled()

    @property
    def lr(self) -> float:
        """The learning rate of the last step, of the flow's first group of weights."""
        return self.optimizers.lr

    def advance(self, batch: Batch, progress: float) -> Loss:
        """One step of the optimizers and of the average, on the rows of a batch that this process has.

        Returns the loss, detached: values are those of the whole batch, residuals those of the rows here. Raises
        FloatingPointError where the loss is not finite.
        """
        batch = batch.each(self._here)
        self.optimizers.schedule(self.plan.schedule(progress))
        self.method.follow(self.flow, progress, moved=self.step > 0)
        loss = self.agreement(self.step + 1, self._gradient(batch, progress))
        self.optimizers.step(self.accelerator, self.plan.clip)
        self.average.update()
        self.step += 1
        return loss

    def _here(self, part: Tensor) -> Tensor:
        """On the device, and in the dtype of the weights."""
        return part.to(self.device, self.dtype if part.is_floating_point() else None, non_blocking=True)

    def _gradient(self, batch: Batch, progress: float) -> list[Loss]:
        losses = self._tried(batch, progress)
        first, self._first = self._first, False
        if first and not self._all_used():
            # averaging waits for the gradients of all weights, unless it is told that some are left out
            self.accelerator.ddp_handler = DistributedDataParallelKwargs(
                find_unused_parameters=True, gradient_as_bucket_view=True
            )
            self.module = self.accelerator.prepare_model(self.raw)
            losses = self._tried(batch, progress)
        return losses

    def _all_used(self) -> bool:
        """Whether the wrapper that averages gradients has seen one of every weight, or does not wait for it."""
        waits = isinstance(self.module, DistributedDataParallel) and not self.module.find_unused_parameters
        return not waits or all(weight.grad is not None for weights in self.optimizers.weights() for weight in weights)

    def _tried(self, batch: Batch, progress: float) -> list[Loss]:
        step = partial(self._backward, batch, progress)
        return self.raw.measure.attempt(step) if isinstance(self.raw.measure, Compiled) else step()

    def _backward(self, batch: Batch, progress: float) -> list[Loss]:
        """The gradient of the batch, part after part; between processes it travels with the last one."""
        self.optimizers.zero_grad()
        last = self.processes.accumulate - 1
        losses = []
        for k in range(last + 1):
            with nullcontext() if k == last else self.accelerator.no_sync(self.module):
                losses.append(self._part(batch, k, progress))
        return losses

    def _part(self, batch: Batch, k: int, progress: float) -> Loss:
        """Random numbers are drawn for the whole batch, alike in all processes; what a network draws itself (dropout)
        is another in every part.
        """
        seed, rows = self.plan.seed, self.processes.rows(k, self.plan.batch_size)
        part = batch.rows(self.processes.part(k))
        condition = condition_of(part, bool(self.plan.labels))
        with seeded(self.device, seed, self.step):
            drawn = self.method.draw(self.flow, part.x0, condition, noise=part.noise, progress=progress, rows=rows)
        with seeded(self.device, seed, self.step, rows.first):
            loss = self.module(drawn, progress)
            self.accelerator.backward(loss.value / self.processes.accumulate)
        return Loss(loss.value.detach(), loss.terms)

    def release(self) -> None:
        """The end of training: look at the last loss, and make all weights whole again that were spread over processes.
        All of them have to do it.
        """
        self.agreement.finish()
        release([self.flow, self.method, self.average.flow, *teachers(self.method)])

    def is_finite(self) -> bool:
        """Whether the loss and everything that training has changed are numbers, as far as it is here. Waits for the
        device.
        """
        self.agreement.finish()
        fixed = {id(weight) for weight in self.flow.parameters() if not weight.requires_grad}
        weights = (weight for part in (self.flow, self.method, self.average.flow) for weight in part.parameters())
        return all_finite([*(weight for weight in weights if id(weight) not in fixed), *self.optimizers.memory()])

    def models(self) -> dict[str, dict[str, Tensor]]:
        """The state dicts that go into a checkpoint. All processes come here, so they look at the last loss together.
        Raises FloatingPointError where it was not finite.
        """
        self.agreement.finish()
        return {
            "flow": self.flow.state_dict(),
            "ema": self.average.flow.state_dict(),
            "method": self.method.state_dict(),
        }

    def state(self) -> dict[str, Any]:
        """The numbers that go into a checkpoint."""
        return {"average_updates": self.average.updates}

    def restore(self, checkpoint: Path, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.method.load_state_dict(read_model(checkpoint, "method", self.method.state_dict()))
        # after the method, whose averaged targets then see that the weights have moved, as they would have
        self.flow.load_state_dict(read_model(checkpoint, "flow", self.flow.state_dict()))
        self.average.flow.load_state_dict(read_model(checkpoint, "ema", self.average.flow.state_dict()))
        self.average.updates = state["average_updates"]
        self.optimizers.load_state_dicts(read_optimizers(checkpoint, self.optimizers.weights()))
        self.step = state["step"]


def detached(loss: Loss) -> Loss:
    """The same loss with its terms without the graph, which a caller may keep."""
    terms = {
        name: replace(t, value=t.value.detach(), residual=t.residual.detach(), s=t.s.detach(), t=t.t.detach())
        for name, t in loss.terms.items()
    }
    return Loss(loss.value, terms)


def sharded(module: LossModule, device: torch.device) -> nn.Module:
    """The loss with all weights that it uses spread over the processes."""
    from torch.distributed.device_mesh import init_device_mesh

    from ..distributed.sharding import Sharded

    method = module.method
    beside = [part.network for part in method.modules() if isinstance(part, Companion) and part.network is not None]
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    return Sharded(module, [module.flow.network, *beside, *teachers(method)], mesh)
