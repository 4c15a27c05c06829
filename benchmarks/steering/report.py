"""Tables, marks and the picture of budgets of `benchmarks.steering`, from the cells."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.landscape_tables import save
from benchmarks.steering.inverse import DRAWS, IMAGES, PROBLEMS, SOLVERS, STD
from benchmarks.steering.labels import BUDGETS, METHODS
from benchmarks.tables import markdown
from flowmaps.figures.style import figure, light
from flowmaps.figures.words import count, plus_minus

Cell = Mapping[str, Any]
DPS, MOST = "dps", 100
STEERED = "steered sampler of 50 steps"
CLOSE, COVERED = 0.02, (0.85, 0.95)
"""Marks: the loss of accuracy of one jump, and the range of the coverage."""


def read(out: Path, part: str) -> dict[str, Cell]:
    """The cells of a part by their stems."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((out / part).glob("*.json"))}


def number(cell: Cell, key: str) -> str:
    """A measure with its standard error; "" if it was not measured."""
    return plus_minus(cell[key]["value"], cell[key]["stderr"]) if key in cell else ""


def shown(cell: Cell, name: str) -> list[str]:
    """A row of the table of classes."""
    calls = f"{cell['calls']:.0f}" if "calls" in cell else ""
    ess = f"{cell['ess']:.2f}" if "ess" in cell else ""
    own = f"{cell['own_accuracy']:.3f}"
    measures = [number(cell, key) for key in ("accuracy", "diversity", "distance")]
    return [name, calls, measures[0], own, *measures[1:], f"{cell['distinct']:.2f}", ess]


def table_of_classes(cells: Mapping[str, Cell]) -> str:
    """All methods at their largest budget, below real images."""
    rows = [shown(cells["data"], "real images")] if "data" in cells else []
    for name, method in METHODS.items():
        budgets = [budget for budget in BUDGETS if f"{name}-{budget}" in cells]
        chosen = budgets if method.most < MOST else budgets[-1:]
        rows += [shown(cells[f"{name}-{budget}"], method.title) for budget in chosen]
    head = [
        "method",
        "calls",
        "recognised",
        "by the classifier that steers",
        "diversity",
        "Fréchet",
        "distinct",
        "ESS / N",
    ]
    return markdown(head, rows)


def table_of_budgets(cells: Mapping[str, Cell]) -> str:
    """Accuracy and distance of every method at every budget."""
    rows = []
    for name, method in METHODS.items():
        found = [cells.get(f"{name}-{budget}") for budget in BUDGETS]
        if any(found):
            pairs = [
                "" if one is None else f"{one['accuracy']['value']:.3f}, {one['distance']['value']:.3g}"
                for one in found
            ]
            rows.append([method.title, *pairs])
    return markdown(["recognised, Fréchet", *(count(budget, "call") for budget in BUDGETS)], rows)


def table_of_problem(cells: Mapping[str, Cell], problem: str) -> str:
    """All methods on one inverse problem."""
    keys = ("psnr", "coverage", "residual", "crps")
    rows = []
    if (floor := cells.get(f"{problem}-data")) is not None:
        rows.append(["the truth, or other images as draws", "", *(number(floor, key) for key in keys)])
    for name, solver in SOLVERS.items():
        if (cell := cells.get(f"{problem}-{name}")) is not None:
            rows.append([solver.title, f"{cell['calls']:.0f}", *(number(cell, key) for key in keys)])
    return markdown(["method", "calls", "PSNR of the mean", "coverage", "residual / noise", "CRPS"], rows)


def settings(cells: Mapping[str, Cell], stems: Sequence[str]) -> str:
    """The settings that were chosen, one line for each method."""
    lines = []
    for stem in stems:
        cell = cells.get(stem)
        if cell and cell["setting"]:
            words = ", ".join(f"{key}={value}" for key, value in cell["setting"].items())
            lines.append(f"{stem.replace('-', ' ', 1)}: {words}")
    return "; ".join(lines)


