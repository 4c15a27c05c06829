"""Tables, marks and pictures of `benchmarks.likelihood`, from the cells."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.likelihood.cells import CALLS, MAPS
from benchmarks.likelihood.sets import SETS, TITLES
from benchmarks.tables import markdown
from flowmaps.figures.style import figure, light
from flowmaps.figures.words import plus_minus
from flowmaps.files import write_text

Cell = Mapping[str, Any]
NAMES = {
    "euler": ("flow_matching", "Euler sum of flow matching"),
    "heun": ("flow_matching", "Heun sum of flow matching"),
    "bound": ("flow_matching", "bound of flow matching"),
    "jumps": ("falcon", "jumps of the invertible map"),
    "joint": ("joint", "jumps of the joint map"),
}
"""Map and title of each estimator."""
DIGITS, VALUES = "digits", 64
LEVELS = 17
BITS = VALUES * math.log(2)
"""Nats of one bit per dimension of the digits."""
MARKS = (("joint", DIGITS, 4, 0.1 * BITS), ("joint", "three", 1, 0.01), ("joint", "ring", 1, 0.01))
"""Estimator, set, calls, and largest mean distance to the ODE of the same map, in nats."""
ESS = 0.9
COMMAND = "python -m benchmarks.likelihood"


def read(out: Path, name: str) -> dict[str, list[Cell]]:
    """The cells of a set: for each map the ones of all seeds."""
    found: dict[str, list[Cell]] = {}
    for path in sorted((out / name).glob("*.json")):
        cell = json.loads(path.read_text())
        found.setdefault(cell["map"], []).append(cell)
    return found


def of(cells: Sequence[Cell], by: str, calls: int) -> list[Cell]:
    """The rows of an estimator at a number of calls, one for each seed."""
    return [row for cell in cells for row in cell["rows"] if (row["by"], row["calls"]) == (by, calls)]


def averaged(values: Sequence[Mapping[str, float]]) -> str:
    """A mean over seeds with the standard error over rows."""
    if not values:
        return ""
    return plus_minus(mean(v["mean"] for v in values), math.hypot(*(v["stderr"] for v in values)) / len(values))


def table_of_errors(cells: Mapping[str, list[Cell]], against: str) -> str:
    """Mean |log p - reference| of every estimator at every number of calls, in nats, beside the ODE of the same map."""
    rows = []
    for by, (kind, title) in NAMES.items():
        found = [of(cells.get(kind, []), by, calls) for calls in CALLS]
        texts = [averaged([row["errors"][against] for row in one]) + folds(one) for one in found]
        ode = [averaged([cell["exact"]["ode_error"] for cell in cells.get(kind, [])])] if against == "exact" else []
        if any(texts):
            rows.append([title, *texts, *ode])
    reference = "the exact law" if against == "exact" else "the ODE of the same map"
    head = [f"nats from {reference}", *map(called, CALLS)]
    return markdown([*head, "ODE of the same map"] if against == "exact" else head, rows)


def folds(rows: Sequence[Cell]) -> str:
    """The rows that jumps fold, in words."""
    folded = sum(row["folded"] for row in rows)
    return f" ({folded} folded)" if folded else ""


def called(calls: int) -> str:
    """A number of calls in words."""
    return "1 call" if calls == 1 else f"{calls} calls"


def table_of_bits(cells: Mapping[str, list[Cell]]) -> str:
    """Bits per dimension of the digits by every estimator, beside the ODE of each map."""
    rows = []
    for by, (kind, title) in NAMES.items():
        found = [of(cells.get(kind, []), by, calls) for calls in CALLS]
        if any(found):
            rows.append([title, *(averaged([bits(row["nats"]) for row in one]) for one in found), ode_of(cells[kind])])
    return markdown(["bits per dimension", *map(called, CALLS), "ODE of the same map"], rows)


def ode_of(cells: Sequence[Cell]) -> str:
    """Bits per dimension by the ODE of a map."""
    return averaged([bits(cell["ode"]["nats"]) for cell in cells])


def bits(nats: Mapping[str, float]) -> dict[str, float]:
    """A mean log-density as bits per dimension of the digits."""
    return {"mean": -nats["mean"] / BITS - math.log2(2 / (LEVELS - 1)), "stderr": nats["stderr"] / BITS}


def table_of_samples(cells: Mapping[str, list[Cell]]) -> str:
    """Importance weights of samples under the exact law."""
    rows = []
    for kind, (title, _) in MAPS.items():
        for measure, text in (("weight", "mean weight"), ("ess", "ESS / N")):
            texts = []
            for calls in CALLS:
                found = [one for cell in cells.get(kind, []) for one in cell["samples"] if one["calls"] == calls]
                texts.append(
                    averaged([one["weight"] for one in found])
                    if measure == "weight"
                    else shown([one["ess"] for one in found])
                )
            if any(texts):
                rows.append([f"{title}, {text}", *texts])
    return markdown(["samples", *map(called, CALLS)], rows)


def shown(values: Sequence[float]) -> str:
    """A mean of shares."""
    return f"{mean(values):.3f}" if values else ""


def marks(found: Mapping[str, Mapping[str, list[Cell]]]) -> str:
    """The marks of the benchmark, and whether they are met."""
    rows = []
    for by, name, calls, most in MARKS:
        values = [row["errors"]["ode"]["mean"] for row in of(found[name].get(NAMES[by][0], []), by, calls)]
        unit = BITS if name == DIGITS else 1.0
        words = "bits per dimension" if name == DIGITS else "nats"
        text = f"{TITLES[name]}: mean distance of the joint map to its own ODE at {called(calls)}, {words}"
        rows.append([text, f"at most {most / unit:g}", outcome(values, unit, lambda v, most=most: v <= most)])
    for name in ("three", "ring"):
        values = [one["ess"] for cell in found[name].get("falcon", []) for one in cell["samples"] if one["calls"] == 4]
        text = f"{TITLES[name]}: effective share of the samples of the invertible map at 4 calls"
        rows.append([text, f"at least {ESS:g}", outcome(values, 1.0, lambda v: v >= ESS)])
    return markdown(["mark", "value", "measured"], rows)


def outcome(values: Sequence[float], unit: float, holds: Any) -> str:
    """A measured value and whether it meets its mark."""
    if not values:
        return "not measured"
    return f"{mean(values) / unit:.3g}, {'met' if holds(mean(values)) else 'missed'}"


def table_of_costs(out: Path) -> str:
    """Cost of a training step of the joint map over the plain one."""
    path = out / "cost.json"
    if not path.exists():
        return "not measured\n"
    found = json.loads(path.read_text())
    rows = [[name, f"{one['counted']:.2f}", f"{one['timed']:.2f}"] for name, one in found["steps"].items()]
    return markdown(["joint over plain step", "multiplications", "processor time"], rows) + f"\n\n{found['machine']}\n"


def picture(found: Mapping[str, Mapping[str, list[Cell]]], path: Path) -> None:
    """Draw the error of every estimator over the number of calls, one panel for each set."""
    known = [name for name in SETS if found[name]]
    with figure(light, 3.6 * len(known), 3.4, path, ncols=len(known), squeeze=False) as (made, axes):
        for ax, name in zip(axes[0], known, strict=True):
            against = "ode" if name == DIGITS else "exact"
            for color, (by, (kind, title)) in zip(light.series, NAMES.items(), strict=False):
                rows = [(calls, of(found[name].get(kind, []), by, calls)) for calls in CALLS]
                points = [(c, mean(r["errors"][against]["mean"] for r in one)) for c, one in rows if one]
                if points:
                    ax.plot(*zip(*points, strict=True), "o-", color=color, label=title, markersize=4)
            ax.set(xscale="log", yscale="log", title=TITLES[name], xlabel="network calls")
            ax.set_xticks(CALLS, [str(c) for c in CALLS])
            ax.minorticks_off()
        axes[0][0].set_ylabel("mean error of log p, nats")
        made.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)


def write(out: Path) -> str:
    """Write the tables and the picture; return the marks."""
    found = {name: read(out, name) for name in SETS}
    for name, cells in found.items():
        if not cells:
            continue
        machine = next(iter(cells.values()))[0]["machine"]
        parts = [table_of_errors(cells, "ode"), table_of_bits(cells)]
        if name != DIGITS:
            parts = [table_of_errors(cells, "exact"), table_of_errors(cells, "ode"), table_of_samples(cells)]
        seconds = next(iter(cells.values()))[0]["training"]["seconds"]
        steps = ", ".join(f"{MAPS[kind][0]} {cell[0]['training']['steps']}" for kind, cell in cells.items())
        about = f"{seconds:g} s of training on one core; steps: {steps}.\n\n{machine}; command: {COMMAND}\n"
        write_text(out / f"{name}.md", "\n\n".join([*parts, about]))
    write_text(out / "marks.md", marks(found) + "\n")
    write_text(out / "cost.md", table_of_costs(out))
    if any(found.values()):
        picture(found, out / "errors.png")
    return marks(found)
