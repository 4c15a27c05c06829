"""The ablation of `benchmarks.one_step`: one choice of the recipe changed at a time, on every data set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.landscape_tables import save
from benchmarks.one_step.measured import RESOLVED, Measured, budget, command, of_row, row_of
from benchmarks.one_step.methods import BASE, GROUPS, METHODS
from benchmarks.one_step.sets import MARKED
from benchmarks.tables import markdown
from flowmaps.evaluate import Estimate
from flowmaps.figures.style import figure, light
from flowmaps.figures.words import plus_minus

LAST = "weights of the last step"
"""The row of the base without the average of the weights."""
JUMP = ("jump", 1)
WIDE, TALL = 9.5, 0.36
"""Width of the picture, and height of a row of it, in inches."""
REACH, TICKS, MOST_TICKS = 2.0, (0.125, 0.25, 0.5, 1, 2, 4, 8), 4
"""Largest ratio that every panel shows, the ticks of the panels, and the largest number of ticks that are all shown."""


def changes() -> list[str]:
    """The rows of the table: every change of the base, and its weights without average."""
    return [*GROUPS["settings"], LAST]


def change(measured: Measured, name: str) -> Estimate | None:
    """The logarithm of one jump's distance with a change over the distance of the base, over the seeds of both.

    Both runs of a seed have the same noise and data, so the ratio is taken seed by seed. Its standard error is the
    spread over seeds; with one seed the errors of both measurements.
    """
    key = first(measured)
    seeds = [seed for seed in measured.seeds(BASE) if has(measured, name, seed)]
    pairs = [(of(measured, name, seed, key), of(measured, BASE, seed, key)) for seed in seeds]
    if not pairs or any(one.value <= 0 for pair in pairs for one in pair):
        return None
    logs = [math.log(one.value / other.value) for one, other in pairs]
    if len(logs) > 1:
        return Estimate(mean(logs), stdev(logs) / math.sqrt(len(logs)))
    ((one, other),) = pairs
    return Estimate(logs[0], math.hypot(one.stderr / one.value, other.stderr / other.value))


def first(measured: Measured) -> str:
    """The measure of the ablation."""
    return next(iter(MARKED[measured.kind]))


def of(measured: Measured, name: str, seed: int, key: str) -> Estimate:
    """A measure of one jump of a run."""
    if name == LAST:
        return of_row(measured.cells[BASE, seed]["last"]["rows"][0], key)
    return of_row(row_of(measured.cells[name, seed], JUMP), key)


def has(measured: Measured, name: str, seed: int) -> bool:
    """Whether a run was measured."""
    return "last" in measured.cells[BASE, seed] if name == LAST else (name, seed) in measured.cells


def is_measured(measured: Measured) -> bool:
    """Whether a change was measured."""
    return any(change(measured, name) for name in GROUPS["settings"])


def table(found: Mapping[str, Measured]) -> str:
    """The ratios of all changes on all data sets, below the distances of the base."""
    key = {name: next(iter(MARKED[measured.kind].items())) for name, measured in found.items()}
    base = [with_steps(plus_minus(*one.value(BASE, JUMP, key[name][0])), one, BASE) for name, one in found.items()]
    floor = [plus_minus(*one.floor(key[name][0])) for name, one in found.items()]
    lines = [
        ["the recipe, " + ", ".join(dict.fromkeys(title for _, title in key.values())), *base],
        ["data against data (floor)", *floor],
    ]
    for name in changes():
        cells = [with_steps(in_words(change(measured, name)), measured, name) for measured in found.values()]
        lines.append([METHODS[name].says if name in METHODS else LAST, *cells])
    lines.append(["seeds", *(str(len(one.seeds(BASE))) for one in found.values())])
    return markdown(["one jump", *found], lines)


def in_words(ratio: Estimate | None) -> str:
    """A ratio with its error; bold if it differs from 1 by more than two standard errors."""
    if ratio is None:
        return "not measured"
    value = math.exp(ratio.value)
    text = f"×\u00a0{value:.2f}\u00a0±\u00a0{value * ratio.stderr:.2f}"
    return f"**{text}**" if abs(ratio.value) > RESOLVED * ratio.stderr else text


def notes(found: Mapping[str, Measured], out: Path) -> str:
    """Notes below the table: its numbers, the training, the machine."""
    lines = [
        "A ratio is the distance of one jump with the change over the distance of the recipe, both with the same seed "
        "(the geometric mean over seeds, with the standard error of their spread; with one seed, with the errors of "
        "both measurements). Bold ratios differ from 1 by more than two standard errors; below 1 the change helps.",
        "In parentheses: steps of training. They are fewer where a step costs more, or the machine has other work.",
        *(f"{name}: {one.measures[first(one)]}; trainings of {budget(one):g} s." for name, one in found.items()),
    ]
    last = max(cell["machine"] for one in found.values() for cell in one.cells.values())
    commands = "; ".join(command(one, out, f"{BASE},settings") for one in found.values())
    return "\n".join(f"- {line}" for line in lines) + f"\n\n{last}; commands: {commands}"


def with_steps(text: str, measured: Measured, name: str) -> str:
    """A cell with the mean number of steps of its trainings, which depends on the load of the machine too."""
    own = BASE if name == LAST else name
    counts = [cell["training"]["steps"] for (method, _), cell in measured.cells.items() if method == own]
    return f"{text} ({mean(counts):.0f})" if counts else text


def picture(found: Mapping[str, Measured], out: Path) -> None:
    """Draw the measured ratios with their errors, a panel for each data set."""
    names = [name for name in changes() if any(change(measured, name) for measured in found.values())]
    titles = [METHODS[name].says if name in METHODS else LAST for name in names]
    with figure(light, WIDE, TALL * len(names) + 1.2, ncols=len(found), sharey=True, squeeze=False) as (made, axes):
        for axis, (name, measured) in zip(axes[0], found.items(), strict=True):
            axis.axvline(1, color=light.muted, linewidth=0.8)
            draw(axis, [change(measured, one) for one in names])
            axis.set_title(name, fontsize=9)
        axes[0][0].set_yticks(range(len(names)), titles, fontsize=9)
        axes[0][0].set_ylim(len(names) - 0.5, -0.5)
        made.supxlabel("distance of one jump, over the distance of the recipe: a change helps left of 1", fontsize=9)
        save(made, out / "ablation.png")


def draw(axis: Any, ratios: Sequence[Estimate | None]) -> None:
    """A point with a bar of two standard errors for each ratio: green helps, orange hurts, grey is undecided."""
    ends = [1 / REACH, REACH]
    for height, ratio in enumerate(ratios):
        if ratio is None:
            continue
        low, value, high = (math.exp(ratio.value + k * RESOLVED * ratio.stderr) for k in (-1, 0, 1))
        colour = light.series[2] if high < 1 else light.series[1] if low > 1 else light.muted
        axis.plot([low, high], [height, height], linewidth=2, color=colour)
        axis.plot([value], [height], "o", markersize=5, color=colour)
        ends += [low, high]
    axis.set_xscale("log")
    axis.set_xlim(min(ends) / 1.1, max(ends) * 1.1)
    ticks = [tick for tick in TICKS if min(ends) <= tick <= max(ends)]
    axis.set_xticks([0.25, 1, 4] if len(ticks) > MOST_TICKS else ticks)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.tick_params(axis="x", labelsize=9)
