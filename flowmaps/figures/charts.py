"""Charts: loss curves, heat maps over two times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ..arguments import expect_tensor
from .style import SHADES, Theme, figure, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Amount = Literal["terms", "mean_squares"]
"""The amounts that a row of metrics has for each term."""


def loss_curves(
    rows: Sequence[Mapping[str, Any]],
    path: str | Path | None = None,
    *,
    of: Amount = "terms",
    size: tuple[float, float] = (7, 3.6),
    theme: Theme = light,
) -> Figure:
    """Draw the loss of each term over the steps: as measured, faint, and smoothed.

    The axis is logarithmic if all values are positive and span a decade.

    Args:
        rows: Rows of metrics.jsonl ("step", "loss", "terms").
        path: The file to save; its suffix chooses the format. None: not saved.
        of: The amount: "terms" for weighted losses, "mean_squares" for mean squares of residuals before any weight.
            Rows of earlier versions have no mean squares; their losses are drawn.
        size: Width and height in inches.
        theme: The colours.

    Returns:
        The figure.

    Raises:
        ValueError: If there are no rows.
    """
    if not rows:
        raise ValueError("loss curves need at least one row of metrics, got none")
    squares = of == "mean_squares" and has_mean_squares(rows)
    curves = curves_of(rows, of if squares else "terms")
    with figure(theme, *size, path) as (made, axis):
        for (name, (steps, values)), colour in zip(curves.items(), theme.series * len(curves), strict=False):
            axis.plot(steps, values, color=colour, linewidth=1, alpha=0.35)
            axis.plot(steps, smooth(values), color=colour, label=name)
        span = _decades(values for _, values in curves.values())
        if span >= 1:
            axis.set_yscale("log")
            log_ticks(axis.yaxis, span)
        axis.set(xlabel="training step", ylabel="mean square of the residual" if squares else "loss")
        axis.grid(axis="y")
        axis.legend(loc="best", ncols=len(curves) if size[0] > 6 else 1)
    return made


def measure_curves(
    rows: Sequence[Mapping[str, Any]],
    key: str,
    floor: float | None = None,
    path: str | Path | None = None,
    *,
    name: str = "distance",
    size: tuple[float, float] = (7, 3.6),
    theme: Theme = light,
) -> Figure:
    """Draw a measure of an evaluation over the number of steps, one curve for each sampler, with standard errors.

    Args:
        rows: Rows of an evaluation ("sampler", "steps", the measure and its standard error).
        key: Key of the measure, such as "distance".
        floor: Its value for data, a dotted line. None: no line.
        path: The file to save; its suffix chooses the format. None: not saved.
        name: Name of the measure.
        size: Width and height in inches.
        theme: The colours.

    Returns:
        The figure.

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("curves of a measure need at least one row of an evaluation, got none")
    error = "stderr" if key == "distance" else f"{key}_stderr"
    names = {"jump": "jumps", "euler": "ODE steps", "restart": "restarted jumps", "ancestral": "ancestral steps"}
    with figure(theme, *size, path) as (made, axis):
        samplers = list(dict.fromkeys(row["sampler"] for row in rows))
        for sampler, colour in zip(samplers, theme.series * len(samplers), strict=False):
            known = [row for row in rows if row["sampler"] == sampler and row[key] is not None]
            steps, values = ([row[one] for row in known] for one in ("steps", key))
            errors = [row.get(error) or 0.0 for row in known]
            axis.errorbar(steps, values, errors, color=colour, marker="o", label=names.get(sampler, sampler))
        if floor is not None:
            axis.axhline(floor, color=theme.series[-1], linestyle=":", label="real data")
        axis.set_xscale("log")
        counts = sorted({row["steps"] for row in rows})
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.xaxis.set_minor_formatter(_nothing)
        axis.set(xlabel="steps", ylabel=name)
        axis.grid(axis="y")
        axis.legend(loc="best")
    return made


Curve = tuple[list[int], list[float]]


