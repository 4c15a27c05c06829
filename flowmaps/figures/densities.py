"""Histograms of log-densities: a strip for each kind of rows, a panel for each estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .style import Theme, figure, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 40
"""Number of bins of an axis."""
FAR = 4.0
"""Distance from the first strips, in their width, from which on a strip is named by an arrow."""
MOST = 6
"""Largest number of panels."""


def densities(
    values: Mapping[str, Mapping[str, Sequence[float]]],
    path: str | Path | None = None,
    *,
    name: str = "log p(x)",
    theme: Theme = light,
) -> Figure:
    """Draw histograms of log-densities.

    The axis shows the first two kinds of rows, and others that are near. An arrow with their mean stands for others.

    Args:
        values: Log-densities in nats by estimator and kind of rows; only finite ones, and at most six estimators are
            drawn.
        path: The file to save; its suffix chooses the format. None: not saved.
        name: The quantity.
        theme: The colours.

    Returns:
        The figure.

    Raises:
        ValueError: There are no estimators.
    """
    if not values:
        raise ValueError("histograms of log-densities need at least one estimator, got none")
    panels = {by: {kind: _finite(one) for kind, one in kinds.items()} for by, kinds in list(values.items())[:MOST]}
    strips = max(map(len, panels.values()))
    with figure(theme, 1.8 + 4.4 * len(panels), 1.2 + 0.75 * strips, path, ncols=len(panels), squeeze=False) as (
        made,
        axes,
    ):
        for axis, (by, kinds) in zip(axes[0], panels.items(), strict=True):
            _panel(axis, kinds, theme)
            axis.set(title=by, xlabel=f"{name} in nats (line: mean)")
    return made


def _finite(values: Sequence[float]) -> Tensor:
    """The finite values."""
    found = torch.as_tensor(values, dtype=torch.float64)
    return found[found.isfinite()]


def _panel(axis: Any, kinds: Mapping[str, Tensor], theme: Theme) -> None:
    """Draw a strip for each kind of rows, the first one on top."""
    low, high = _span([one for one in kinds.values() if len(one)])
    edges = torch.linspace(low, high, BINS + 1, dtype=torch.float64)
    for k, (values, colour) in enumerate(zip(kinds.values(), theme.series * len(kinds), strict=False)):
        foot = len(kinds) - 1 - k
        inside = values[(values >= low) & (values <= high)]
        axis.axhline(foot, color=theme.rule, linewidth=1, zorder=0)
        if len(inside) * 2 > len(values):
            counts = torch.histogram(inside, edges).hist
            heights = (foot + 0.8 * counts / counts.max()).tolist()
            axis.stairs(heights, edges.tolist(), baseline=foot, fill=True, color=colour, alpha=0.85)
            mean = float(values.mean())
            if low <= mean <= high:
                axis.plot([mean, mean], [foot, foot + 0.9], color=theme.text, linewidth=1.5)
        elif len(values):
            _arrow(axis, float(values.mean()), low, high, foot, colour)
        else:
            axis.text(0.5, foot + 0.3, "no density", ha="center", color=colour, transform=axis.get_yaxis_transform())
    axis.set_xlim(low, high)
    axis.set_ylim(-0.05, len(kinds))
    axis.set_yticks([len(kinds) - 1 - k + 0.35 for k in range(len(kinds))], list(map(_short, kinds)))
    axis.tick_params(axis="y", length=0, labelcolor=theme.text)
    axis.spines["left"].set_visible(False)


def _arrow(axis: Any, mean: float, low: float, high: float, foot: float, colour: str) -> None:
    """Name the mean of a strip that lies beyond the axis."""
    left = mean < (low + high) / 2
    start, end = (0.16, 0.02) if left else (0.84, 0.98)
    transform = axis.get_yaxis_transform()
    axis.annotate(
        "", (end, foot + 0.35), (start, foot + 0.35), xycoords=transform, textcoords=transform,
        arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2},
    )  # fmt: skip
    at = start + 0.02 if left else start - 0.02
    side = "left" if left else "right"
    axis.text(at, foot + 0.35, f"far away: mean {mean:,.4g}", ha=side, va="center", color=colour, transform=transform)


def _span(strips: Sequence[Tensor]) -> tuple[float, float]:
    """The ends of the axis: the first two strips, and others that are near them."""
    if not strips:
        return 0.0, 1.0
    core = torch.cat([_most(one) for one in strips[:2]])
    low, high = float(core.min()), float(core.max())
    width = max(high - low, 1e-6 * max(1.0, abs(low)))
    ends = [_most(one) for one in strips]
    near = [end for end in ends if end[0] > low - FAR * width and end[1] < high + FAR * width]
    low, high = min([low, *(float(end[0]) for end in near)]), max([high, *(float(end[1]) for end in near)])
    room = 0.05 * max(high - low, width)
    return low - room, high + room


def _most(values: Tensor) -> Tensor:
    """The ends of most values, without the outermost in a hundred."""
    return values.quantile(torch.tensor([0.01, 0.99], dtype=values.dtype))


def _short(name: str) -> str:
    """A name that fits beside a strip."""
    return name if len(name) <= 16 else f"{name[:15]}…"
