"""The size of an evaluation: the samplers and samples, fewer for a large network, and the time that it takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from .. import arguments
from ..data import Data
from ..flow_map import FlowMap
from ..sampling.in_order import makes_sequences
from .samplers import Sampler, Setup

Say = Callable[[str], None]
MOST_VALUES = 2**26
"""Largest number of values in the samples of one row of the table. It bounds the memory: beyond it draws are fewer."""
MOST_OPERATIONS = {"cpu": 3e13}
"""Most operations of the network in a table by type of device, about ten minutes; beyond it samples are fewer."""
ELSEWHERE = 3e16
"""The same for other devices, such as a GPU."""
LEAST_ROWS, FEWER_DRAWS = 64, 4
"""Rows of a draw, and number of draws, below which the size of a network reduces no evaluation."""
PERIOD = 10.0
"""Seconds between two messages about progress."""


@dataclass(frozen=True)
class Size:
    """The size of an evaluation.

    Attributes:
        jumps: Numbers of jumps.
        ode_steps: Numbers of Euler steps.
        n: Rows on either side of a distance.
        draws: The number of disjoint draws of n samples.
        fewer: Whether a large network has reduced it.
    """

    jumps: Sequence[int]
    ode_steps: Sequence[int]
    n: int
    draws: int
    fewer: bool = False


FULL = Size((1, 2, 4, 8), (16, 100), 2048, 8)
FULL_TOKENS = Size((1, 2, 4, 8), (16, 64), 4096, 4)
"""The size for tokens, whose n-grams need many rows in a draw."""
FULL_MANIFOLD = Size((1, 2, 4, 8), (16, 100), 1024, 8)
"""The size for points on manifolds, whose distances cost N^2."""
FULL_SEQUENCES, QUICK_SEQUENCES = Size((1, 4), (16,), 256, 4), Size((1,), (16,), 64, 4)
"""The sizes for sequences that are made frame by frame, each frame by these steps."""
QUICK = Size((1, 4), (16,), 512, 4)


def size_of(flow: FlowMap, data: Data, labels: bool, quick: bool = False, **given: Any) -> Size:
    """Choose the size of an evaluation by its network and its device.

    Operations are counted, so the same network has the same size on each machine. A smaller n has a larger floor and
    larger standard errors, which are measured at this n.

    Args:
        flow: The flow map.
        data: The data set.
        labels: Whether the network is conditioned on labels.
        quick: Whether to choose few samplers and few samples.
        **given: Values of the caller by the names of `Size`; None chooses.

    Returns:
        The size. Given values are kept, except that there are fewer draws if the samples did not fit into the memory.

    Raises:
        TypeError: A number is not an integer.
        ValueError: A number is below 1, or n below 2.
    """
    wished = arguments.given(**given)
    numbers = {name: wished[name] for name in ("n", "draws") if name in wished}
    steps = {name: wished[name] for name in ("jumps", "ode_steps") if name in wished}
    arguments.at_least(2, **arguments.given(n=wished.get("n")))
    arguments.at_least(1, **numbers, **arguments.numbered(**steps))
    full = FULL_TOKENS if data.kind == "tokens" else FULL if data.manifold is None else FULL_MANIFOLD
    full, small = (FULL_SEQUENCES, QUICK_SEQUENCES) if makes_sequences(flow) else (full, QUICK)
    size = replace(small if quick else full, **wished)
    if not {"n", "draws"} & wished.keys():
        size = _affordable(size, flow, data, labels)
    return replace(size, draws=max(2, min(size.draws, MOST_VALUES // (size.n * math.prod(data.shape)))))


def _affordable(size: Size, flow: FlowMap, data: Data, labels: bool) -> Size:
    """Reduce draws, then rows, until the operations of all samplers are few enough."""
    steps = sum(size.jumps) + (sum(size.ode_steps) if flow.has_ode else 0)
    most = MOST_OPERATIONS.get(flow.like.device.type, ELSEWHERE)
    rows = int(most / max(1, operations(flow, data, labels) * steps))
    if rows >= size.n * size.draws:
        return size
    draws = max(min(FEWER_DRAWS, size.draws), min(size.draws, rows // size.n))
    n = min(size.n, max(LEAST_ROWS, 2 ** int(math.log2(max(1, rows // draws)))))
    return replace(size, n=n, draws=draws, fewer=(n, draws) != (size.n, size.draws))


def operations(flow: FlowMap, data: Data, labels: bool) -> int:
    """Count the operations of one call of the network for one row: products of matrices and convolutions."""
    bare = flow.around(flow.network)
    bare.trained = None  # it is counted, not sampled: untrained times are no reason to warn
    setup = Setup.make(bare, data, 1, 1, seed=0, batch_size=1, labels=labels)
    training = flow.training
    flow.eval()
    try:
        with FlopCounterMode(display=False) as counter, torch.random.fork_rng(devices=[]):
            setup.sample(Sampler("jump", 1, _one_call), slice(0, 1))
    finally:
        flow.train(training)
    return counter.get_total_flops()


def _one_call(flow: FlowMap, x: torch.Tensor, s: float, t: float) -> torch.Tensor:
    """One call of the network, at times that every map knows."""
    return flow.average_velocity(x, s, t)


def say_fewer(say: Say | None, size: Size) -> None:
    """Say that a large network has reduced an evaluation, and how to have it whole."""
    if size.fewer and say is not None:
        say(
            f"Measuring fewer samples, {size.draws} draws of {size.n} instead of {FULL.draws} of {FULL.n}, as the "
            f"network is large; n={FULL.n} measures all, and quick fewer samplers"
        )


class Progress:
    """Announce the time of an evaluation, and say every ten seconds how far it is.

    Args:
        say: Function that shows a message.
        setup: The samples.
        table: The samplers.
    """

    def __init__(self, say: Say, setup: Setup, table: Sequence[Sampler]) -> None:
        self.say, self.setup, self.table = say, setup, table
        self.total = sum(each.steps * setup.rows(each) for each in table)
        self.calls = self.total * (setup.noise.shape[1] if makes_sequences(setup.flow) else 1)
        self.done = 0
        self.start = self.shown = time.perf_counter()

    def announce(self, size: Size) -> None:
        """Say the number of samplers and samples, and the time that they take, from the time of one batch."""
        seconds = self._seconds_per_row() * self.total
        self.say(
            f"Measuring {len(self.table)} samplers, {size.draws} draws of {size.n} rows: {duration(seconds)} on "
            f"{self.setup.noise.device}"
        )

    def _seconds_per_row(self) -> float:
        """The time of one step of one row, of the second of two batches."""
        rows = slice(0, min(self.setup.batch_size, len(self.setup.noise)))
        for _ in range(2):
            began = time.perf_counter()
            x = self.setup.sample(replace(self.table[0], steps=1), rows)
            x.cpu()
        return (time.perf_counter() - began) / len(x)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count the rows of all calls of the network inside a `with` block."""
        self.start = self.shown = time.perf_counter()
        handle = self.setup.flow.network.register_forward_hook(self._called, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _called(self, module: object, given: tuple[Any, ...], options: dict[str, Any], output: object) -> None:
        """Count the rows of a call, and say how far the evaluation is if that is due."""
        x = given[0] if given else next(iter(options.values()))
        self.done += len(x)
        now = time.perf_counter()
        if now - self.shown >= PERIOD and self.calls:
            self.shown, share = now, min(0.99, self.done / self.calls)
            self.say(f"Measuring {share:.0%}: {duration((now - self.start) * (1 - share) / share)} left")


def duration(seconds: float) -> str:
    """A rough time in words: "a few seconds", "about 40 seconds", "about 3 minutes", "about 2.5 hours"."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"about {10 * round(seconds / 10)} seconds"
    return f"about {round(seconds / 60)} minutes" if seconds < 5400 else f"about {seconds / 3600:.1f} hours"
