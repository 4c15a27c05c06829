"""Training steps of DiT-B/2 and DiT-XL/2 in bfloat16, eager, compiled and plain, in turns, over the rate of products.

Each compiled step has a process of its own, so several of them compile at once, while other stages run. The timings
are taken in turns, one process at a time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import torch

from benchmarks.cost import roofline
from benchmarks.cost.child import Child
from benchmarks.cost.marks import NOISE, Mark, Steps, known
from benchmarks.cost.measure import counted
from benchmarks.cost.networks import DEVICE, Setting
from benchmarks.cost.steps import failure
from benchmarks.gpu.compiled import FORWARD, attempted, made, turn
from benchmarks.gpu.networks import NAMES, setting

METHODS = ("flow_matching", "meanflow", "lsd", "tvm", "sct")
PLAIN = ("flow_matching", "meanflow", "lsd")
COMPILED = (
    ("compiled", "flow_matching"),
    ("compiled", "meanflow"),
    ("compiled plain", "flow_matching"),
    ("compiled", "lsd"),
    ("compiled", FORWARD),
    ("compiled plain", "meanflow"),
    ("compiled", "tvm"),
    ("compiled", "sct"),
    ("compiled plain", "lsd"),
)
"""Compiled steps, the most important ones first."""
REHEARSED = 3
"""The number of them in a rehearsal, for the first network alone."""
EAGER = (*(("eager", name) for name in (FORWARD, *METHODS)), *(("plain", name) for name in PLAIN))
AT_ONCE = max(1, min(4, (os.cpu_count() or 1) // 4))
"""Steps that compile at the same time."""
ROUNDS, TIMES = 5, 3
SHARE = 0.5
"""Share of the stage's time for which it waits for steps that still compile."""

Clock = Callable[[int], list[float]]
Key = tuple[str, str, str]


