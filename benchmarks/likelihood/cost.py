"""Cost of a training step of the joint map, beside the plain method with the same network: counted and timed."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import flowmaps as fm
from benchmarks.likelihood.sets import SETS, Set
from benchmarks.tables import machine
from flowmaps.files import write_json

REPEATS, BATCH = 30, 256
METHODS = {
    "lsd": lambda: fm.methods.lsd(times=fm.times.both_directions(fm.times.uniform_triangle())),
    "imf": lambda: fm.methods.imf(times=fm.times.both_directions(fm.times.logit_normal_pairs())),
}
"""Methods whose joint form is compared with the plain one."""


def run(out: Path) -> None:
    """Measure the ratio of costs on the points and on the digits, and write them."""
    found = {f"{name}, {method}": ratios(SETS[name](), method) for name in ("three", "digits") for method in METHODS}
    write_json(out / "cost.json", {"machine": machine(), "repeats": REPEATS, "batch": BATCH, "steps": found})


def ratios(chosen: Set, name: str) -> dict[str, float]:
    """A step of the joint map over a step of the plain map: multiplications, and median processor time."""
    torch.manual_seed(0)
    x0 = chosen.data.draw(BATCH, 0).x0
    plain = chosen.flow(), METHODS[name]()
    joint = fm.likelihood.joint_map(chosen.flow(), x0), fm.methods.f2d2(METHODS[name]())
    counted = [operations(*pair, x0) for pair in (plain, joint)]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(REPEATS):  # in turns, so that other load of the machine meets both
        for pair, kept in zip((plain, joint), times, strict=True):
            kept.append(seconds(*pair, x0))
    return {"counted": counted[1] / counted[0], "timed": median(times[1]) / median(times[0])}


def step(flow: fm.FlowMap, method: fm.Method, x0: Tensor) -> Any:
    """A loss and its backward pass."""
    method.loss(flow, x0).value.backward()


def operations(flow: fm.FlowMap, method: fm.Method, x0: Tensor) -> int:
    """Multiplications of a step."""
    with FlopCounterMode(display=False) as counter:
        step(flow, method, x0)
    return counter.get_total_flops()


def seconds(flow: fm.FlowMap, method: fm.Method, x0: Tensor) -> float:
    """Processor time of a step."""
    began = time.process_time()
    step(flow, method, x0)
    return time.process_time() - began
