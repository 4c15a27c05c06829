"""The processes of a training run, and the rows of a batch that each one takes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from ..draws import Rows


def join(timeout: float, cpu: bool = False) -> bool:
    """Join the other processes that a launcher has started, unless that is done or there are none.

    Args:
        timeout: Seconds that processes wait for one another.
        cpu: Whether several processes train on CPUs, although there are GPUs.

    Returns:
        The argument `cpu` of accelerate. Without it, accelerate does not detect processes that torchrun started on
        CPUs.
    """
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    cpu = not torch.accelerator.is_available() or (cpu and several)
    if several and not dist.is_initialized():
        from accelerate import PartialState

        PartialState(cpu=cpu, timeout=timedelta(seconds=timeout))
    return cpu


@dataclass(frozen=True)
class Processes:
    """One of several processes that share a batch, each in one or more accumulated parts.

    With P processes and K parts, part k of process p holds the rows p + k P, p + k P + K P, ... of the batch. For any P
    and K, the average of the losses and of the gradients over all parts is the result of a single process.

    Args:
        index: Rank of this process.
        count: Number of processes.
        accumulate: Number of parts in which a process computes its rows, one after another.
    """

    index: int = 0
    count: int = 1
    accumulate: int = 1

    @property
    def mine(self) -> slice:
        """Slice of a batch that this process reads."""
        return slice(self.index, None, self.count)

    def part(self, k: int) -> slice:
        """Return the k-th part, as a slice of the rows of this process."""
        return slice(k, None, self.accumulate)

    def rows(self, k: int, total: int) -> Rows:
        """Return the rows of the k-th part, out of a batch of `total`."""
        return Rows(self.index + k * self.count, self.count * self.accumulate, total, self.mean)

    def mean(self, value: Tensor) -> Tensor:
        """Average a detached tensor over the processes; all of them call it."""
        if self.count == 1:
            return value
        value = value.clone()
        dist.all_reduce(value)
        return value / self.count

    def check(self, batch_size: int) -> None:
        """Check that each part gets at least one row.

        Args:
            batch_size: Rows of a step, over all processes.

        Raises:
            ValueError: If there are fewer rows than parts, or fewer than one part.
        """
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {self.accumulate}")
        if batch_size < self.count * self.accumulate:
            raise ValueError(
                f"batch_size counts the rows of all processes: {batch_size} rows are too few for {self.count} "
                f"processes with {self.accumulate} parts each"
            )
