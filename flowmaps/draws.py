"""Random numbers of a training step: drawn for every row of the batch, also where only some of its rows are here.

So the numbers that a row gets are a function of the seed, the step and the row alone, and training does not depend on
how many processes, or accumulated parts of a step, share a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Numbers = Callable[[int, Tensor], Tensor]
"""(n, like) -> random numbers for n rows, (n, ...), that broadcast against rows like `like`'s."""


def normal(n: int, like: Tensor) -> Tensor:
    """N(0, 1) for every entry: n rows of the shape, dtype and device of those of `like`."""
    return torch.randn(n, *like.shape[1:], dtype=like.dtype, device=like.device)


def uniform(n: int, like: Tensor) -> Tensor:
    """U[0, 1], one number for each row, (n, 1, ..., 1)."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.rand(n, *[1] * (like.ndim - 1), dtype=dtype, device=like.device)


def _alone(value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True)
class Rows:
    """Which rows of a batch of `total` are here: first, first + every, first + 2 every, ...; all of them by default.

    With P processes that each take K parts of a batch one after the other, part k of process p has first = k P + p
    and every = K P. A loss on these rows is scaled such that its mean over all parts is the loss on the whole batch,
    and so is the mean of its gradients, which is what data parallelism takes.

    total: by default the number of rows that are given, and needed where they are not all.
    mean: of a detached tensor over the processes, for losses that are held in proportion.
    scale: what a mean over the rows here is multiplied with, so that its mean over all parts is that over all rows; a
    number found here, and not from the others within a compiled loss, which would be another one for each part.
    Raises ValueError unless 0 <= first < every, and without a total where every > 1.
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
        """Those of the same rows that lie among the `total` from `offset` on."""
        return Rows((self.first - offset) % self.every, self.every, total, self.mean)

    def here(self, drawn: Any) -> Any:
        """Of something that was drawn for all rows, the rows that are here."""
        return drawn if self.every == 1 else drawn[self.first :: self.every]

    def count(self, total: int) -> int:
        """How many of `total` rows are here."""
        return len(range(self.first, total, self.every))

    def __len__(self) -> int:
        return self.count(self.total or 0)


@contextmanager
def seeded(device: torch.device, *numbers: int) -> Iterator[None]:
    """Seed torch's default generators inside a `with` block; afterwards they go on as before.

    Args:
        device: Its generator is seeded, and the one of the CPU.
        *numbers: The seed, made of several integers such as (seed, step).

    Yields:
        Nothing.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(
            torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
        )
    before = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(mixed(*numbers))
        yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)


def mixed(*numbers: int) -> int:
    """Mix several integers into one 32-bit seed; neighbouring integers give unrelated seeds."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=4).digest(), "big")
