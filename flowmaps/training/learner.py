"""One training step, and everything that a step changes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..flow_map import FlowMap
from ..method import Loss, Method
from ..velocity import Fixed
from .checkpoint import read_model, read_optimizer
from .ema import Average
from .finite import FiniteCheck, all_finite
from .plan import Plan
from .randomness import seeded

Condition = dict[str, Tensor] | None


class LossModule(nn.Module):
    """The whole loss as a module's forward, which is what data-parallel wrappers wrap and what is compiled."""

    def __init__(self, flow: FlowMap, method: Method) -> None:
        super().__init__()
        self.flow, self.method = flow, method
        self.loss: Callable[..., Loss] = method.loss

    def forward(self, x0: Tensor, condition: Condition, progress: float, precision: str) -> Loss:
        self.method.follow(self.flow)
        with torch.autocast(x0.device.type, torch.bfloat16, enabled=precision == "bf16"):
            return self.loss(self.flow, x0, condition, progress=progress)


class Learner:
    """Flow, method, optimizer and average, moved forward one batch at a time by `advance`."""

    def __init__(self, flow: FlowMap, method: Method, plan: Plan, accelerator: Accelerator) -> None:
        self.plan, self.accelerator, self.device = plan, accelerator, accelerator.device
        self.step = 0
        self.flow, self.method = flow.to(self.device).train(), method.to(self.device)
        move_teachers(method, self.device)
        method.follow(flow)
        self.dtype = next((w.dtype for w in flow.parameters()), torch.get_default_dtype())
        self.weights = [w for w in (*flow.parameters(), *method.parameters()) if w.requires_grad]
        if not self.weights:
            raise ValueError("there is nothing to train: no weight of the flow map or the method requires a gradient")
        optimizer = (plan.optimizer or adamw(plan.lr))(self.weights)
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.raw = LossModule(flow, method)
        self.module, self.optimizer = accelerator.prepare(self.raw, optimizer)
        self.average = Average(flow, plan.ema)
        self.check = FiniteCheck(self.device)
        if plan.compile:
            self.raw.loss = torch.compile(method.loss)

    @property
    def lr(self) -> float:
        """The learning rate of the last step, of the first group of weights."""
        return self.optimizer.param_groups[0]["lr"]

    def advance(self, x0: Tensor, condition: Condition, progress: float) -> Loss:
        """One step of the optimizer and of the average. Returns the loss, detached. Raises FloatingPointError where it
        is not finite.
        """
        x0 = x0.to(self.device, self.dtype if x0.is_floating_point() else None, non_blocking=True)
        condition = condition and {name: value.to(self.device, non_blocking=True) for name, value in condition.items()}
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.plan.schedule(progress)
        with seeded(self.device, self.plan.seed, self.step, self.accelerator.process_index):
            loss = self._gradient(x0, condition, progress)
        if self.plan.clip is not None:
            self.accelerator.clip_grad_norm_(self.weights, self.plan.clip)
        self.optimizer.step()
        self.average.update()
        self.step += 1
        return loss

    def _gradient(self, x0: Tensor, condition: Condition, progress: float) -> Loss:
        try:
            return self._backward(x0, condition, progress)
        except Exception as error:
            if self.raw.loss == self.method.loss or not type(error).__module__.startswith(
                ("torch._dynamo", "torch._inductor")
            ):
                raise
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"the loss cannot be compiled, training goes on without: {reason}", stacklevel=2)
            self.raw.loss = self.method.loss
            return self._backward(x0, condition, progress)

    def _backward(self, x0: Tensor, condition: Condition, progress: float) -> Loss:
        self.optimizer.zero_grad()
        loss = self.module(x0, condition, progress, self.plan.precision)
        seen = detached(loss)
        self.check(self.step + 1, seen)
        self.accelerator.backward(loss.value)
        return seen

    def is_finite(self) -> bool:
        """Whether loss and weights are numbers. Waits for the device."""
        self.check.finish()
        return all_finite([*self.flow.parameters(), *self.method.parameters()])

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
        self.method.load_state_dict(read_model(checkpoint, "method"))
        # after the method, whose averaged targets then see that the weights have moved, as they would have
        self.flow.load_state_dict(read_model(checkpoint, "flow"))
        self.average.flow.load_state_dict(read_model(checkpoint, "ema"))
        self.average.updates = state["average_updates"]
        self.optimizer.load_state_dict(read_optimizer(checkpoint))
        self.step = state["step"]


def adamw(lr: float) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """AdamW without weight decay and with a short memory of squares."""

    def make(weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        weights = list(weights)
        fused = all(weight.device.type in ("cpu", "cuda") for weight in weights)
        return torch.optim.AdamW(weights, lr=lr, betas=(0.9, 0.95), weight_decay=0.0, fused=fused)

    return make


def detached(loss: Loss) -> Loss:
    """The same numbers without the graph, which a caller may keep."""
    terms = {
        name: replace(t, value=t.value.detach(), residual=t.residual.detach(), s=t.s.detach(), t=t.t.detach())
        for name, t in loss.terms.items()
    }
    return Loss(loss.value.detach(), terms)


def move_teachers(method: Method, device: torch.device) -> None:
    """A frozen teacher is no part of the method's weights, so it does not follow `method.to(device)`."""
    for term in method.terms:
        for source in (term.velocity, *term.sources.values()):
            if isinstance(source, Fixed) and isinstance(source.teacher, nn.Module):
                source.teacher.to(device)
