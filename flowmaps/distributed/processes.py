"""Processes that train together: which rows of a batch are whose, and what all of them know after a step."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor

from ..draws import Rows
from ..method.method import Loss
from ..training.finite import not_finite

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What processes tell each other of, the one that wins last."""


@dataclass(frozen=True)
class Processes:
    """Process `index` of `count`, each of which takes its rows of a batch in `accumulate` parts one after another.

    With P processes and K parts, part k of process p holds the rows p + k P, p + k P + K P, ... of the batch: for any P
    and K their losses have the mean that a single process computes, and so have their gradients.
    """

    index: int = 0
    count: int = 1
    accumulate: int = 1

    @property
    def mine(self) -> slice:
        """The rows of a batch that this process reads."""
        return slice(self.index, None, self.count)

    def part(self, k: int) -> slice:
        """Of the rows that this process has read, those of its k-th part."""
        return slice(k, None, self.accumulate)

    def rows(self, k: int, total: int) -> Rows:
        """Which rows of a batch of `total` the k-th part holds."""
        return Rows(self.index + k * self.count, self.count * self.accumulate, total, self.mean)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a detached tensor over the processes, which all of them have to ask for."""
        if self.count == 1:
            return value
        value = value.clone()
        dist.all_reduce(value)
        return value / self.count

    def check(self, batch_size: int) -> None:
        """Raise ValueError for a batch with fewer rows than parts, or for fewer than one part."""
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {self.accumulate}")
        if batch_size < self.count * self.accumulate:
            raise ValueError(
                f"batch_size is that of all processes: {batch_size} rows are too few for {self.count} processes with "
                f"{self.accumulate} parts each"
            )


class Agreement:
    """What all processes know of a step, by one small sum over them: the mean loss, and the signals that came.

    pending: the signal that came to this process, which a handler sets. agreed: one that came to any of them.

    On the CPU at once. On an accelerator the numbers travel to the CPU behind the running step and are looked at one
    step later, so that the device never waits.
    """

    def __init__(self, processes: Processes, device: torch.device) -> None:
        self.processes, self.device = processes, device
        self.pending: int | None = None
        self.agreed: int | None = None
        self._waiting: tuple[int, Loss, Tensor, torch.cuda.Event | None] | None = None

    def __call__(self, step: int, parts: Sequence[Loss]) -> Loss:
        """The loss of a step from those of the parts that were computed here, detached: values are means over all
        parts, residuals and times are those of the rows here, part after part.

        Raises FloatingPointError on all processes for a loss that is NaN or infinite on any of them, naming the step,
        the term and the times.
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
        """Look at the numbers that are still on their way. All processes have to come here at the same step."""
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
        """(value, *values of terms, *number of processes to which each signal came, over all of them)."""
        values = [mine.value, *(term.value for term in mine.terms.values())]
        dtype = torch.promote_types(mine.value.dtype, torch.float32)
        came = torch.tensor([float(self.pending == s) for s in SIGNALS]).to(self.device, dtype, non_blocking=True)
        return self.processes.mean(torch.cat([torch.stack([value.to(dtype) for value in values]), came]))

    def _reasons(self, mine: Loss) -> list[str]:
        """Where the loss is not finite, on whichever process it is."""
        if self.processes.count == 1:
            return not_finite(mine)
        found: list[list[str]] = [[] for _ in range(self.processes.count)]
        dist.all_gather_object(found, not_finite(mine))
        return [f"on process {index}, {reason}" for index, reasons in enumerate(found) for reason in reasons]


def joined(parts: Sequence[Loss]) -> Loss:
    """One loss from those of a process's parts: means of values, all residuals and times."""
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
    """The same loss with other values, its own first and then those of its terms."""
    own, *of_terms = values[: 1 + len(loss.terms)].unbind()
    pairs = zip(loss.terms.items(), of_terms, strict=True)
    return Loss(own, {name: replace(term, value=value) for (name, term), value in pairs})
