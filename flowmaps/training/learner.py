"""One training step, and everything that a step changes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..data import Batch
from ..flow_map import FlowMap
from ..method import Loss, Method
from .checkpoint import read_model, read_optimizers
from .condition import condition_of
from .ema import Average
from .finite import FiniteCheck, all_finite
from .optimizers import Optimizers
from .plan import Plan
from .randomness import seeded
from .teachers import move_teachers


class LossModule(nn.Module):
    """The whole loss as a module's forward, which is what data-parallel wrappers wrap and what is compiled."""

    def __init__(self, flow: FlowMap, method: Method) -> None:
        super().__init__()
        self.flow, self.method = flow, method
        self.loss: Callable[..., Loss] = method.loss

    def forward(self, batch: Batch, progress: float, plan: Plan) -> Loss:
        self.method.follow(self.flow, progress)
        condition = condition_of(batch, plan.labels)
        with torch.autocast(batch.x0.device.type, torch.bfloat16, enabled=plan.precision == "bf16"):
            return self.loss(self.flow, batch.x0, condition, noise=batch.noise, progress=progress)


class Learner:
    """Flow, method, optimizers and average, moved forward one batch at a time by `advance`."""

    def __init__(self, flow: FlowMap, method: Method, plan: Plan, accelerator: Accelerator) -> None:
        self.plan, self.accelerator, self.device = plan, accelerator, accelerator.device
        self.step = 0
        self.flow, self.method = flow.to(self.device).train(), method.to(self.device)
        move_teachers(method, self.device)
        method.begin(flow)
        method.follow(flow)
        self.dtype = next((w.dtype for w in flow.parameters()), torch.get_default_dtype())
        self.optimizers = Optimizers(flow, method, plan)
        self.raw = LossModule(flow, method)
        self.module = self.optimizers.prepare(accelerator, self.raw)
        self.average = Average(flow, plan.ema)
        self.check = FiniteCheck(self.device)
        if plan.compile:
            self.raw.loss = torch.compile(method.loss)

    @property
    def lr(self) -> float:
        """The learning rate of the last step, of the flow's first group of weights."""
        return self.optimizers.lr

    def advance(self, batch: Batch, progress: float) -> Loss:
        """One step of the optimizers and of the average. Returns the loss, detached. Raises FloatingPointError where it
        is not finite.
        """
        batch = batch.each(self._here)
        self.optimizers.schedule(self.plan.schedule(progress))
        with seeded(self.device, self.plan.seed, self.step, self.accelerator.process_index):
            loss = self._gradient(batch, progress)
        self.optimizers.step(self.accelerator, self.plan.clip)
        self.average.update()
        self.step += 1
        return loss

    def _here(self, part: Tensor) -> Tensor:
        """On the device, and in the dtype of the weights."""
        return part.to(self.device, self.dtype if part.is_floating_point() else None, non_blocking=True)

    def _gradient(self, batch: Batch, progress: float) -> Loss:
        try:
            return self._backward(batch, progress)
        except Exception as error:
            if self.raw.loss == self.method.loss or not type(error).__module__.startswith(
                ("torch._dynamo", "torch._inductor")
            ):
                raise
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"the loss cannot be compiled, training goes on without: {reason}", stacklevel=2)
            self.raw.loss = self.method.loss
            return self._backward(batch, progress)

    def _backward(self, batch: Batch, progress: float) -> Loss:
        self.optimizers.zero_grad()
        loss = self.module(batch, progress, self.plan)
        seen = detached(loss)
        self.check(self.step + 1, seen)
        self.accelerator.backward(loss.value)
        return seen

    def is_finite(self) -> bool:
        """Whether the loss and everything that a checkpoint would hold are numbers. Waits for the device."""
        self.check.finish()
        weights = (weight for part in (self.flow, self.method, self.average.flow) for weight in part.parameters())
        return all_finite([*weights, *self.optimizers.memory()])

    def models(self) -> dict[str, dict[str, Tensor]]:
        """The state dicts that go into a checkpoint."""
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
    """The same numbers without the graph, which a caller may keep."""
    terms = {
        name: replace(t, value=t.value.detach(), residual=t.residual.detach(), s=t.s.detach(), t=t.t.detach())
        for name, t in loss.terms.items()
    }
    return Loss(loss.value.detach(), terms)
