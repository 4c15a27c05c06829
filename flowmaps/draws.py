"""Random numbers of a training step, drawn for every row of the batch even if this process holds only some rows.

So the numbers of a row depend on the seed, the step and the row alone. Training does not depend on the number of
processes, or of accumulated parts of a step, that share a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Numbers = Callable[[int, Tensor], Tensor]
"""(n, like) -> random numbers for n rows, (n, ...), that broadcast against rows like `like`'s."""


def normal(n: int, like: Tensor) -> Tensor:
    """Standard normal numbers, (n, ...): n rows of the shape, dtype and device of the rows of `like`."""
    return torch.randn(n, *like.shape[1:], dtype=like.dtype, device=like.device)


def uniform(n: int, like: Tensor) -> Tensor:
    """Uniform numbers in [0, 1], one for each of n rows, (n, 1, ..., 1), in the dtype of `like` or float32 at least."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.rand(n, *[1] * (like.ndim - 1), dtype=dtype, device=like.device)


def _alone(value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True)
class Rows:
    """Shard of a batch: the rows first, first + every, first + 2 every, ... of `total`; all of them by default.

    Args:
        first: Index of the first row of the shard.
        every: Stride, which is the number of shards.
        total: Number of rows of the whole batch. None: the number of rows that are given, which needs every = 1.
        mean: Average of a detached tensor over the processes, for losses that are balanced against each other.

    Attributes:
        scale: Factor that makes the average over shards equal the full-batch mean. It is computed here, for within a
            compiled loss it would be a different constant for each shard.

    Raises:
        ValueError: Unless 0 <= first < every, or there is no total and every > 1.

    With P processes that each take K parts of a batch one after the other, part k of process p has first = k P + p and
    every = K P. The loss on a shard is scaled so that its mean over the shards is the loss on the whole batch. The same
    holds for the mean of its gradients, which data parallelism computes.
    """

    first: int = 0
    every: int = 1
    total: int | None = None
    mean: Callable[[Tensor], Tensor] = _alone
    scale: float = field(init=False, default=1.0)

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.every:
            raise ValueError(f"expected 0 <= first < every, got first={self.first} and every={self.every}")
        if self.every > 1 and self.total is None:
            raise ValueError(f"rows first={self.first}, every={self.every} of how many? Give total=")
        if self.every > 1 and self.total:
            object.__setattr__(self, "scale", self.every * self.count(self.total) / self.total)

    def of(self, total: int, offset: int = 0) -> Rows:
        """Shard of a part of the batch: the rows of this shard among the `total` rows from `offset` on."""
        return Rows((self.first - offset) % self.every, self.every, total, self.mean)

    def here(self, drawn: Any) -> Any:
        """Rows of this shard, of a tensor drawn for the whole batch."""
        return drawn if self.every == 1 else drawn[self.first :: self.every]

    def count(self, total: int) -> int:
        """Number of rows of this shard among `total`."""
        return len(range(self.first, total, self.every))

    def __len__(self) -> int:
        return self.count(self.total or 0)
