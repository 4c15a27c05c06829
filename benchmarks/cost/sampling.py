"""One jump against an ODE with many steps of the same network, at several batch sizes."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import torch

import flowmaps as fm
from benchmarks.cost.measure import Work, seconds
from benchmarks.cost.networks import Case

BATCHES = {"mlp": (1, 8, 64, 512), "dit": (1, 4, 16, 64), "unet": (1, 4, 16, 64)}
STEPS = (1, 10, 100)
MOST_ROWS = {"dit": 1600, "unet": 1600}
"""Largest product of rows and steps."""


def measured(name: str, case: Case, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure batch -> steps -> seconds in each round; one jump and the ODEs take turns."""
    setting = case.setting()
    flow = fm.FlowMap(setting.network)
    found = {}
    for batch in BATCHES[name]:
        noise = torch.randn(batch, *case.shape, device=setting.x0.device)
        chosen = [steps for steps in STEPS if steps * batch <= MOST_ROWS.get(name, 10**9)]
        works = {steps: work(flow, noise, steps) for steps in chosen}
        works[1].run()
        times: dict[int, list[float]] = {steps: [] for steps in works}
        for _ in range(rounds):
            for steps, run in works.items():
                times[steps].append(median(seconds(run) for _ in range(9)) if steps == 1 else seconds(run))
        found[str(batch)] = {str(steps): values for steps, values in times.items()}
        say(f"sampling: {name}, {batch} rows")
    return {"network": name, "batches": found}


def speed_up(times: dict[str, list[float]], steps: str) -> float:
    """Speed-up of one jump over `steps` steps: the median over rounds of the ratio within a round."""
    return median(ode / jump for ode, jump in zip(times[steps], times["1"], strict=True))


def work(flow: fm.FlowMap, noise: torch.Tensor, steps: int) -> Work:
    """Sampling by one jump, or by `steps` Euler steps."""
    step = fm.steps.jump if steps == 1 else fm.steps.euler

    def run() -> None:
        with torch.no_grad():
            fm.sample(flow, noise, steps, step=step)

    return Work(run)
