"""The cost of sampling: network calls, counted, and time, measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn


@dataclass
class Counter:
    """The work of a network so far.

    Attributes:
        calls: Forward calls.
        rows: Rows of all forward calls.
        backward_rows: Rows of all backward passes through the network.
    """

    calls: int = 0
    rows: int = 0
    backward_rows: int = 0


@contextmanager
def counting(network: nn.Module) -> Iterator[Counter]:
    """Count all forward calls of `network` inside a `with` block, their rows, and the rows of its backward passes."""
    counter = Counter()

    def returned(gradient: Tensor) -> None:
        counter.backward_rows += len(gradient)

    def count(module: nn.Module, inputs: object, output: object) -> None:
        counter.calls += 1
        if isinstance(output, Tensor) and output.ndim:
            counter.rows += len(output)
            if output.requires_grad:
                output.register_hook(returned)

    handle = network.register_forward_hook(count)
    try:
        yield counter
    finally:
        handle.remove()


@dataclass(frozen=True)
class Sampled:
    """Samples with their cost.

    Attributes:
        x: Samples (N, *shape) on the CPU.
        network_calls: Network calls of one batch.
        seconds_per_sample: The median over batches.
    """

    x: Tensor
    network_calls: int
    seconds_per_sample: float


def measured(network: nn.Module, draw: Callable[[slice], Tensor], n: int, batch_size: int) -> Sampled:
    """Draw samples in batches, counting network calls and timing.

    The first batch warms up caches and is not timed, nor is a smaller last batch. If no other batch remains, the first
    one is drawn twice.

    Args:
        network: The network; its calls are counted.
        draw: Draws the samples of a slice of 0..n.
        n: The number of samples.
        batch_size: Samples at a time.

    Returns:
        The samples and their cost.
    """
    slices = [slice(start, min(n, start + batch_size)) for start in range(0, n, batch_size)]
    with counting(network) as counter:
        first = draw(slices[0])
    again = slices[1:] if n >= 2 * batch_size else slices
    batches, seconds = [first.cpu()] * (again is not slices), []
    for rows in again:
        began = time.perf_counter()
        x = draw(rows)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        if len(x) == min(n, batch_size):
            seconds.append((time.perf_counter() - began) / len(x))
        batches.append(x.cpu())
    return Sampled(torch.cat(batches), counter.calls, median(seconds))
