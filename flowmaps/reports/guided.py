"""What guidance does to the samples of a class-conditional run: a grid of classes for each scale, and the measures by
scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data import Data
from ..evaluate.guided import Guided, on_its_device
from ..figures import words
from ..figures.charts import plain
from ..figures.pictures import enlarged, mosaic, png
from ..figures.style import Theme, figure, light
from . import page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLASSES, COLUMNS, GAP = 10, 8, 4
NAMES = {
    "accuracy": "recognised as its class",
    "diversity": "diversity within a class",
    "distance": "distance to real data",
    "to_reference": "distance to the reference",
}
GUIDANCE = (
    "The scale asks for more of what tells a class from the others. At 1 samples are meant to be like the data; above "
    "it they trade that for being recognised."
)
ELSEWHERE = "Samples in the other parts of this page are those of scale {:g}."
ROWS = "One row for each class, from top to bottom: {}. The same place in each grid starts from the same noise."


def guided(samplers: Sequence[Guided], data: Data, found: Mapping[str, Any], usual: float = 1.0) -> str:
    """The section. found: what `evaluate.by_scale` measured, of these samplers and of some that may be gone. usual: the
    scale of samples where none is asked for.
    """
    by_key = {(one.run, one.name, one.steps, one.scale): one for one in samplers}
    keys = ((row.get("run"), row["sampler"], row["steps"], row["scale"]) for row in found["rows"])
    pairs = [(by_key[key], row) for key, row in zip(keys, found["rows"], strict=True) if key in by_key]
    kinds = dict.fromkeys(map(kind_of, found["rows"]))
    boards = [page.panels(board(one, data, row) for one, row in pairs if kind_of(row) == kind) for kind in kinds]
    names = data.class_names or tuple(map(str, range(data.classes or 0)))
    order = ROWS.format(", ".join(names[:CLASSES]))
    alt = "Charts of accuracy, diversity and distance against the scale of guidance, a line for each sampler."
    chart = page.drawing(lambda theme: by_scale(found, theme=theme), alt, kind="strip")
    text = page.paragraph(f"{GUIDANCE} {summary(found)} {ELSEWHERE.format(usual)}")
    return page.section("What guidance does", text, *boards, page.paragraph(order, "note"), chart, table(found))


def kind_of(row: words.Row) -> str:
    """ "1 jump", "100 ODE steps of teacher": a row without its scale."""
    return words.name(row)


def board(one: Guided, data: Data, row: words.Row) -> str:
    """A grid of samples with a row for each class."""
    title = f"{kind_of(row)}, scale {one.scale:g}"
    note = f"{percent(row)} recognised, diversity {words.plus_minus(row['diversity'], row['diversity_stderr'])}"
    caption = f"<b>{escape(title)}</b>{escape(note)}"
    return page.picture(png(class_mosaic(one, data)), f"A grid of images, a row for each class: {title}", caption)


def class_mosaic(one: Guided, data: Data) -> Tensor:
    """Samples side by side, a row for each of the first classes; the same noise for every sampler."""
    label = torch.arange(min(data.classes or 1, CLASSES)).repeat_interleave(COLUMNS)
    noise = torch.randn(len(label), *data.shape, generator=torch.Generator().manual_seed(0))
    x = one.draw(*on_its_device(one, noise, label), len(label)).x
    return mosaic(enlarged(data.to_pixels(x.float()), 32), COLUMNS, GAP)


def percent(row: Mapping[str, Any]) -> str:
    """Accuracy in per cent, with its error."""
    return words.plus_minus(100 * row["accuracy"], 100 * row["accuracy_stderr"]) + "\u00a0%"


def summary(found: Mapping[str, Any]) -> str:
    """What the first sampler gets at its first and at its last scale, in a sentence."""
    rows = [row for row in found["rows"] if kind_of(row) == kind_of(found["rows"][0])]
    said = ", ".join(f"{_worth(row)} at scale {row['scale']:g}" for row in [rows[0], *rows[1:][-1:]])
    return f"By {kind_of(rows[0])} {said}; of held-out data {_worth(found['data'])}."


def _worth(row: Mapping[str, Any]) -> str:
    distance = words.plus_minus(row["distance"], row["distance_stderr"])
    return f"{percent(row)} are recognised and the distance is {distance}"


def table(found: Mapping[str, Any]) -> str:
    """All numbers."""
    keys = [key for key in NAMES if key in found["measures"]]

    def cells(row: Mapping[str, Any]) -> list[str]:
        values = (words.plus_minus(row.get(key), row.get(f"{key}_stderr")) for key in keys if key != "accuracy")
        return [percent(row), *("" if value == "not known" else value for value in values)]

    lines = [("floor", ["real data, held out", "", *cells(found["data"]), "", ""])]
    for row in found["rows"]:
        cost = [str(row["network_calls"]), words.seconds(row["seconds_per_sample"])]
        lines.append(("", [kind_of(row), f"{row['scale']:g}", *cells(row), *cost]))
    head = ["sampler", "scale", *(NAMES[key] for key in keys), "network calls", "time per sample"]
    meaning = page.facts((NAMES[key], found["measures"][key]) for key in keys)
    return page.table(head, lines, kind="dense") + meaning


def by_scale(
    found: Mapping[str, Any],
    path: str | Path | None = None,
    *,
    keys: Iterable[str] = ("accuracy", "diversity", "distance"),
    theme: Theme = light,
) -> Figure:
    """Measures against the scale of guidance, an axis for each key and a line for each sampler, with standard errors;
    dashed: held-out data. found: of `evaluate.by_scale`.
    """
    keys = list(keys)
    kinds = dict.fromkeys(map(kind_of, found["rows"]))
    with figure(theme, 3.6 * len(keys), 3.4, path, ncols=len(keys), squeeze=False) as (made, axes):
        for axis, key in zip(axes[0], keys, strict=True):
            for kind, colour in zip(kinds, theme.series * len(kinds), strict=False):
                rows = [row for row in found["rows"] if kind_of(row) == kind]
                columns = zip(*((row["scale"], row[key], row[f"{key}_stderr"] or 0) for row in rows), strict=True)
                x, y, error = columns
                axis.errorbar(x, y, error, color=colour, label=kind, marker="o", capsize=3)
            if key in found["data"]:
                axis.axhline(found["data"][key], color=theme.muted, linestyle="--", linewidth=1.2, label="real data")
            axis.set_title(NAMES[key])
            scales = sorted({row["scale"] for row in found["rows"]})
            axis.set_xscale("log", base=2)
            axis.set_xticks(scales, [f"{scale:g}" for scale in scales])
            axis.minorticks_off()
            axis.set_xlabel("scale of guidance")
            axis.yaxis.set_major_formatter(plain)
            axis.grid(axis="y")
        handles, labels = axes[0][0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return made
