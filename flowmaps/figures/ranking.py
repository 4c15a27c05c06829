"""Distances of several methods in one chart: a line for each method, a mark for each number of jumps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import words
from .charts import log_ticks, plain
from .style import Theme, figure, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKS = ("o", "s", "D", "^")
MOST_LINEAR = 30
"""Largest ratio of a distance to the noise around 0 that is shown on a linear axis."""


def ranking(
    methods: Mapping[str, Mapping[int, words.EvaluationRow]],
    path: str | Path | None = None,
    *,
    lines: Mapping[str, float] | None = None,
    name: str = "distance to real data",
    theme: Theme = light,
) -> Figure:
    """Draw the distances of several methods by number of jumps, the best method at the top.

    The axis is logarithmic. If some distances are not positive, it is linear, or linear up to a tenth of its length for
    distances of several powers of ten.

    Args:
        methods: Rows of evaluations ("distance", "stderr") by name and number of jumps.
        path: The file to save; its suffix chooses the format. None: not saved.
        lines: Distances to compare with by name, such as the floor, drawn as vertical lines.
        name: The name of the axis.
        theme: The colours.

    Returns:
        The figure.
    """
    order = sorted(methods, key=lambda method: _first(methods[method]), reverse=True)
    jumps = sorted({k for rows in methods.values() for k in rows})
    with figure(theme, 8, 1.3 + 0.34 * len(order), path) as (made, axis):
        for k, colour, mark in zip(jumps, theme.series * len(jumps), MARKS * len(jumps), strict=False):
            found = [(i, methods[method][k]) for i, method in enumerate(order) if _known(methods[method].get(k))]
            across, errors = [row["distance"] for _, row in found], [row["stderr"] or 0 for _, row in found]
            style = {"color": colour, "elinewidth": 1, "markersize": 7, "label": words.count(k, "jump")}
            axis.errorbar(across, [i for i, _ in found], xerr=errors, fmt=mark, **style)
        for (text, distance), dashes in zip((lines or {}).items(), ("--", ":"), strict=False):
            axis.axvline(distance, color=theme.muted, linestyle=dashes, linewidth=1.5, zorder=0, label=text)
        _scale(axis, [row for rows in methods.values() for row in rows.values()], list((lines or {}).values()))
        axis.set_yticks(range(len(order)), order)
        axis.set(ylim=(-0.7, len(order) - 0.3), xlabel=f"{name} (lower is better)")
        axis.grid(linewidth=0.6)
        axis.set_axisbelow(True)
        made.legend(loc="outside upper left", ncols=3)
    return made


def _first(rows: Mapping[int, words.EvaluationRow]) -> float:
    """The distance with the fewest jumps, to sort methods by."""
    row = rows.get(min(rows, default=0))
    return row["distance"] if _known(row) and row is not None else math.inf


def _known(row: words.EvaluationRow | None) -> bool:
    """Whether a row has a distance."""
    return row is not None and row["distance"] is not None


def _scale(axis: Any, rows: Sequence[words.EvaluationRow], lines: Sequence[float]) -> None:
    """Make the axis logarithmic; with distances that are not positive, linear, at least as far as noise reaches."""
    values = [row["distance"] for row in rows if _known(row)] + list(lines)
    low, high = min(values, default=1.0), max(values, default=1.0)
    if low > 0:
        axis.set_xscale("log")
        first, last = axis.get_xlim()
        log_ticks(axis.xaxis, math.log10(last / first))
        return
    noise = max(-low, *(row["stderr"] or 0 for row in rows), 1e-12)
    if high > MOST_LINEAR * noise:
        threshold = 10 ** math.ceil(math.log10(3 * noise))
        axis.set_xscale("symlog", linthresh=threshold, linscale=0.4)
        powers = [10.0**k for k in range(round(math.log10(threshold)), math.ceil(math.log10(high)) + 1)]
        axis.set_xticks([0.0, *powers])
        axis.minorticks_off()
        axis.set_xlim(low - noise, 1.3 * high)
    axis.xaxis.set_major_formatter(plain)