class Compiling:
    """The processes of the compiled steps; they start at once, some at a time."""

    def __init__(self, small: bool) -> None:
        self.children: dict[Key, Child] = {}
        self.rows: dict[Key, dict[str, Any]] = {}
        self.pool = ThreadPoolExecutor(AT_ONCE)
        steps = COMPILED[:REHEARSED] if small else COMPILED
        networks = list(NAMES)[: 1 if small else None]  # in a rehearsal they have the same size
        self.keys = [(network, kind, method) for kind, method in steps for network in networks]
        self.started: list[Future[None]] = [self.pool.submit(self._start, key, small) for key in self.keys]

    def _start(self, key: Key, small: bool) -> None:
        threads = str(max(1, (os.cpu_count() or 1) // AT_ONCE - 1))
        command = [sys.executable, "-m", "benchmarks.gpu.compiled", json.dumps([*key, small])]
        child = Child(command, {"TORCHINDUCTOR_COMPILE_THREADS": threads})
        if "OutOfMemory" in child.said.get("failure", ""):  # others had the memory; the compiled programs are cached
            child.close()
            child = Child(command, {"TORCHINDUCTOR_COMPILE_THREADS": threads})
        self.rows[key] = child.said
        if "failure" in child.said:
            child.close()
        else:
            self.children[key] = child

    def ready(self, seconds: float) -> None:
        """Wait for the steps for some seconds; the others are not measured."""
        wait(self.started, seconds)
        for future in self.started:
            future.cancel()
        for key, future in zip(self.keys, self.started, strict=True):
            if future.cancelled():
                self._failed(key, "there was no time to compile it")
            elif not future.done():
                self._failed(key, "it was still compiling when the time was over")
            elif error := future.exception():
                self._failed(key, str(error))

    def _failed(self, key: Key, why: str) -> None:
        self.rows[key] = {"kind": key[1], "method": key[2], "failure": why}


def measured(small: bool, seconds: Callable[[], float], keep: Callable[[dict[str, Any]], None]) -> None:
    """Measure the steps of both networks.

    Args:
        small: Whether this is a rehearsal.
        seconds: Waits for the turn of this stage, and returns the seconds that it has.
        keep: Stores what was found so far.
    """
    compiling = Compiling(small)
    given = seconds()
    end = time.monotonic() + given
    sizes = [size * (4 if DEVICE.type == "cuda" else 1) for size in ((64, 128) if small else roofline.SIZES)]
    found: dict[str, Any] = {"rates": {"bfloat16 torch": roofline.torch_rates(torch.bfloat16, sizes, 5)}}
    settings = {name: setting(name, small) for name in NAMES}
    networks = found["networks"] = {name: facts(name, one) for name, one in settings.items()}
    clocks: dict[str, dict[tuple[str, str], Clock]] = {name: {} for name in NAMES}
    for name, of_network in settings.items():
        for kind, method in EAGER:
            row, work = attempted(kind, method, of_network)
            networks[name]["rows"].append(row)
            if work is not None:
                clocks[name][kind, method] = partial(turn, work)
            keep(found)
    compiling.ready(max(0.0, end - time.monotonic() - (1 - SHARE) * given))
    for (name, kind, method), row in compiling.rows.items():
        networks[name]["rows"].append(row)
        if child := compiling.children.get((name, kind, method)):
            clocks[name][kind, method] = partial(asked, child)
    keep(found)
    longest = 0.0
    for _ in range(1 if small else ROUNDS):
        began = time.monotonic()
        if began + longest > end:
            break
        for name in NAMES:
            one_round(networks[name]["rows"], clocks[name])
        longest = max(longest, time.monotonic() - began)
        keep(found)
    for child in compiling.children.values():
        child.close()


def facts(name: str, given: Setting) -> dict[str, Any]:
    """The sizes of a network and of its forward pass."""
    return {
        "network": name,
        "rows_of_batch": len(given.x0),
        "parameters": sum(weight.numel() for weight in given.network.parameters()),
        "forward_flops": counted(made("eager", FORWARD, given)),
        "rows": [],
    }


def asked(child: Child, times: int) -> list[float]:
    """The turn of a compiled step."""
    found = child.ask(str(times))
    if isinstance(found, dict):
        raise RuntimeError(found["failure"])
    return found


def one_round(rows: list[dict[str, Any]], clocks: dict[tuple[str, str], Clock]) -> None:
    """Add a turn of every step to its row, with the forward passes of its kind as units; a step may fail."""
    times: dict[tuple[str, str], list[float]] = {}
    for key, clock in list(clocks.items()):
        try:
            times[key] = clock(TIMES)
        except Exception as error:  # a step that fails now, for want of memory, keeps its earlier turns
            del clocks[key]
            row = next(row for row in rows if (row["kind"], row["method"]) == key)
            row["failure"] = failure(error)
    for row in rows:
        if taken := times.get((row["kind"], row["method"])):
            unit = times.get(("compiled" if row["kind"].startswith("compiled") else "eager", FORWARD))
            row.setdefault("seconds", []).extend(taken)
            row.setdefault("units", []).extend(unit or [])


def tables_of(found: dict[str, Any]) -> list[Steps]:
    """The results of each network, with the rate of matrix products in bfloat16."""
    rate = roofline.peak(found, "bfloat16")
    return [Steps(one, rate) for one in found.get("networks", {}).values()]


def marks(all_steps: list[Steps]) -> Iterator[Mark]:
    """The targets, also the ones without a number."""
    by_name = {steps.found["network"]: steps for steps in all_steps}
    for name, where in NAMES.items():
        steps = by_name.get(name, Steps({"network": name, "rows": []}, None))
        for method, bound in (("meanflow", 1.25), ("lsd", 1.8)):
            ratio = steps.over(("compiled", method), ("compiled", "flow_matching"))
            yield Mark(f"{method} over flow matching, compiled", where, bound, known({method: ratio}))
        if name == "dit-xl":
            share = known({"flow_matching": steps.share("compiled", "flow_matching")})
            yield Mark("flow matching, compiled, over the rate of products", where, 0.45, share, least=True)
        for kind, other in (("eager", "plain"), ("compiled", "compiled plain")):
            ratios = {method: steps.over((kind, method), (other, method)) for method in PLAIN}
            yield Mark(f"{kind} over the {other} step", where, NOISE, known(ratios))
