"""Stop when a loss is no number, and say where it happened."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from ..method import Loss
from ..term import TermLoss


class FiniteCheck:
    """`check(step, loss)` raises FloatingPointError for a loss that is NaN or infinite, naming the step, the term and
    the times.

    On the CPU at once. On an accelerator the value travels to the CPU behind the running step and is looked at one step
    later, so that the device never waits.
    """

    def __init__(self, device: torch.device) -> None:
        self._asynchronous = device.type == "cuda"
        self._waiting: tuple[int, Loss, Tensor, torch.cuda.Event] | None = None

    def __call__(self, step: int, loss: Loss) -> None:
        if not self._asynchronous:
            return refuse(step, loss, loss.value.item())
        self.finish()
        value = torch.empty((), dtype=loss.value.dtype, pin_memory=True).copy_(loss.value, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._waiting = step, loss, value, event

    def finish(self) -> None:
        """Wait for the value that is still on its way, and check it."""
        if self._waiting is not None:
            step, loss, value, event = self._waiting
            self._waiting = None
            event.synchronize()
            refuse(step, loss, value.item())


def refuse(step: int, loss: Loss, value: float) -> None:
    """Raise FloatingPointError unless `value`, that of the loss, is finite."""
    if not math.isfinite(value):
        named = [f"{name}: {where(term)}" for name, term in loss.terms.items() if not math.isfinite(term.value.item())]
        raise FloatingPointError(
            f"the loss is {value} at step {step}; " + ("; ".join(named) or "each term is finite, their sum is not")
        )


def where(term: TermLoss) -> str:
    """Which rows of a term are not finite and at which times."""
    bad = ~term.residual.isfinite().reshape(len(term.residual), -1).all(1)
    rows, cause = int(bad.sum()), "its residual is not finite"
    if rows == 0:
        bad, cause = torch.ones_like(bad), "its residual is finite, but its weight makes it overflow"
    times = " and ".join(f"{name} in {span(time.flatten()[bad])}" for name, time in (("s", term.s), ("t", term.t)))
    return f"{cause} in {rows or len(bad)} of {len(bad)} rows, with {times}"


def span(values: Tensor) -> str:
    return f"[{values.min().item():.4g}, {values.max().item():.4g}]"


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no entry of any floating-point tensor is NaN or infinite."""
    floating = [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
    return not floating or bool(torch.stack([tensor.isfinite().all() for tensor in floating]).all())
