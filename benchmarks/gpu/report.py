"""Tables and marks from the results of `benchmarks.gpu`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cost.marks import Mark, Steps
from benchmarks.cost.report import megabytes, number
from benchmarks.gpu import steps
from benchmarks.gpu.networks import NAMES
from benchmarks.tables import markdown
from flowmaps.files import write_text

Result = dict[str, Any]


def write(out: Path) -> str:
    """Write a table for each stage with a result, and one of the marks; returns all of it as a page."""
    found = {name: json.loads((out / f"{name}.json").read_text()) for name in TABLES if (out / f"{name}.json").exists()}
    page = []
    for name, make in TABLES.items():
        if result := found.get(name):
            parts = [*why(result), *make(result["found"]), signed(result)]
            write_text(out / f"{name}.md", "\n\n".join(parts) + "\n")
            page.append("\n\n".join([f"## {name}", *parts]))
    of_marks = [table_of_marks(found.get("steps"))]
    if "steps" in found:
        of_marks.append(signed(found["steps"]))
    write_text(out / "marks.md", "\n\n".join(of_marks) + "\n")
    return "\n\n".join(["## marks", *of_marks, *page])


def why(result: Result) -> Iterator[str]:
    """The reason if a stage was skipped or ended early."""
    if "skipped" in result:
        yield f"**Skipped**: {result['skipped']}."
    if "failure" in result:
        yield f"**Ended early**: {result['failure']}."


def signed(result: Result) -> str:
    """Hardware and software of a result."""
    hardware = "; ".join(result.get("hardware") or ["no GPU"])
    named = [("torch", "torch "), ("cuda", "CUDA "), ("driver", "driver "), ("date", ""), ("commit", "commit ")]
    parts = [hardware, *(f"{word}{result[key]}" for key, word in named if result.get(key))]
    parts.append("command: python -m benchmarks.gpu")
    return ", ".join(parts) + (". **A rehearsal on a CPU with tiny networks.**" if result.get("rehearsal") else "")


def table_of_marks(result: Result | None) -> str:
    """A row for each mark: met, missed or not measured."""
    lines = []
    for mark in marks_of(result):
        bound = f"{'>=' if mark.least else '<='} {mark.bound:g}"
        worst = f"{mark.values[mark.worst]:.2f}" if mark.values else ""
        missed = ", ".join(f"{name} {mark.values[name]:.2f}" for name in mark.missed)
        lines.append([mark.name, mark.where, bound, worst, state(mark), missed])
    return markdown(["mark", "network", "bound", "worst", "", "missed by"], lines)


def marks_of(result: Result | None) -> list[Mark]:
    """The marks of the stage `steps`; without its result they have no numbers."""
    found = result["found"] if result else {}
    return list(steps.marks(steps.tables_of(found) if found.get("networks") else []))


def state(mark: Mark) -> str:
    """Met, missed or not measured."""
    return "not measured" if not mark.values else "missed" if mark.missed else "met"


def of_checks(found: Result) -> Iterator[str]:
    """A row for each check."""
    lines = []
    for row in found.get("rows", []):
        outcome = "skipped" if "skipped" in row else "passed" if row["passed"] else "**failed**"
        value = f"{row['number']:.2g}" if "number" in row else ""
        bound = f"{row['bound']:.2g}" if "bound" in row else ""
        note = row.get("skipped") or row.get("failure") or row.get("unit", "")
        lines.append([row["name"], row["about"], outcome, value, bound, note, number(row["seconds"], ".1f")])
    if lines:
        yield markdown(["check", "quantity", "outcome", "measured", "bound", "unit or reason", "s"], lines)
    if found.get("attention"):
        ways = [way for way in found["attention"][0] if way != "shape"]
        times = [[row["shape"], *[cell(row[way]) for way in ways]] for row in found["attention"]]
        yield "Attention in bfloat16, value and derivative, milliseconds:"
        yield markdown(["shape", *ways], times)


def cell(value: float | str) -> str:
    """A time, or a reason."""
    return value if isinstance(value, str) else f"{value:.3f}"


def of_steps(found: Result) -> Iterator[str]:
    """The rate of matrix products, and a table for each network."""
    if found.get("rates"):
        rates = found["rates"]["bfloat16 torch"]
        best = ", ".join(f"{size} x {size}: {rate / 1e12:.3g}" for size, rate in rates.items())
        yield f"Matrix products in bfloat16, TFLOP/s: {best}."
    for of_network in steps.tables_of(found) if found.get("networks") else []:
        yield of_one_network(of_network)


def of_one_network(one: Steps) -> str:
    """A row for each step."""
    header = ["step", "method", "ms", "forward passes", "over flow matching", "share of the matrix rate", "MB"]
    lines, failed = [], []
    for row in one.found["rows"]:
        key = kind, method = row["kind"], row["method"]
        if row.get("seconds"):
            lines.append(
                [
                    kind,
                    method,
                    number(1e3 * median(row["seconds"]), ".1f"),
                    number(one.time(kind, method) if len(row["units"]) == len(row["seconds"]) else None),
                    number(one.over(key, (kind, "flow_matching"))),
                    number(one.share(kind, method), ".0%"),
                    megabytes(row["bytes"]),
                ]
            )
        if "failure" in row:
            failed.append(f"- {kind} {method}: {row['failure']}")
    size = f"{one.found['parameters'] / 1e6:.0f} million parameters, batch {one.found['rows_of_batch']}"
    about = f"{NAMES[one.found['network']]}, {size}, bfloat16; loss and backward pass, without the optimiser."
    return "\n\n".join([about, markdown(header, lines), *(["Not measured:\n\n" + "\n".join(failed)] if failed else [])])


def of_images(found: Result) -> Iterator[str]:
    """Training, and a row for each sampler beside the floor."""
    if not found:
        return
    yield f"Data: {found['data']}, {' x '.join(map(str, found['shape']))}."
    trained = [[row["model"], str(row["steps"]), number(row["seconds"], ".0f")] for row in found["training"]]
    yield markdown(["model", "steps", "s"], trained)
    if found["rows"]:
        lines = [
            [row["model"], f"{row['sampler']}, {row['steps']}", f"{row['distance']:.3f} +- {row['stderr']:.3f}",
             f"{1e6 * row['seconds_per_sample']:.1f}"]
            for row in found["rows"] if "distance" in row
        ]  # fmt: skip
        lines.append(["data against data (floor)", "", f"{found['floor']:.3f} +- {found['floor_stderr']:.3f}", ""])
        yield markdown(["model", "sampler", found["metric"], "µs per sample"], lines)
    if "pictures" in found:
        yield f"No pictures: {found['pictures']}."


def of_processes(found: Result) -> Iterator[str]:
    """A row for each launch."""
    if not found.get("rows"):
        return
    lines = []
    for row in found["rows"]:
        kept = row.get("difference", float("nan")) <= found["bound"]
        outcome = row.get("failure") or ("passed" if kept else "**failed**")
        numbers = [
            number(row.get("seconds"), ".1f"),
            number(row.get("loss"), ".6f"),
            number(row.get("difference"), ".2g"),
        ]
        lines.append([row["name"], outcome, *numbers])
    bound = f"largest difference of a loss (bound {found['bound']:g})"
    yield markdown([found["backend"], "outcome", "s", "last loss", bound], lines)


TABLES = {"checks": of_checks, "steps": of_steps, "images": of_images, "processes": of_processes}
