"""The numbers of `evaluate.by_scale` in words and in axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import words
from .charts import plain
from .style import Theme, figure, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {
    "accuracy": "recognised as its class",
    "diversity": "diversity within a class",
    "distance": "distance to real data",
    "to_reference": "distance to the reference",
}
"""The measures of `evaluate.by_scale`, as figures and tables name them."""


def percent(row: Mapping[str, Any]) -> str:
    """Accuracy in per cent, with its standard error."""
    value, error = row["accuracy"], row["accuracy_stderr"]
    return "not known" if value is None else words.plus_minus(100 * value, 100 * (error or 0)) + "\u00a0%"


def summary(found: Mapping[str, Any]) -> str:
    """A sentence about the first sampler at its first and at its last scale, beside held-out data."""
    rows = [row for row in found["rows"] if words.name(row) == words.name(found["rows"][0])]
    known = ", ".join(f"{_worth(row)} at scale {row['scale']:g}" for row in [rows[0], *rows[1:][-1:]])
    return f"By {words.name(rows[0])} {known}; of held-out data {_worth(found['data'])}."


def _worth(row: Mapping[str, Any]) -> str:
    """Accuracy and distance of a row in words."""
    distance = words.plus_minus(row["distance"], row["distance_stderr"])
    return f"{percent(row)} are recognised and the distance is {distance}"


def scale_curves(
    found: Mapping[str, Any],
    path: str | Path | None = None,
    *,
    keys: Iterable[str] = ("accuracy", "diversity", "distance"),
    theme: Theme = light,
) -> Figure:
    """Draw measures against the guidance scale, with standard errors; dashed: held-out data.

    Args:
        found: The result of `evaluate.by_scale`.
        path: The file to save; its suffix chooses the format. None: not saved.
        keys: The measures, an axis for each, with a line for each sampler.
        theme: The colours.

    Returns:
        The figure.
    """
    keys = list(keys)
    kinds = dict.fromkeys(map(words.name, found["rows"]))
    with figure(theme, 3.6 * len(keys), 3.4, path, ncols=len(keys), squeeze=False) as (made, axes):
        for axis, key in zip(axes[0], keys, strict=True):
            for kind, colour in zip(kinds, theme.series * len(kinds), strict=False):
                rows = [row for row in found["rows"] if words.name(row) == kind]
                columns = zip(*((row["scale"], row[key], row[f"{key}_stderr"] or 0) for row in rows), strict=True)
                x, y, error = columns
                axis.errorbar(x, y, error, color=colour, label=kind, marker="o", capsize=3)
            if key in found["data"]:
                axis.axhline(found["data"][key], color=theme.muted, linestyle="--", linewidth=1.2, label="real data")
            axis.set_title(NAMES[key])
            _scale_axis(axis, sorted({row["scale"] for row in found["rows"]}))
        handles, labels = axes[0][0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return made


def _scale_axis(axis: Any, scales: list[float]) -> None:
    """A logarithmic axis with a tick at each scale."""
    axis.set_xscale("log", base=2)
    axis.set_xticks(scales, [f"{scale:g}" for scale in scales])
    axis.minorticks_off()
    axis.set_xlabel("scale of guidance")
    axis.yaxis.set_major_formatter(plain)
    axis.grid(axis="y")
