"""The cells of `benchmarks.alternatives`: the ones of `benchmarks.one_step` with more methods and measures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import flowmaps as fm
from benchmarks.alternatives.methods import ENTRIES
from benchmarks.one_step import cells
from benchmarks.one_step.cells import TRAINING, Cells, data_of
from benchmarks.one_step.methods import Entry
from flowmaps.draws import Rows
from flowmaps.recipes.planning.counting import counter, loss_and_backward

SETS = ("eight-gaussians", "checkerboard", "digits", "glyphs-16")
"""The data sets, of the ones that `benchmarks.one_step` knows."""
SAMPLES = 20_000
"""Samples by which modes are counted."""
REACHED = 0.5
"""Share of its true mass from which a mode counts as reached."""


@dataclass(frozen=True)
class Alternatives(Cells):
    """The cells of one table.

    Args:
        paths: Folder of the results of `benchmarks.one_step`, whose cells are not run again.
    """

    paths: Path

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The methods by name."""
        return ENTRIES

    def target(self, name: str, method: str, seed: int) -> Path:
        """The file of a cell: the one of `benchmarks.one_step` where it is there."""
        there = self.paths / name / f"{method}-{seed}.json"
        return there if there.exists() else super().target(name, method, seed)

    def beside(self, flow: fm.FlowMap, name: str, method: str, seed: int) -> dict[str, Any]:
        """The modes of samples by 1, 2 and 4 jumps, and the cost of a step."""
        found: dict[str, Any] = {"cost": self.cost(name, method, seed)}
        modes = MODES.get(name)
        if modes is not None and method != cells.REFERENCE:
            known = self.entries[method].samplers["jumps"]
            steps = [n for n in known if n == 1 or flow.only_source is None]
            noise = fm.noise(flow, SAMPLES, seed=seed + 17)
            found["modes"] = {n: modes(fm.sample(flow, noise, n, step=fm.steps.default(flow, n))) for n in steps}
            found["modes_floor"] = modes(data_of(name).draw(SAMPLES, seed=seed + 18).x0)
        return found

    def cost(self, name: str, method: str, seed: int) -> dict[str, float | None]:
        """Matrix products of a step in forward passes, and the bytes kept for its backward pass.

        Bytes of a loss that differentiates a critic by torch.func cannot be counted; its passes are its row's.
        """
        entry, data = self.entries[method], data_of(name)
        flow = entry.flow(data, **cells.SIZES)
        made = entry.method(self.teacher(name, seed) if entry.is_taught else None, data)
        x0 = data.draw(TRAINING["batch_size"], seed=seed).x0
        rows = Rows().of_batch(len(x0))
        try:
            flops, kept = loss_and_backward(flow, made, x0, None, rows)
        except RuntimeError as error:
            if "saved tensor hooks" not in str(error):
                raise
            return {"passes": entry.about.shared, "kept_bytes": None}
        with counter() as forward, torch.no_grad():
            flow.unlimited().average_velocity(x0, 0.7, 0.2)
        return {"passes": flops / forward.get_total_flops(), "kept_bytes": kept}


def eight_modes(x: Tensor) -> dict[str, float]:
    """Modes of eight Gaussians: the share of reached ones, and the width of samples over the true one.

    The width is the median distance to the nearest mean, so that samples between the modes count little.
    """
    law = data_of("eight-gaussians").exact
    distance, nearest = torch.cdist(x.double(), law.means).min(1)
    mass = torch.bincount(nearest, minlength=8) / len(x)
    median = float(law.stds[0]) * math.sqrt(2 * math.log(2))
    return {"reached": float((mass >= REACHED / 8).double().mean()), "width": float(distance.median()) / median}


def squares(x: Tensor) -> dict[str, float]:
    """Squares of the checkerboard: the share of reached ones, and the share of samples on the board."""
    cells = ((x + 1) * 2).floor().long()
    inside = ((cells >= 0) & (cells < 4)).all(1)
    on = inside & (data_of("checkerboard").log_prob(x) > -torch.inf)
    mass = torch.bincount((4 * cells[:, 0] + cells[:, 1])[on], minlength=16) / len(x)
    return {"reached": float((mass >= REACHED / 8).sum() / 8), "on_board": float(on.double().mean())}


MODES = {"eight-gaussians": eight_modes, "checkerboard": squares}
"""The measures of modes by data set."""
