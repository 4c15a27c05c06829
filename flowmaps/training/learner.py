"""One training step, and everything that a step changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
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
from ..method.method import Loss, Method, measure
from ..runs.checkpoint import read_model, read_optimizers
from ..velocity import Companion, Pair
from .agreement import Agreement
from .compiling import Compiled
from .config import Precision, TrainConfig
from .diagnostics import all_finite, cause
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

    def forward(self, pairs: Sequence[Pair], progress: float = 0.0) -> Loss:
        """`Method.measure` on the pairs of `Method.draw`: a value to call backward() on, its terms detached."""
        device = pairs[0].x0.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return detached(self.measure(self.flow, self.method.now(progress), pairs))


class Learner:
    """Flow, method, optimizers and average, moved forward one batch at a time by `take`."""

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

    def take(self, batch: Batch, progress: float) -> Loss:
        """One step of the optimizers and of the average, on the rows of a batch that this process has.

        Returns:
            The loss, detached: values are means over the whole batch, residuals belong to the rows here.

        Raises:
            FloatingPointError: If the loss is not finite, with the cause.
        """
        batch = batch.each(lambda part: part.to(self.device, self._dtype_of(part), non_blocking=True))
        self.optimizers.schedule(self.plan.schedule(progress))
        self.method.follow(self.flow, progress, moved=self.step > 0)
        try:
            losses = self.backward(batch, progress)
        except Exception as error:
            if not (isinstance(self.raw.measure, Compiled) and self.raw.measure.give_up(error)):
                raise
            losses = self.backward(batch, progress)
        if self._first and not self._all_used():
            # averaging waits for the gradients of all weights, unless it is told that some are left out
            handler = DistributedDataParallelKwargs(find_unused_parameters=True, gradient_as_bucket_view=True)
            self.accelerator.ddp_handler = handler
            self.module = self.accelerator.prepare_model(self.raw)
            losses = self.backward(batch, progress)
        self._first = False
        try:
            loss = self.agreement(self.step + 1, losses)
        except FloatingPointError as error:
            found = cause(self.flow, self.method, batch, bool(self.plan.labels))
            raise FloatingPointError(f"{error}; {found}") from None
        self.optimizers.step(self.accelerator, self.plan.clip)
        self.average.update()
        self.step += 1
        return loss

    def backward(self, batch: Batch, progress: float) -> list[Loss]:
        """The gradient of the batch, part after part; between processes it travels with the last one.

        Random numbers are drawn for the whole batch, alike in all processes. A network's own (dropout) differ from
        part to part.
        """
        self.optimizers.zero_grad()
        processes, seed, losses = self.processes, self.plan.seed, []
        for k in range(processes.accumulate):
            rows, part = processes.rows(k, self.plan.batch_size), batch.rows(processes.part(k))
            last, condition = k == processes.accumulate - 1, condition_of(part, bool(self.plan.labels))
            with seeded(self.device, seed, self.step):
                pairs = self.method.draw(self.flow, part.x0, condition, noise=part.noise, progress=progress, rows=rows)
            unsent = nullcontext() if last else self.accelerator.no_sync(self.module)
            with unsent, seeded(self.device, seed, self.step, rows.first):
                loss = self.module(pairs, progress)
                self.accelerator.backward(loss.value / processes.accumulate)
            losses.append(Loss(loss.value.detach(), loss.terms))
        return losses

    def _dtype_of(self, part: Tensor) -> torch.dtype | None:
        """Numbers come in the dtype of the weights, labels in their own."""
        return self.dtype if part.is_floating_point() else None

    def _all_used(self) -> bool:
        """Whether the wrapper that averages gradients has seen one of every weight, or does not wait for it."""
        waits = isinstance(self.module, DistributedDataParallel) and not self.module.find_unused_parameters
        return not waits or all(weight.grad is not None for weights in self.optimizers.weights() for weight in weights)

    def release(self) -> None:
        """The end of training: look at the last loss, and make all weights whole again that were spread over processes.
        All of them have to do it.
        """
        self.agreement.finish()
        unshard_in_place([self.flow, self.method, self.average.flow, *teachers(self.method)])

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
