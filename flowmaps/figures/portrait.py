"""A method in one picture: the shares of its terms, the times that they draw, the weights of their residuals."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .anatomy import Curve, Part, Stage, grouped
from .charts import plain
from .style import Theme, figure, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL = 3.5
MOMENTS = {0.0: "at the start", 0.5: "half way", 1.0: "at the end"}


def portrait(
    stages: Sequence[Stage],
    path: str | Path | None = None,
    *,
    title: str = "",
    subtitle: str = "",
    theme: Theme = light,
) -> Figure:
    """Draw a method: the shares of the batch, then a row for each term with its times (s, t) and its weight.

    Times that change are drawn at several moments of training.

    Args:
        stages: The stages of the method, as `anatomy` reads them.
        path: The file to save; its suffix chooses the format. None: not saved.
        title: A large title, such as the name of the method.
        subtitle: A second title, such as its equation.
        theme: The colours.

    Returns:
        The figure.
    """
    parts = [(stage, part) for stage in stages for part in stage.parts]
    columns = 1 + max(len(part.times) for _, part in parts)
    lines = textwrap.wrap(subtitle, 44 * columns)
    bar = 0.5 * len(stages)
    height = CELL * len(parts) + bar + 0.6 + 0.25 * len(lines)
    layout: dict[str, Any] = {"nrows": 1 + len(parts), "ncols": columns, "squeeze": False}
    with figure(theme, CELL * columns + 0.4, height, path, height_ratios=[bar, *[CELL] * len(parts)], **layout) as (
        made,
        axes,
    ):
        made.suptitle(title, x=0.02, ha="left", fontsize=16, fontweight="bold")
        shares = _merged(made, axes[0])
        shares.set_title("\n".join(lines), fontsize=11)
        _shares(shares, stages, theme)
        for i, ((stage, part), row) in enumerate(zip(parts, axes[1:], strict=True)):
            colour = theme.series[i % len(theme.series)]
            _row(row, part, colour, theme, stage.name if len(stages) > 1 else "")
    return made


def _merged(made: Figure, row: Any) -> Any:
    """Replace a row of panels by a single wide one."""
    place = row[0].get_gridspec()[0, :]
    for axis in row:
        axis.remove()
    return made.add_subplot(place)


def _shares(axis: Any, stages: Sequence[Stage], theme: Theme) -> None:
    """Draw a bar for each stage, divided into the shares of its terms."""
    colours = iter(theme.series * 10)
    for k, stage in enumerate(stages):
        total, left = sum(part.share for part in stage.parts), 0.0
        for part in stage.parts:
            share = part.share / total
            axis.barh(k, share, left=left, height=0.8, color=next(colours), edgecolor=theme.background)
            text = f"{part.name}{': ' if share > 0.35 else chr(10)}{share:.0%}{' of the batch' if share > 0.6 else ''}"
            style = {"color": theme.background, "fontsize": 9, "fontweight": "bold"}
            axis.text(left + share / 2, k, text, ha="center", va="center", **style)
            left += share
    named = [f"{stage.name}, {stage.share:.0%} of training" for stage in stages] if len(stages) > 1 else [""]
    axis.set_yticks(range(len(stages)), named)
    axis.set(xlim=(0, 1), xticks=[], ylim=(len(stages) - 0.5, -0.5))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def _row(axes: Any, part: Part, colour: str, theme: Theme, stage: str) -> None:
    """Draw the times of one term, then its weight; remaining panels stay empty."""
    name = f"{stage}: {part.name}" if stage else part.name
    for axis, (moment, (s, t)) in zip(axes, part.times.items(), strict=False):
        _times(axis, s, t, colour, theme)
        axis.set_title(f"{name}: times" + (f" {MOMENTS[moment]}" if len(part.times) > 1 else ""), fontsize=11)
    for axis in axes[len(part.times) : -1]:
        axis.set_visible(False)
    _weights(axes[-1], part.curves, colour, theme)
    axes[-1].set_title(f"{name}: loss of a row", fontsize=11)


def _times(axis: Any, s: Tensor, t: Tensor, colour: str, theme: Theme) -> None:
    """Draw (s, t) on the unit square, source to the right, target upwards, with larger dots for repeated values."""
    pairs, counts = torch.stack((s, t), 1).mul(1e4).round().unique(dim=0, return_counts=True)
    few = len(pairs) < len(s) / 4
    size = 600 * counts / counts.sum() * len(pairs) ** 0.5 if few else 6
    axis.plot([0, 1], [0, 1], color=theme.rule, linewidth=1, zorder=0)
    _density(axis, s, t, colour, theme)
    style = {"color": colour, "alpha": 0.7 if few else 0.35, "linewidths": 0, "clip_on": False}
    axis.scatter(pairs[:, 0] / 1e4, pairs[:, 1] / 1e4, s=size, **style)
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="from: source time s", ylabel="to: target time t")
    axis.set_xticks([0, 0.5, 1], ["0\ndata", "0.5", "1\nnoise"])
    axis.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])


def _density(axis: Any, s: Tensor, t: Tensor, colour: str, theme: Theme) -> None:
    """Draw the density along a line as bars, with the name of the line, if all draws lie on it."""
    lines = {"t = s: the diagonal": s == t, "t = 0: jumps to data": t == 0, "s = 1: jumps from noise": s == 1}
    name = next((name for name, on in lines.items() if bool(on.all())), "")
    if name:
        upright = name[0] == "s"
        counts, edges = (t if upright else s).double().histogram(20, range=(0.0, 1.0))
        middles, lengths = ((edges[1:] + edges[:-1]) / 2).numpy(), (counts / counts.max() * 0.4).numpy()
        style = {"color": colour, "alpha": 0.25, "linewidth": 0}
        if upright:
            axis.barh(middles, lengths, 0.05, left=1 - lengths, **style)
        else:
            axis.bar(middles, lengths, 0.05, **style)
        axis.text(0.04, 0.93, name, color=theme.muted, fontsize=10)


def _weights(axis: Any, curves: Mapping[str, Curve], colour: str, theme: Theme) -> None:
    """Draw the loss of a row and its slope, the pull, against the size of the residual."""
    for k, (name, curve) in enumerate(grouped(curves).items()):
        shade = theme.series[(theme.series.index(colour) + k) % len(theme.series)]
        label = f"loss ({name})" if len(curves) > 1 else "loss"
        axis.plot(curve.sizes, curve.loss.where(curve.loss > 0, torch.nan), color=shade, label=label)
        dashed = {"linestyle": "--", "linewidth": 1.5, "label": "" if k else "its slope, the pull"}
        axis.plot(curve.sizes, curve.pull.abs(), color=shade, **dashed)
    axis.set(xscale="log", yscale="log", xlim=(1e-2, 1e2), ylim=(1e-4, 1e3))
    axis.set(xlabel="size of the residual", box_aspect=1)
    axis.xaxis.set_major_formatter(plain)
    axis.yaxis.set_major_formatter(plain)
    axis.minorticks_off()
    axis.grid(linewidth=0.6)
    axis.legend(loc="upper left", fontsize=9)
