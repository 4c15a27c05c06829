"""Distances from the data of the samples of all methods, from the very networks that the page has."""

from __future__ import annotations

import json
from typing import Any

import torch

import flowmaps as fm
from benchmarks.explore.shared import law
from flowmaps.evaluate import energy_distance
from flowmaps.methods import LANDSCAPE
from flowmaps.reports.explore_page.networks import decoded
from flowmaps.reports.explore_page.page import POST

ROWS = 2048
JUMPS = (1, 2, 4, 8, 16)
PAIRS = 40


def rows(seed: int) -> torch.Tensor:
    """A set of data."""
    return law().sample(ROWS, torch.Generator().manual_seed(seed)).double()


def distances(flow: fm.FlowMap, step: fm.steps.Step, counts: tuple[int, ...]) -> list[float]:
    """Energy distance from the data of samples by each number of steps."""
    noise = torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = rows(1)
    return [energy_distance(fm.sample(flow, noise, steps=n, step=step, seed=0), data) for n in counts]


def step_of(method: dict[str, Any], flow: fm.FlowMap) -> fm.steps.Step:
    """A jump; a restart if the map knows t = 0 alone; an Euler step if only its velocity was trained."""
    if method["rule"] == "diffusion":
        return fm.steps.euler
    return fm.steps.jump if flow.only_target is None else fm.steps.restart


def measured(method: dict[str, Any]) -> list[list[float]]:
    """The distances of each snapshot of a method."""
    print("ranking:", method["name"], flush=True)
    flows = [decoded(snapshot["flow"]) for snapshot in method["snapshots"]]
    counts = JUMPS if flows[0].only_source is None else (1,)
    return [distances(flow, step_of(method, flow), counts) for flow in flows]


def floor() -> float:
    """The largest of 40 distances between two sets of data: smaller ones are no difference."""
    return max(energy_distance(rows(2 * seed), rows(2 * seed + 1)) for seed in range(1, PAIRS + 1))


def part() -> dict[str, Any]:
    """Distances of all methods, by snapshot and number of jumps."""
    landscape = json.loads((POST / "landscape.json").read_text())
    coupled = {row.name for row in LANDSCAPE if row.coupled}
    return {
        "landscape": landscape["digest"], "rows": ROWS, "jumps": JUMPS, "floor": floor(),
        "methods": {
            method["name"]: {"distances": measured(method), "coupled": method["name"] in coupled}
            for method in landscape["methods"]
        },
    }  # fmt: skip
