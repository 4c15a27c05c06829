"""Time, arithmetic and memory of a piece of work."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.cost.networks import DEVICE

Clock = Callable[[], float]
"""Does the work once and returns the seconds it took."""


@dataclass(frozen=True)
class Work:
    """run() is what is measured; clear() comes before it and is not."""

    run: Callable[[], object]
    clear: Callable[[], None] = lambda: None


def seconds(work: Work) -> float:
    """Of one run: processor time of this process, all its threads together, or the time of the stream on a GPU."""
    work.clear()
    if DEVICE.type == "cuda":
        return _stream_seconds(work)
    start = time.process_time()
    work.run()
    return time.process_time() - start


def _stream_seconds(work: Work) -> float:
    torch.cuda.synchronize()
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    first.record()
    work.run()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1e3


def counted(work: Work) -> int:
    """Floating-point operations in matrix products and convolutions; fused attention on CPUs, which torch leaves out,
    as its two (backward: five) products."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    count_attention = {
        fused: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *_, **__: (
            sdpa_backward_flop_count(grad, q, k, v)
        ),
    }
    work.clear()
    with FlopCounterMode(display=False, custom_mapping=count_attention) as counter:
        work.run()
    return counter.get_total_flops()


def peak_bytes(work: Work) -> int:
    """The most bytes of tensors alive at once, over those alive before (weights, batch): from the events of torch's
    allocator, so the number is the same at every run."""
    work.clear()
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work.run()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work.run()
    found = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    events = sorted((e for e in found if e.name() == "[memory]"), key=lambda e: e.start_ns())
    alive = most = 0
    for event in events:
        alive += event.nbytes()
        most = max(most, alive)
    return most


def in_turns(
    clocks: Mapping[str, tuple[Clock, Clock]], rounds: int, say: Callable[[str], None]
) -> dict[str, list[tuple[float, float]]]:
    """Every (unit, work) once in each round, one after the other: name -> [(seconds of the unit, of the work), ...]."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in clocks}
    for i in range(rounds):
        for name, (unit, work) in clocks.items():
            found[name].append((unit(), work()))
        say(f"round {i + 1} of {rounds}")
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch works in one thread inside, and what it compiles is made for one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def on_one_core() -> Iterator[None]:
    """Inside, this process and the children it starts stay on one core, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


class Progress:
    """A line for each step of the way, with the minutes since the start."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def __call__(self, text: str) -> None:
        minutes = (time.monotonic() - self.start) / 60
        print(f"[{minutes:5.1f} min] {text}", file=sys.stderr, flush=True)
