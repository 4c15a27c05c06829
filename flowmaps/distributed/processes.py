"""Processes that train together, and which rows of a batch each one takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor

from ..draws import Rows


@dataclass(frozen=True)
class Processes:
    """Process `index` of `count`, each of which takes its rows of a batch in `accumulate` parts one after another.

    With P processes and K parts, part k of process p holds the rows p + k P, p + k P + K P, ... of the batch. For any P
    and K the mean of their losses is the loss of a single process, and so is the mean of their gradients.
    """

    index: int = 0
    count: int = 1
    accumulate: int = 1

    @property
    def mine(self) -> slice:
        """The rows of a batch that this process reads."""
        return slice(self.index, None, self.count)

    def part(self, k: int) -> slice:
        """The k-th part of the rows that this process has read."""
        return slice(k, None, self.accumulate)

    def rows(self, k: int, total: int) -> Rows:
        """The rows of a batch of `total` that the k-th part holds."""
        return Rows(self.index + k * self.count, self.count * self.accumulate, total, self.mean)

    def mean(self, value: Tensor) -> Tensor:
        """Average a detached tensor over the processes, all of which call this."""
        if self.count == 1:
            return value
        value = value.clone()
        dist.all_reduce(value)
        return value / self.count

    def check(self, batch_size: int) -> None:
        """Check that each part gets a row.

        Args:
            batch_size: Rows of a step, over all processes.

        Raises:
            ValueError: If there are fewer rows than parts, or fewer than one part.
        """
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {self.accumulate}")
        if batch_size < self.count * self.accumulate:
            raise ValueError(
                f"batch_size is that of all processes: {batch_size} rows are too few for {self.count} processes with "
                f"{self.accumulate} parts each"
            )
