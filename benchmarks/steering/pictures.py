"""Pictures of samples of `benchmarks.steering`: digits of each class, and posteriors of measurements."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.landscape_tables import save
from benchmarks.steering import classes, inverse
from benchmarks.steering.labels import METHODS
from benchmarks.steering.networks import Networks
from flowmaps.figures.pictures import mosaic
from flowmaps.figures.style import figure, light

SHOWN = ("conditional-1", "dps-8", "dps-100", "fmtt-8", "fmtt-100", "weighted_diamond-100", "fmrg-100", "filtered-1")
"""The cells whose samples are shown."""
EACH, SEED = 3, 2
"""Samples of each class, and the seed of their noise."""
SOLVED = ("dps", "published_dps", "fmrg")


def digits(networks: Networks, cells: Mapping[str, Any], out: Path) -> None:
    """Draw samples of every class, a row for each of some methods."""
    stems = [stem for stem in SHOWN if stem in cells]
    with figure(light, 9.5, 0.42 * len(stems) + 0.3, nrows=len(stems), squeeze=False) as (made, axes):
        for axis, stem in zip(axes[:, 0], stems, strict=True):
            name, budget = stem.rsplit("-", 1)
            label = classes.labels(classes.HALF)
            x = METHODS[name].draw(networks, label, int(budget), SEED, **cells[stem]["setting"])[0]
            group = classes.grouped(x, label)[0]
            axis.imshow(_board(torch.cat([rows[:EACH] for rows in group])), interpolation="nearest")
            calls = f"{cells[stem]['calls']:.0f}"
            title = METHODS[name].title.removesuffix(", jumps").replace("`", "")
            axis.set_ylabel(
                f"{title}, {calls} call{'s' * (calls != '1')}", rotation=0, ha="right", va="center", fontsize=9
            )
            _bare(axis)
        save(made, out / "classes.png")


def posteriors(networks: Networks, cells: Mapping[str, Any], out: Path) -> None:
    """Draw an image, its measurement, and mean, spread and draws of some methods: a row for each problem."""
    names = [name for name in SOLVED if all(f"{problem}-{name}" in cells for problem in inverse.PROBLEMS)]
    if not names:
        return
    widths = [2] + [6] * len(names)
    with figure(light, 11, 5.2, nrows=len(inverse.PROBLEMS), ncols=len(widths), width_ratios=widths) as (made, axes):
        for row, problem in zip(axes, inverse.PROBLEMS, strict=True):
            posed = inverse.problem_of(problem)
            truth, seen = posed.truth[:2], measured(posed)[:2]
            row[0].imshow(_board(torch.stack([truth, seen], 1).flatten(0, 1), 2), interpolation="nearest")
            row[0].set_title("image, measured", fontsize=9)
            for axis, name in zip(row[1:], names, strict=True):
                setting = cells[f"{problem}-{name}"]["setting"]
                x = (
                    inverse.SOLVERS[name]
                    .solve(networks, posed, SEED, **setting)
                    .reshape(len(posed.truth), -1, 1, 8, 8)[:2]
                )
                mean, spread = x.mean(1, keepdim=True), 2 * x.std(1, keepdim=True) - 1
                board = _board(torch.cat([mean, spread, x[:, :4]], 1).flatten(0, 1), 6)
                axis.imshow(board, interpolation="nearest")
                axis.set_title(f"{inverse.SOLVERS[name].title}: mean, spread, four draws", fontsize=9)
            for axis in row:
                _bare(axis)
        save(made, out / "inverse.png")


def measured(problem: inverse.Problem) -> Tensor:
    """Measurements as images of 8 x 8 pixels; pixels that are not measured are grey."""
    if problem.name == "hole":
        x = torch.zeros_like(problem.truth)
        kept = torch.ones(8, 8, dtype=torch.bool)
        kept[2:6, 2:6] = False
        x[..., kept] = problem.y
        return x
    return torch.nn.functional.interpolate(problem.y, size=(8, 8), mode="nearest")


def _board(images: Tensor, columns: int | None = None) -> Tensor:
    """Images side by side, dark on white."""
    return mosaic((1 - images) / 2, columns or len(images))


def _bare(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_visible(False)