def best_map(cells: Mapping[str, Cell], budget: int) -> str | None:
    """The flow-map steering of a budget, chosen without the reported measures: by the smallest distance when tried.

    A method without settings that are tried has no such distance, and takes no part.
    """
    found = {}
    for name, method in METHODS.items():
        cell = cells.get(f"{name}-{budget}")
        if method.kind == "map" and cell is not None:
            fits = [one["distance"] for one in cell["tried"] if one["calls"] <= budget]
            found |= {name: min(fits)} if fits else {}
    return min(found, key=lambda name: found[name]) if found else None


def ahead(cells: Mapping[str, Cell], budget: int) -> list[str]:
    """Mark of a budget: the chosen flow-map steering against DPS, in accuracy and in distance."""
    name, other = best_map(cells, budget), cells.get(f"{DPS}-{budget}")
    title = f"{count(budget, 'call')}: flow-map steering ahead of DPS in accuracy and distance"
    if name is None or other is None:
        return [title, "", "", "not measured" if budget >= METHODS[DPS].least else "DPS needs two calls"]
    cell = cells[f"{name}-{budget}"]
    gains = [(cell["accuracy"], other["accuracy"], 1), (cell["distance"], other["distance"], -1)]
    signs = [sign * (one["value"] - two["value"]) for one, two, sign in gains]
    errors = [math.hypot(one["stderr"], two["stderr"]) for one, two, _ in gains]
    clear = all(sign > 2 * error for sign, error in zip(signs, errors, strict=True))
    level = all(sign > -2 * error for sign, error in zip(signs, errors, strict=True))
    outcome = "met" if clear else "met, within two errors" if min(signs) > 0 else "undecided" if level else "missed"
    numbers = [f"{number(one, 'accuracy')}, {number(one, 'distance')}" for one in (cell, other)]
    return [title, f"{METHODS[name].title}: {numbers[0]}", f"DPS: {numbers[1]}", outcome]


def close(cells: Mapping[str, Cell], name: str) -> list[str]:
    """Mark of a post-trained map: one jump within 0.02 of the accuracy of the steered sampler."""
    one, other = cells.get(f"{name}-1"), cells.get(f"{DPS}-{MOST}")
    title = f"{METHODS[name].title.removesuffix(', jumps')}, 1 call: accuracy within {CLOSE} of the {STEERED}"
    if one is None or other is None:
        return [title, "", "", "not measured"]
    lost = other["accuracy"]["value"] - one["accuracy"]["value"]
    return [title, number(one, "accuracy"), f"DPS: {number(other, 'accuracy')}", "met" if lost <= CLOSE else "missed"]


def covers(cells: Mapping[str, Cell], problem: str, name: str) -> list[str]:
    """Mark of a method on a problem: its coverage in the range."""
    low, high = COVERED
    title = f"{PROBLEMS[problem][0]}, {SOLVERS[name].title}: coverage between {low} and {high}"
    cell = cells.get(f"{problem}-{name}")
    if cell is None:
        return [title, "", "", "not measured"]
    met = low <= cell["coverage"]["value"] <= high
    ratio = f"residual / noise {number(cell, 'residual')}"
    return [title, number(cell, "coverage"), ratio, "met" if met else "missed"]


MARKED = ("dps", "tilted", "moments", "particles", "meta_flow_map", "joint")
"""The solvers that claim to draw from the posterior."""


def marks(classes: Mapping[str, Cell], inverse: Mapping[str, Cell]) -> list[list[str]]:
    """All marks: their words, the numbers, the numbers beside them, and the outcome."""
    rows = [ahead(classes, budget) for budget in BUDGETS]
    rows += [close(classes, name) for name, method in METHODS.items() if method.kind == "trained"]
    pairs = [(problem, name) for problem in PROBLEMS for name in MARKED if problem in SOLVERS[name].only]
    return rows + [covers(inverse, *pair) for pair in pairs]


COLOURS = {
    "dps": 1,
    "tds": 1,
    "fmtt": 0,
    "best_of": 2,
    "weights": 2,
    "fmrg": 3,
    "weighted_diamond": 4,
    "meta_flow_map": 0,
}
DASHED = ("tds", "weights", "meta_flow_map")


