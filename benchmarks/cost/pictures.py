"""Figures: sampling throughput against batch size, and the growth of a step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cost.marks import Found
from benchmarks.cost.networks import NAMES
from flowmaps.figures.style import figure, light

LABELS = {"1": "1 jump", "10": "10 Euler steps", "100": "100 Euler steps"}
SHOWN = {"batch": "rows of a batch", "width": "width", "side": "tokens"}
MARKERS = "osD^v"


def throughput(found: Sequence[Found], path: Path) -> None:
    """Draw samples per second against the batch size, a panel for each network."""
    with figure(light, 4.4 * len(found), 3.8, path, ncols=len(found), squeeze=False) as (made, axes):
        for panel, of_network in zip(axes[0], found, strict=True):
            for (steps, label), marker in zip(LABELS.items(), MARKERS, strict=False):
                points = [(int(b), int(b) / median(t[steps])) for b, t in of_network["batches"].items() if steps in t]
                panel.plot(*zip(*points, strict=True), marker=marker, label=label)
            logarithmic(panel, [int(batch) for batch in of_network["batches"]])
            panel.set(title=NAMES[of_network["network"]], xlabel="rows of a batch", ylabel="samples per second")
        made.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(LABELS))
        made.suptitle("Sampling throughput")


def growth(found: Found, path: Path) -> None:
    """Draw time and memory of a step along each axis, a line for each method; widths separate coinciding lines."""
    with figure(light, 13, 7.2, path, nrows=2, ncols=len(SHOWN), squeeze=False) as (made, axes):
        for column, (axis, label) in enumerate(SHOWN.items()):
            points = found["axes"][axis]
            x = [found["tokens"][value] if axis == "side" else int(value) for value in points]
            for row, (key, unit, scale) in enumerate(
                (("seconds", "ms per step", 1e3), ("bytes", "MB at most", 2**-20))
            ):
                panel = axes[row][column]
                for i, method in enumerate(next(iter(points.values()))):
                    y = [scale * methods[method][key] for methods in points.values()]
                    panel.plot(x, y, marker=MARKERS[i], markersize=11 - 2 * i, linewidth=5 - i, label=method)
                logarithmic(panel, x)
                panel.set(xlabel=label, ylabel=unit)
        made.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(MARKERS))
        made.suptitle("How a training step grows: time above, peak memory below")


def logarithmic(panel: Any, ticks: Sequence[int]) -> None:
    """Set both axes to logarithmic scale, with ticks at the measured values of x."""
    from matplotlib.ticker import LogLocator, NullLocator

    panel.set(xscale="log", yscale="log")
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_minor_locator(NullLocator())
    panel.grid(True, alpha=0.4)
