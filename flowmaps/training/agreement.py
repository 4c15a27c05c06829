"""Agreement of processes about a training step: one loss for all of them, and the signals that came to any."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor

from ..distributed.processes import Processes
from ..method.method import Loss
from .diagnostics import not_finite

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that processes share. If both came, the last one counts."""


class Agreement:
    """Agree about each step by one small sum over the processes: the mean loss, and the signals that came.

    On the CPU the numbers are looked at at once. On an accelerator they travel to the CPU behind the running step and
    are looked at one step later, so that the device never waits.

    Args:
        processes: The processes of the run.
        device: Where losses are.

    Attributes:
        pending: The signal that came to this process, set by a handler.
        agreed: A signal that came to any process.
    """

    def __init__(self, processes: Processes, device: torch.device) -> None:
        self.processes, self.device = processes, device
        self.pending: int | None = None
        self.agreed: int | None = None
        self._waiting: tuple[int, Loss, Tensor, torch.cuda.Event | None] | None = None

    def __call__(self, step: int, parts: Sequence[Loss]) -> Loss:
        """Combine the losses of all parts of a step.

        Args:
            step: The number of the step.
            parts: The losses of the parts that were computed here.

        Returns:
            The loss, detached. Values are means over all parts of all processes; residuals and times belong to the
            rows here, part after part.

        Raises:
            FloatingPointError: On all processes, if the loss is NaN or infinite on any of them; it names the step, the
                term and the times.
        """
        self.finish()
        mine = joined(parts)
        told = self._told(mine)
        if told.device.type == "cuda":
            numbers = torch.empty(told.shape, dtype=told.dtype, pin_memory=True).copy_(told, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            self._waiting = step, mine, numbers, event
        else:
            self._waiting = step, mine, told, None
            self.finish()
        return valued(mine, told) if self.processes.count > 1 else mine

    def finish(self) -> None:
        """Look at the numbers that are still on their way; all processes call it at the same step.

        Raises:
            FloatingPointError: If the loss was not finite.
        """
        if self._waiting is None:
            return
        step, mine, numbers, event = self._waiting
        self._waiting = None
        if event is not None:
            event.synchronize()
        value, *_, interrupted, terminated = numbers.tolist()
        self.agreed = next((s for s, came in ((SIGNALS[1], terminated), (SIGNALS[0], interrupted)) if came), None)
        if not math.isfinite(value):
            reasons = "; ".join(self._reasons(mine)) or "each term is finite, their sum is not"
            raise FloatingPointError(f"the loss is {value} at step {step}; {reasons}")

    def _told(self, mine: Loss) -> Tensor:
        """(value, *values of terms, *number of processes to which each signal came), summed up over the processes."""
        values = [mine.value, *(term.value for term in mine.terms.values())]
        dtype = torch.promote_types(mine.value.dtype, torch.float32)
        came = torch.tensor([float(self.pending == s) for s in SIGNALS]).to(self.device, dtype, non_blocking=True)
        return self.processes.mean(torch.cat([torch.stack([value.to(dtype) for value in values]), came]))

    def _reasons(self, mine: Loss) -> list[str]:
        """The terms that are not finite, on any process."""
        if self.processes.count == 1:
            return not_finite(mine)
        found: list[list[str]] = [[] for _ in range(self.processes.count)]
        dist.all_gather_object(found, not_finite(mine))
        return [f"on process {index}, {reason}" for index, reasons in enumerate(found) for reason in reasons]


def joined(parts: Sequence[Loss]) -> Loss:
    """Join the losses of a process's parts: means of values, all residuals and times."""
    if len(parts) == 1:
        return parts[0]
    terms = {}
    for name, first in parts[0].terms.items():
        of_parts = [part.terms[name] for part in parts]
        residual, s, t = (torch.cat([getattr(term, kind) for term in of_parts]) for kind in ("residual", "s", "t"))
        value = torch.stack([term.value for term in of_parts]).mean()
        terms[name] = replace(first, value=value, residual=residual, s=s, t=t)
    return Loss(torch.stack([part.value for part in parts]).mean(), terms)


def valued(loss: Loss, values: Tensor) -> Loss:
    """Replace the values of a loss, its own first, then those of its terms."""
    own, *of_terms = values[: 1 + len(loss.terms)].unbind()
    pairs = zip(loss.terms.items(), of_terms, strict=True)
    return Loss(own, {name: replace(term, value=value) for (name, term), value in pairs})
