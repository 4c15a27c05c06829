"""Random numbers of a training step, drawn for every row of the batch even if this process holds only some rows.

So the numbers of a row depend on the seed, the step and the row alone. Training does not depend on the number of
processes, or of accumulated parts of a step, that share a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .arguments import at_least, given

Numbers = Callable[[int, Tensor], Tensor]
"""(n, like) -> random numbers for n rows, (n, ...), that broadcast against rows like `like`'s."""


def normal(n: int, like: Tensor) -> Tensor:
    """Standard normal numbers, (n, ...): n rows of the shape, dtype and device of the rows of `like`."""
    return torch.randn(n, *like.shape[1:], dtype=like.dtype, device=like.device)


def uniform(n: int, like: Tensor) -> Tensor:
    """Uniform numbers in [0, 1], one for each of n rows, (n, 1, ..., 1), in the dtype of `like` or float32 at least."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.rand(n, *[1] * (like.ndim - 1), dtype=dtype, device=like.device)


def whole_numbers(most: int) -> Numbers:
    """Sampler of whole numbers 1, ..., `most`, all equally often, one for each of n rows, (n, 1, ..., 1)."""
    at_least(1, most=most)
    return lambda n, like: torch.randint(1, most + 1, (n, *[1] * (like.ndim - 1)), device=like.device)


WHOLE = 0
"""The group of a loss that couples all rows of its term: they are one block."""


def _alone(value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True)
class Rows:
    """The rows of a batch that are here: first, first + every, first + 2 every, ...; by default all of them.

    With P processes that each take K parts of a batch in turn, part k of process p has first = k P + p and every = K P.
    The object draws the random numbers of its rows, and scales a loss on them such that its mean over all parts is the
    loss on the whole batch; so is the mean of its gradients, which data parallelism takes.

    Args:
        first: The first row that is here.
        every: Distance between two rows that are here.
        total: Rows of the whole batch. By default the number of rows that a loss is given; required if every > 1.
        mean: Mean of a detached tensor over the processes, for losses that are held in proportion.
        group: Rows of a block, for losses that couple rows (`in_groups`); 1 if no rows are coupled.

    Attributes:
        scale: Factor that makes the average over all parts equal the full-batch mean. It is computed here, so that a
            compiled loss is the same program in every part.

    Raises:
        ValueError: Unless 0 <= first < every, and if every > 1 without a total.
    """

    first: int = 0
    every: int = 1
    total: int | None = None
    mean: Callable[[Tensor], Tensor] = field(default=_alone, repr=False)
    group: int = 1
    scale: float = field(init=False, default=1.0)

    def __post_init__(self) -> None:
        at_least(0, first=self.first, **given(total=self.total))
        at_least(1, every=self.every)
        if not 0 <= self.first < self.every:
            raise ValueError(f"expected 0 <= first < every, got first={self.first} and every={self.every}")
        if self.every > 1 and self.total is None:
            raise ValueError(f"rows first={self.first}, every={self.every} of how many? Give total=")
        if self.every > 1 and self.total:
            object.__setattr__(self, "scale", self.every * self.count(self.total) / self.total)

    def of_batch(self, here: int) -> Rows:
        """The same rows with their total known.

        Args:
            here: The number of rows that were given.

        Raises:
            ValueError: If it is another number than these rows have.
        """
        rows = self if self.total is not None else replace(self, total=here)
        if here != len(rows):
            raise ValueError(
                f"of {rows.total} rows the ones from {rows.first} on, every {rows.every}, are {len(rows)}, got {here}"
            )
        return rows

    def of(self, total: int, offset: int = 0) -> Rows:
        """The rows that lie among the `total` rows from `offset` on, counted from there."""
        return Rows((self.first - offset) % self.every, self.every, total, self.mean)

    def in_groups(self, group: int | None, name: str) -> Rows:
        """The same rows in blocks, each of them whole here.

        Block b of B has the rows b, b + B, b + 2 B, ..., so that no block is split between processes or accumulated
        parts if their number divides B, and the blocks are the same for any number of them.

        Args:
            group: Rows of a block, or `WHOLE`. None: rows are independent.
            name: Name of the term, for the error.

        Raises:
            ValueError: The rows cannot be split into whole blocks for each process or part.
        """
        total = self.total or 0
        if group == WHOLE and self.every > 1:
            raise ValueError(
                f"the loss of the term {name} couples all rows of a batch, so that {self.every} processes or "
                "accumulated parts would have another loss than one: take one process and accumulate=1, or give the "
                "method a group of rows, group=M, if it takes one"
            )
        if group and total % (group * self.every):
            shared = f" on each of {self.every} processes or accumulated parts" if self.every > 1 else ""
            raise ValueError(
                f"the term {name} has {total} rows of the batch, which are no whole number of blocks of {group} rows"
                f"{shared}: take a batch whose share for this term is a multiple of {group * self.every}"
            )
        return self if group is None else replace(self, total=total, group=group or total)

    def blocks(self, x: Tensor) -> Tensor:
        """The rows here (n, ...), block by block: (n/M, M, ...)."""
        return x.unflatten(0, (self.group, -1)).transpose(0, 1)

    def joined(self, blocks: Tensor) -> Tensor:
        """The inverse of `blocks`: (n/M, M, ...) as rows (n, ...)."""
        return blocks.transpose(0, 1).flatten(0, 1)

    def draw(self, sampler: Callable[[int, Tensor], Any], like: Tensor) -> Any:
        """Random numbers of the rows here, drawn for the whole batch: `sampler(n, like)`, a tensor or a tuple of some.

        So the numbers of a row are a function of seed, step and row, whatever the number of processes and parts.
        """
        drawn = sampler(len(like) if self.total is None else self.total, like)
        return tuple(map(self.here, drawn)) if isinstance(drawn, tuple) else self.here(drawn)

    def here(self, drawn: Tensor) -> Tensor:
        """The rows that are here of a tensor with all rows."""
        return drawn if self.every == 1 else drawn[self.first :: self.every]

    def count(self, total: int) -> int:
        """Number of rows of this shard among `total`."""
        return len(range(self.first, total, self.every))

    def __len__(self) -> int:
        return self.count(self.total or 0)


def generators_of(device: torch.device) -> list[torch.Generator]:
    """Return torch's default generators of the CPU and of a device; `torch.manual_seed` would reset other devices too.

    Args:
        device: The device. The CPU and the meta device have no other generator.

    Returns:
        One generator or two.
    """
    if device.type in ("cuda", "xpu"):
        module = torch.get_device_module(device)
        index = module.current_device() if device.index is None else device.index
        return [torch.default_generator, module.default_generators[index]]
    if device.type == "mps":
        return [torch.default_generator, torch.mps._get_default_mps_generator()]
    return [torch.default_generator]


@contextmanager
def seeded_by(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's default generators inside a `with` block; afterwards they go on as before.

    Args:
        device: Its generator is seeded, and the one of the CPU.
        seed: The seed.

    Yields:
        Nothing.
    """
    generators = generators_of(device)
    before = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)


def seeded(device: torch.device, *numbers: int) -> AbstractContextManager[None]:
    """Seed as `seeded_by` does, by several integers such as (seed, step).

    Args:
        device: Its generator is seeded, and the one of the CPU.
        *numbers: The integers.

    Returns:
        The context.
    """
    return seeded_by(device, mixed(*numbers))


def mixed(*numbers: int) -> int:
    """Mix several integers into one 32-bit seed; neighbouring integers give unrelated seeds."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=4).digest(), "big")
