"""The tables and pictures of `benchmarks.alternatives`, from its cells and those of `benchmarks.one_step`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.alternatives.cells import SETS
from benchmarks.alternatives.methods import ENTRIES
from benchmarks.landscape_tables import SHOWN, side_by_side, stored
from benchmarks.one_step.cells import REFERENCE, data_of
from benchmarks.one_step.measured import MANY, Cell, Measured, Sampler
from benchmarks.one_step.methods import EULER, JUMPS
from benchmarks.one_step.sets import BESIDE, MARKED
from benchmarks.tables import markdown
from flowmaps.figures.words import plus_minus
from flowmaps.files import write_text

SHORT = {"reference": "many steps", "scratch": "paths", "distillation": "paths from the reference"}
"""Words for the groups of `benchmarks.one_step`."""
STEPS = {"euler": "Euler", "ancestral": "ancestral"}
"""Words for the steps of an ODE."""
MODES = {"reached": "modes reached", "width": "width of modes", "on_board": "on the board"}
"""Headings of the measures of modes."""


def write(out: Path, paths: Path) -> str:
    """Write SET.md and SET.png for each data set with a result; return all of it as a page."""
    parts = {}
    for name in SETS:
        measured = read(name, out, paths)
        if measured is not None:
            parts[name] = f"{table(measured)}\n\n{notes(measured)}"
            picture(measured, out, paths)
    for name, text in parts.items():
        write_text(out / f"{name}.md", f"{text}\n")
    return "\n\n".join(f"## {name}\n\n{text}" for name, text in parts.items())


def read(name: str, out: Path, paths: Path) -> Measured | None:
    """The cells of a data set, of both benchmarks; None without one that was measured."""
    files = [path for folder in (out, paths) for path in sorted((folder / name).glob("*.json"))]
    cells = [cell for path in files if (cell := json.loads(path.read_text()))["method"] in ENTRIES]
    by = {(cell["method"], cell["seed"]): cell for cell in cells}
    good = {key: cell for key, cell in by.items() if "evaluation" in cell}
    return Measured(name, good, {key: cell["failure"] for key, cell in by.items() if key not in good}) if good else None


def table(measured: Measured) -> str:
    """A row for each method, the nearest to the data first: its distances, its modes and its cost."""
    marked = list(MARKED[measured.kind].items())[:1]
    others = {**MARKED[measured.kind], **BESIDE[measured.kind]}
    beside = {key: others[key] for key in ("distance", "neighbour_ratio") if key in others and key != marked[0][0]}
    key, title = marked[0]
    header = ["method", "group", *(f"{title}, {n} jump{'s' * (n > 1)}" for n in JUMPS), *beside.values()]
    floor = [plus_minus(*measured.floor(key)), "", "", *(plus_minus(*measured.floor(one)) for one in beside)]
    floor += [f"{value:.2f}" for value in modes_floor(measured).values()]
    header += [MODES[one] for one in modes_floor(measured)]
    header += ["passes of a step", "ms of a step", "MB kept", "steps of training"]
    lines = [["data against data (floor)", "", *floor]]
    lines += [reference_line(measured, key, list(beside), len(header))] if measured.seeds(REFERENCE) else []
    names = sorted((name for name in ENTRIES if name != REFERENCE), key=lambda name: first_value(measured, name, key))
    lines += [line(measured, name, key, list(beside)) for name in names]
    return markdown(header, [[*one, *[""] * (len(header) - len(one))] for one in lines])


def first_value(measured: Measured, name: str, key: str) -> float:
    """The distance that a method is ordered by; infinite without a cell."""
    if not measured.seeds(name):
        return math.inf
    value = measured.value(name, first_sampler(cell_of(measured, name)), key)
    return value.value if value else math.inf


def modes_floor(measured: Measured) -> Mapping[str, float]:
    """The measures of modes of fresh data; none without known modes."""
    evaluations = [cell["evaluation"] for cell in measured.cells.values()]
    return next((found["modes_floor"] for found in evaluations if "modes_floor" in found), {})


def reference_line(measured: Measured, key: str, beside: Sequence[str], width: int) -> list[str]:
    """The row of the reference by its Euler steps."""
    sampler = MANY[0]
    values = [measured.value(REFERENCE, sampler, one) for one in (key, *beside)]
    first, *rest = [plus_minus(*value) if value else "" for value in values]
    steps = cell_of(measured, REFERENCE)["training"]["steps"]
    filled = [f"{REFERENCE}, {EULER} Euler steps", SHORT["reference"], first, "", "", *rest]
    return [*filled, *[""] * (width - len(filled) - 1), str(steps)]


def line(measured: Measured, name: str, key: str, beside: Sequence[str]) -> list[str]:
    """The row of a method; "not measured" without a cell."""
    word = SHORT.get(ENTRIES[name].group, ENTRIES[name].group)
    if not measured.seeds(name):
        failed = [reason for (one, _), reason in measured.failures.items() if one == name]
        return [name, word, f"failed: {failed[0][:60]}" if failed else "not measured"]
    cell, method = cell_of(measured, name), name
    taken = {row["steps"]: (row["sampler"], row["steps"]) for row in cell["evaluation"]["rows"]}
    shown = first_sampler(cell)
    name = name if shown[1] in JUMPS else f"{name}, {shown[1]} {STEPS[shown[0]]} steps"
    by_jumps = [plus_minus(*measured.value(method, taken[n], key)) if n in taken else "" for n in JUMPS]
    by_jumps[0] = by_jumps[0] or plus_minus(*measured.value(method, shown, key))
    others = [plus_minus(*measured.value(method, shown, one)) for one in beside]
    return [name, word, *by_jumps, *others, *modes_of(measured, cell), *cost_of(cell)]


def modes_of(measured: Measured, cell: Cell) -> list[str]:
    """The measures of modes by one jump."""
    found = cell["evaluation"].get("modes", {}).get("1", {})
    return [f"{found[one]:.2f}" for one in found] or [""] * len(modes_floor(measured))


def cost_of(cell: Cell) -> list[str]:
    """Passes, time and bytes of a step, and the number of steps."""
    training, cost = cell["training"], cell["evaluation"].get("cost")
    kept = cost and cost["kept_bytes"]
    counted = [f"{cost['passes']:.1f}" if cost else "", f"{kept / 1e6:.1f}" if kept else ""]
    each = 1e3 * training["seconds"] / training["steps"]
    return [counted[0], f"{each:.1f}", counted[1], str(training["steps"])]


def first_sampler(cell: Cell) -> Sampler:
    """The sampler of the first row of a cell: one jump, or the many steps that its map is made for."""
    row = cell["evaluation"]["rows"][0]
    return row["sampler"], row["steps"]


def cell_of(measured: Measured, name: str) -> Cell:
    """The cell of the first seed of a method."""
    return measured.cells[name, measured.seeds(name)[0]]


def notes(measured: Measured) -> str:
    """Notes below the table: the measures, the training, the machine."""
    last = max(measured.cells.values(), key=lambda cell: cell["machine"])
    found, seeds = last["evaluation"], sorted({seed for _, seed in measured.cells})
    titles = {**MARKED[measured.kind], **BESIDE[measured.kind]}
    wanted = [*list(MARKED[measured.kind])[:1], "neighbour_ratio", "distance"]
    lines = [f"{titles[key]}: {found['measures'][key]}." for key in dict.fromkeys(wanted) if key in titles]
    lines.append(
        f"Each training took {last['budget']:g} s of processor time. Methods that learn from the reference start from "
        "its weights, so its training comes before theirs. Passes of a step are matrix products in units of forward "
        "passes, for turns the mean of a cycle. Kept are the bytes between the loss and its backward pass. Times are "
        "from a machine with other load."
    )
    command = f"python -m benchmarks.alternatives --sets {measured.name} --seeds {','.join(map(str, seeds))}"
    return "\n".join(f"- {line}" for line in lines) + f"\n\n{last['machine']}; command: {command}"


def picture(measured: Measured, out: Path, paths: Path) -> None:
    """Draw data and one-jump samples of every method side by side, with their distances."""
    key = next(iter(MARKED[measured.kind]))
    panels = []
    for name in ENTRIES:
        file = next(
            (f for f in (folder / measured.name / f"{name}.npz" for folder in (out, paths)) if f.exists()), None
        )
        seen = measured.seeds(name) and file is not None
        value = measured.value(name, first_sampler(cell_of(measured, name)), key) if seen else None
        if file is not None and value is not None:
            panels.append((f"{name}\n{plus_minus(*value)}", stored(file)))
    if not panels:
        return
    data = data_of(measured.name)
    panels.insert(0, ("data", data.held_out(SHOWN[data.kind]).x0))
    side_by_side(data, panels, out / f"{measured.name}.png")
