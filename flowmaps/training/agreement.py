"""Agreement of processes about a training step: the mean loss, and signals received by any process."""

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

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGUSR1", "SIGHUP", "SIGTERM") if hasattr(signal, name))
"""Signals that stop training, which processes share. If several were received, the last one of these counts."""

LATE = ("cuda",)
"""Types of devices whose losses are checked one step later."""


class Agreement:
    """Exchange the mean loss and the received signals after each step, by one small all-reduce.

    On the CPU the result is checked immediately. On a GPU it is copied to the CPU asynchronously and checked one step
    later, so that the device never waits.

    Args:
        processes: The processes of the run.
        device: Device of the losses.

    Attributes:
        pending: Signal that this process received, set by a handler. None: no signal.
        agreed: Signal that any process received, as of the last check. None: no signal.
    """

    def __init__(self, processes: Processes, device: torch.device) -> None:
        self.processes, self.device = processes, device
        self.pending: int | None = None
        self.agreed: int | None = None
        self._unchecked: tuple[int, Loss, Tensor, torch.cuda.Event | None] | None = None

    @property
    def is_late(self) -> bool:
        """Whether a loss is checked in the next step, after its gradient has moved the weights."""
        return self.device.type in LATE

    def __call__(self, step: int, parts: Sequence[Loss]) -> Loss:
        """Combine the losses of all parts of a step.

        Args:
            step: The number of the step.
            parts: The losses of the accumulated parts of this process.

        Returns:
            The loss, detached. Values are averages over all parts of all processes; residuals and times are the ones of
            this process, part after part.

        Raises:
            FloatingPointError: On all processes, if the loss is NaN or infinite on any of them; it names the step, the
                term and the times.
        """
        self.finish()
        local = joined(parts)
        reduced = self._all_reduce(local)
        if self.is_late:
            self._unchecked = step, local, *copied_later(reduced)
        else:
            self._unchecked = step, local, reduced, None
            self.finish()
        return with_values(local, reduced) if self.processes.count > 1 else local

    def finish(self) -> None:
        """Check the last step, if it is still unchecked; all processes call it at the same step.

        Raises:
            FloatingPointError: If the loss was not finite.
        """
        if self._unchecked is None:
            return
        step, local, numbers, event = self._unchecked
        self._unchecked = None
        if event is not None:
            event.synchronize()
        value, *rest = numbers.tolist()
        received = [number for number, share in zip(SIGNALS, rest[-len(SIGNALS) :], strict=True) if share]
        self.agreed = received[-1] if received else None
        if not math.isfinite(value):
            reasons = "; ".join(self._reasons(local)) or "each term is finite, their sum is not"
            raise FloatingPointError(f"the loss is {value} at step {step}; {reasons}")

    def _all_reduce(self, local: Loss) -> Tensor:
        """Average (value, *values of terms, *whether each signal was received) over the processes."""
        values = [local.value, *(term.value for term in local.terms.values())]
        dtype = torch.promote_types(local.value.dtype, torch.float32)
        received = torch.tensor([float(self.pending == s) for s in SIGNALS]).to(self.device, dtype, non_blocking=True)
        return self.processes.mean(torch.cat([torch.stack([value.to(dtype) for value in values]), received]))

    def _reasons(self, local: Loss) -> list[str]:
        """Describe the terms that are not finite, on any process."""
        if self.processes.count == 1:
            return not_finite(local)
        found: list[list[str]] = [[] for _ in range(self.processes.count)]
        dist.all_gather_object(found, not_finite(local))
        return [f"on process {index}, {reason}" for index, reasons in enumerate(found) for reason in reasons]


def copied_later(value: Tensor) -> tuple[Tensor, torch.cuda.Event]:
    """Start to copy a tensor to the CPU; the copy is complete after the event, on the stream of the tensor's device."""
    numbers = torch.empty(value.shape, dtype=value.dtype, pin_memory=True).copy_(value, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(value.device))
    return numbers, event


def joined(parts: Sequence[Loss]) -> Loss:
    """Join the losses of the parts of a process: average the values, concatenate residuals and times."""
    if len(parts) == 1:
        return parts[0]
    terms = {}
    for name, first in parts[0].terms.items():
        of_parts = [part.terms[name] for part in parts]
        residual, s, t = (torch.cat([getattr(term, kind) for term in of_parts]) for kind in ("residual", "s", "t"))
        value = torch.stack([term.value for term in of_parts]).mean()
        terms[name] = replace(first, value=value, residual=residual, s=s, t=t)
    return Loss(torch.stack([part.value for part in parts]).mean(), terms)


def with_values(loss: Loss, values: Tensor) -> Loss:
    """Replace the values of a loss and of its terms by the first entries of a tensor."""
    own, *of_terms = values[: 1 + len(loss.terms)].unbind()
    pairs = zip(loss.terms.items(), of_terms, strict=True)
    return Loss(own, {name: replace(term, value=value) for (name, term), value in pairs})