def picture(cells: Mapping[str, Cell], out: Path) -> None:
    """Accuracy and distance against calls, a line for each method, beside the class-conditional map and real images."""
    panels = {"accuracy": "recognised by the second classifier", "distance": "Fréchet distance to the class"}
    with figure(light, 11.5, 4.6, ncols=2) as (made, axes):
        for axis, (key, title) in zip(axes, panels.items(), strict=True):
            for name, colour in COLOURS.items():
                found = [cells[f"{name}-{budget}"] for budget in BUDGETS if f"{name}-{budget}" in cells]
                if found:
                    style = {"color": light.series[colour], "linestyle": "--" if name in DASHED else "-"}
                    x, y = [one["calls"] for one in found], [one[key]["value"] for one in found]
                    axis.plot(x, y, marker="o", markersize=4, label=METHODS[name].title, **style)
            for name, marker in (("conditional", "*"), ("filtered", "D"), ("distilled", "s"), ("tilting", "^")):
                if (one := cells.get(f"{name}-1")) is not None:
                    label = METHODS[name].title.removesuffix(", jumps").replace("`", "")
                    axis.plot([one["calls"]], [one[key]["value"]], marker, color=light.text, label=label, markersize=8)
            if (floor := cells.get("data")) is not None:
                axis.axhline(floor[key]["value"], color=light.muted, linewidth=1, linestyle=":")
            axis.set_xscale("log")
            axis.set_xticks(BUDGETS, [str(budget) for budget in BUDGETS])
            axis.minorticks_off()
            axis.set_title(title, fontsize=11)
        axes[0].set_ylim(0, 1.02)
        axes[1].set_yscale("log")
        axes[1].set_ylim(1, 30)
        axes[1].set_yticks([1, 2, 3, 5, 10, 20, 30], ["1", "2", "3", "5", "10", "20", "30"])
        made.supxlabel("network calls for each sample; dotted: real images", fontsize=10)
        made.legend(*axes[0].get_legend_handles_labels(), loc="outside right", fontsize=9, handlelength=3)
        save(made, out / "budgets.png")


def write(out: Path) -> str:
    """Write all tables and the picture of budgets. Returns the tables."""
    classes, inverse = read(out, "classes"), read(out, "inverse")
    pages = {"marks": markdown(["mark", "measured", "beside it", "outcome"], marks(classes, inverse))}
    if classes:
        chosen = settings(classes, [f"{name}-{MOST}" for name in METHODS])
        pages["classes"] = (
            f"{table_of_classes(classes)}\n\nSettings at {MOST} calls: {chosen}.\n\n{made_by(classes, 'classes')}"
        )
        pages["budgets"] = f"{table_of_budgets(classes)}\n\n{made_by(classes, 'classes')}"
        picture(classes, out)
    for problem, (title, _) in PROBLEMS.items():
        if any(stem.startswith(f"{problem}-") for stem in inverse):
            chosen = settings(inverse, [f"{problem}-{name}" for name in SOLVERS])
            head = f"{title.capitalize()}, noise of standard deviation {STD:g}, {IMAGES} images, {DRAWS} draws each"
            body = f"{head}:\n\n{table_of_problem(inverse, problem)}\n\nSettings: {chosen}."
            pages[f"inverse-{problem}"] = f"{body}\n\n{made_by(inverse, 'inverse')}"
    out.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (out / f"{name}.md").write_text(text + "\n")
    return "\n\n".join(f"## {name}\n\n{text}" for name, text in pages.items())


def made_by(cells: Mapping[str, Cell], part: str) -> str:
    """The machine and date of the last cell, the processor time of all, and the command."""
    last = max(cell["machine"] for cell in cells.values())
    minutes = sum(cell["process_seconds"] for cell in cells.values()) / 60
    return f"{last}; {minutes:.0f} minutes of processor time; command: python -m benchmarks.steering --part {part}"
