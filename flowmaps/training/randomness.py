"""Random numbers of a training step: a function of (seed, step), with the caller's own generators left as they were."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(device: torch.device, *numbers: int) -> Iterator[None]:
    """Inside, torch's default generators of the CPU and of `device` start from a seed made of `numbers`; afterwards
    they go on as before.
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
    """One 32-bit seed from several integers; neighbouring integers give unrelated seeds."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=4).digest(), "big")
