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
"""Runs the work once and returns its seconds."""


@dataclass(frozen=True)
class Work:
    """A piece of work: run() is measured, clear() comes before it and is not measured."""

    run: Callable[[], object]
    clear: Callable[[], None] = lambda: None


def seconds(work: Work) -> float:
    """Seconds of one run: processor time of this process with all threads, or time of the stream on a GPU."""
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
    """Count the floating-point operations in matrix products and convolutions.

    Fused attention on CPUs, which torch does not count, is its two (backward: five) products.
    """
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
    """Peak bytes of live tensors during a run, besides the ones before it (weights, batch).

    It comes from the events of torch's allocator, so it is the same in every run.
    """
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
    """Time every (unit, work) once in each round: name -> [(seconds of the unit, seconds of the work), ...]."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in clocks}
    for i in range(rounds):
        for name, (unit, work) in clocks.items():
            found[name].append((unit(), work()))
        say(f"round {i + 1} of {rounds}")
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Context in which torch runs and compiles for one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def on_one_core() -> Iterator[None]:
    """Context in which this process and its children stay on one core, if the system supports it."""
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
    """Print progress messages with the minutes since the start."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def __call__(self, text: str) -> None:
        minutes = (time.monotonic() - self.start) / 60
        print(f"[{minutes:5.1f} min] {text}", file=sys.stderr, flush=True)