def curves_of(rows: Sequence[Mapping[str, Any]], of: Amount) -> dict[str, Curve]:
    """The steps and values of each term; a term of one stage has the steps of its stage. Without terms: the loss."""
    curves: dict[str, Curve] = {}
    for row in rows:
        for name, value in (row.get(of) or {}).items():
            if value is not None:
                steps, values = curves.setdefault(name, ([], []))
                steps.append(row["step"])
                values.append(value)
    return curves or {"loss": ([row["step"] for row in rows], [row["loss"] for row in rows])}


def has_mean_squares(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether rows of metrics have mean squares; rows of earlier versions have none."""
    return any(value is not None for row in rows for value in (row.get("mean_squares") or {}).values())


def _decades(curves: Iterable[Sequence[float]]) -> float:
    """The powers of ten that the values span; 0 if some are not positive."""
    values = [value for curve in curves for value in curve]
    return math.log10(max(values) / min(values)) if min(values) > 0 else 0.0


def plain(value: float, _: int) -> str:
    """A tick label: 0.01, 1, 100 instead of powers of ten."""
    return f"{value:g}"


def log_ticks(axis: Any, decades: float) -> None:
    """Label a logarithmic axis with plain numbers: each power of ten, and 2 and 5 if the axis spans few of them.

    Args:
        axis: The x-axis, y-axis or long axis of a colour bar.
        decades: The powers of ten that it spans.
    """
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1.0,) if decades > 3 else (1.0, 2.0, 5.0), numticks=20))
    axis.set_major_formatter(plain)
    axis.set_minor_formatter(_nothing)


def _nothing(value: float, _: int) -> str:
    """An empty tick label."""
    return ""


def smooth(values: Sequence[float], share: float = 0.1) -> list[float]:
    """The running mean over the last `share` of all values."""
    width, total = max(1, round(len(values) * share)), torch.tensor([0.0, *values], dtype=torch.float64).cumsum(0)
    at = torch.arange(1, len(values) + 1)
    start = (at - width).clamp(min=0)
    return ((total[at] - total[start]) / (at - start)).tolist()


def heat_map(
    values: Tensor,
    times: Sequence[float] | Tensor,
    path: str | Path | None = None,
    *,
    name: str = "residual",
    theme: Theme = light,
) -> Figure:
    """Draw an amount over two times, on a logarithmic scale of at most four decades.

    Args:
        values: The amounts (S, T) at s = times[i], t = times[j]; NaN is left empty.
        times: The sorted times.
        path: The file to save; its suffix chooses the format. None: not saved.
        name: The name of the amount.
        theme: The colours.

    Returns:
        The figure.

    Raises:
        ValueError: The amounts do not fit the times.
    """
    from matplotlib.colors import LogNorm

    expect_tensor("values", values)
    if values.ndim != 2 or len(set(values.shape)) != 1 or len(times) != len(values):
        raise ValueError(
            f"amounts over {len(times)} times have the shape ({len(times)}, {len(times)}), got {tuple(values.shape)}"
        )
    top = float(values.nan_to_num(0).max()) or 1.0
    known = values[values.isfinite() & (values > 0)]
    low = max(float(known.min()) if len(known) else top / 10, top * 1e-4)
    edges = _edges(torch.as_tensor(times, dtype=torch.float64))
    with figure(theme, 5.6, 4.6, path) as (made, axis):
        # transposed: the source time runs to the right and the target time upwards
        norm = LogNorm(min(low, top / 10), top)
        mesh = axis.pcolormesh(edges, edges, values.T.clamp(min=low), cmap=SHADES, norm=norm, rasterized=True)
        axis.set(xlabel="from: source time s", ylabel="to: target time t", aspect="equal")
        axis.set_xticks([0, 0.5, 1], ["0\ndata", "0.5", "1\nnoise"])
        axis.set_yticks([0, 0.5, 1], ["0 data", "0.5", "1 noise"])
        bar = made.colorbar(mesh, label=name)
        log_ticks(bar.ax.yaxis, math.log10(top / min(low, top / 10)))
    return made


def _edges(times: Tensor) -> list[float]:
    """The borders of cells around the times: half way between neighbours."""
    middles = (times[1:] + times[:-1]) / 2
    first, last = 2 * times[:1] - middles[:1], 2 * times[-1:] - middles[-1:]
    return torch.cat((first, middles, last)).tolist()
