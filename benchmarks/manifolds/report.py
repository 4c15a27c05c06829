"""Tables, marks and pictures of `benchmarks.manifolds`, from the cells."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.manifolds.models import CONTROLS, EULER, FLOOR, JUMPS, MODELS, TEACHER
from benchmarks.manifolds.sets import SETS
from benchmarks.tables import markdown
from flowmaps.figures.style import figure, light
from flowmaps.figures.words import plus_minus
from flowmaps.files import write_text

Cell = Mapping[str, Any]
ALL = MODELS | CONTROLS
COMMAND = "python -m benchmarks.manifolds"
WAYS = {("jumps", 1): "1 jump", ("jumps", 2): "2 jumps", ("jumps", 4): "4 jumps"} | {
    ("euler", 1): "1 Euler step", ("euler", 50): "50 Euler steps"
}  # fmt: skip
FLOORS = {"data": "training points (floor)", "prior": "uniform points"}
GATES = {"gfm_lsd": (0.001, 0.06), "gfm_psd": (0.001, 0.12)}
"""Largest squared MMD and largest mean distance to the exact map, in radians, of one jump."""
MEASURES = {
    "mmd": "Unbiased squared MMD to held-out points",
    "biased": "The papers' metric, biased and not squared, at the size of the held-out set",
    "error": "Mean distance to the exact map, radians",
}


def read(out: Path, name: str) -> dict[str, list[Cell]]:
    """The cells of a set: for each method the ones of all splits."""
    found: dict[str, list[Cell]] = {}
    for path in sorted((out / name).glob("*.json")):
        cell = json.loads(path.read_text())
        found.setdefault(cell["model"], []).append(cell)
    return {name: found[name] for name in (*ALL, FLOOR) if name in found}


def of(cells: Sequence[Cell], way: str, calls: int) -> list[Cell]:
    """The rows of a sampler, one for each split."""
    return [row for cell in cells for row in cell["rows"] if (row["way"], row["calls"]) == (way, calls)]


def value(rows: Sequence[Cell], key: str) -> tuple[float, float | None]:
    """Mean over splits and its error: the deviation over splits, or for one split the standard error if there is one.

    Args:
        rows: Rows of one sampler, one for each split.
        key: The measure.

    Returns:
        The mean and the error.
    """
    values = [row[key]["mean"] for row in rows]
    return mean(values), stdev(values) if len(values) > 1 else rows[0][key].get("stderr")


def text(rows: Sequence[Cell], key: str) -> str:
    """A measure with its error; empty without a row that has it."""
    known = [row for row in rows if key in row]
    return plus_minus(*value(known, key)) if known else ""


def table(cells: Mapping[str, list[Cell]], key: str) -> str:
    """A measure of every method by every sampler, beside the measure of data and of the prior."""
    rows = [
        [ALL[model].title, *(text(of(found, *way), key) for way in WAYS)]
        for model, found in cells.items()
        if model != FLOOR
    ]
    blank = [""] * (len(WAYS) - 1)
    floors = [[f"**{title}**", text(of(cells.get(FLOOR, []), way, 0), key), *blank] for way, title in FLOORS.items()]
    return f"**{MEASURES[key]}**\n\n" + markdown(["", *WAYS.values()], rows + [row for row in floors if row[1]])


def about(name: str, cells: Mapping[str, list[Cell]]) -> str:
    """The budget, the number of splits, the sizes, the steps of each method, and the machine."""
    models = {model: found for model, found in cells.items() if model != FLOOR}
    first = next(iter(models.values()))
    seconds, splits = first[0]["training"]["seconds"], max(map(len, models.values()))
    steps = ", ".join(f"{ALL[model].title} {found[0]['training']['steps']}" for model, found in models.items())
    error = "deviation over splits" if splits > 1 else "standard error of the estimate"
    rough = ", which two splits give roughly" if splits == 2 else ""
    sizes = " and ".join(map(str, dict.fromkeys(cell["rows"][0]["test"] for cell in first)))
    what = "fresh points" if name == "zonal" else "held-out points"
    return (
        f"{seconds:g} s of processor time for each training; {splits} split{'s' * (splits > 1)}; "
        f"± is the {error}{rough}; {sizes} {what}, 2000 samples. Steps of training: {steps}.\n\n"
        f"{first[0]['machine']}; command: {COMMAND}"
    )


def gates(cells: Mapping[str, list[Cell]]) -> list[list[str]]:
    """The gates of one jump on the set with an exact map."""
    rows = []
    for model, (most_mmd, most_error) in GATES.items():
        one = of(cells.get(model, []), *JUMPS[0])
        for key, most in (("mmd", most_mmd), ("error", most_error)):
            title = {"mmd": f"squared MMD at most {most:g}", "error": f"error at most {most:g} rad"}[key]
            outcome = f"{text(one, key)}, {said(value(one, key)[0] <= most)}" if one else "not measured"
            rows.append(["zonal", f"{MODELS[model].title}, one jump: {title}", outcome])
    return rows


def difference(cells: Sequence[Cell]) -> tuple[float, float]:
    """Squared MMD of one jump less the one of 50 Euler steps of the same map: mean over splits and standard error."""
    one, many = of(cells, *JUMPS[0]), of(cells, *TEACHER)
    gaps = [a["mmd"]["mean"] - b["mmd"]["mean"] for a, b in zip(one, many, strict=True)]
    if len(gaps) > 1:
        return mean(gaps), stdev(gaps) / math.sqrt(len(gaps))
    return gaps[0], math.hypot(one[0]["mmd"]["stderr"], many[0]["mmd"]["stderr"])


def mark(name: str, cells: Mapping[str, list[Cell]]) -> list[str]:
    """The mark of a set: one jump of the best map within two standard errors of its own 50 Euler steps."""
    title = "one jump of the best map within two standard errors of its own 50 Euler steps"
    known = {model: value(of(found, *JUMPS[0]), "mmd")[0] for model, found in cells.items() if of(found, *JUMPS[0])}
    if not known:
        return [SETS[name].title, title, "not measured"]
    best = min(known, key=lambda model: known[model])
    gap, error = difference(cells[best])
    outcome = f"{MODELS[best].title}, difference {plus_minus(gap, error)}, {said(gap <= 2 * error)}"
    return [SETS[name].title, title, outcome]


def said(holds: bool) -> str:
    """The outcome of a mark."""
    return "met" if holds else "missed"


def picture(found: Mapping[str, Mapping[str, list[Cell]]], path: Path) -> None:
    """Draw the squared MMD of every method on every set: one jump filled, 50 Euler steps open, the floor as a line.

    Flow matching knows no jumps; its filled point is one Euler step.
    """
    names = [name for name, cells in found.items() if any(model != FLOOR for model in cells)]
    with figure(light, 1.9 * len(names) + 2.4, 3.4, path, ncols=len(names), squeeze=False) as (made, axes):
        for ax, name in zip(axes[0], names, strict=True):
            panel(ax, found[name], SETS[name].title)
        axes[0][0].set_ylabel("unbiased squared MMD")
        handles, labels = axes[0][0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside right upper", fontsize=7)


def panel(ax: Any, cells: Mapping[str, list[Cell]], title: str) -> None:
    """Draw one set."""
    for at, (color, model) in enumerate(zip(light.series, MODELS, strict=False)):
        label = MODELS[model].title.replace("`", "")
        for (way, calls), fill in ((JUMPS[0], color), (EULER[0], color), (TEACHER, "none")):
            rows = of(cells.get(model, []), way, calls)
            if not rows or ((way, calls) == EULER[0] and of(cells[model], *JUMPS[0])):
                continue
            center, error = value(rows, "mmd")
            shown = label if fill != "none" else None
            ax.errorbar(at, center, error, fmt="o", color=color, mfc=fill, label=shown, markersize=5)
    if floors := of(cells.get(FLOOR, []), "data", 0):
        ax.axhline(value(floors, "mmd")[0], color=light.muted, linewidth=1)
    ax.margins(y=0.1)
    ax.set(title=title, xticks=[])
    ax.set_yscale("symlog", linthresh=1e-3)


def write(out: Path) -> str:
    """Write the tables and the picture; return the marks."""
    found = {name: read(out, name) for name in SETS}
    for name, cells in found.items():
        if any(model != FLOOR for model in cells):
            keys = [key for key in MEASURES if key != "error" or name == "zonal"]
            parts = [*(table(cells, key) for key in keys), about(name, cells)]
            write_text(out / f"{name}.md", "\n\n".join(parts) + "\n")
    rows = [*gates(found["zonal"]), *(mark(name, cells) for name, cells in found.items() if name != "zonal")]
    marks = markdown(["set", "mark", "measured"], rows)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "marks.md", marks + "\n")
    if any(any(model != FLOOR for model in cells) for cells in found.values()):
        picture(found, out / "overview.png")
    return marks
