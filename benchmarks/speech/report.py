"""The tables and the picture of `benchmarks.speech`, from its cells."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.speech.heads import HEADS
from benchmarks.speech.sets import SETS
from benchmarks.tables import markdown
from flowmaps.figures.words import plus_minus
from flowmaps.files import write_text

FASTER, POINTS = 5.0, 0.03
"""Marks: the head is so many times faster in one jump, and digits are recognised within so many points."""
ONE, MANY = "1 jump", "16 Euler steps"


def write(out: Path) -> str:
    """Write SET.md and marks.md; return all of it as a page."""
    found = {name: cells for name in SETS if (cells := read(out, name))}
    for name, cells in found.items():
        write_text(out / f"{name}.md", f"{table(name, cells, bottom(out, name))}\n")
    if not found:
        return "no results"
    write_text(out / "marks.md", f"{marks(found, out)}\n")
    pages = [f"## {SETS[name].title}\n\n{(out / f'{name}.md').read_text()}" for name in found]
    return "\n".join([*pages, (out / "marks.md").read_text()])


def read(out: Path, name: str) -> list[Mapping[str, Any]]:
    """The cells of a set."""
    paths = sorted((out / name).glob("*-[0-9]*.json"))
    cells = [json.loads(path.read_text()) for path in paths]
    order = list(HEADS)
    return sorted(cells, key=lambda cell: (order.index(cell["head"]), cell["seed"]))


def bottom(out: Path, name: str) -> Mapping[str, Any]:
    """The floors of a set."""
    return json.loads((out / name / "floor.json").read_text())


def table(name: str, cells: Sequence[Mapping[str, Any]], floor: Mapping[str, Any]) -> str:
    """A row for each sampler of each head."""
    digits = name == "digits"
    header = ["head", "sampler", "distance of (previous, next)", "energy score", *["recognised"] * digits]
    header += ["head, ms a frame", "all, s for a second of sound", "steps of training"]
    real = ["recordings (floor)", "", estimate(floor["distances"]), ""]
    real += [*([percent(floor["recognised"])] if digits else []), "", "", ""]
    rows = [real]
    for cell in cells:
        for sampler, value in cell["samplers"].items():
            row = [HEADS[cell["head"]].title, sampler, estimate(value["distances"]), plus_minus(*value["score"])]
            row += [percent(value["recognised"])] if digits else []
            row += [f"{1e3 * value['head_seconds']:.2f}", f"{value['seconds']:.3f}", str(cell["training"]["steps"])]
            rows.append(row)
    first = cells[0]
    note = (
        f"{first['training']['seconds']:g} s of processor time for each training, {len({c['seed'] for c in cells})} "
        f"seed; {first['machine']}; command: python -m benchmarks.speech"
    )
    return f"{markdown(header, rows)}\n\n{note}"


def estimate(values: Sequence[float]) -> str:
    """A mean with its standard error."""
    return plus_minus(mean(values), spread(values))


def spread(values: Sequence[float]) -> float:
    """The standard error of a mean."""
    return stdev(values) / math.sqrt(len(values))


def percent(share: Sequence[float]) -> str:
    """A share with its standard error, in per cent."""
    return f"{100 * share[0]:.1f} ± {100 * share[1]:.1f} %"


def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """The mean difference of paired values, and its standard error."""
    gaps = [a - b for a, b in zip(first, second, strict=True)]
    return mean(gaps), spread(gaps)


def marks(found: Mapping[str, Sequence[Mapping[str, Any]]], out: Path) -> str:
    """The marks of each flow-map head and their values, of the first seed."""
    rows = []
    for name, cell in ((name, cell) for name, cells in found.items() for cell in cells if not cell["seed"]):
        if MANY not in cell["samplers"]:
            continue
        title_of = f"{SETS[name].title}, {HEADS[cell['head']].title}"
        one, many = (cell["samplers"][sampler] for sampler in (ONE, MANY))
        gaps = {"distance": difference(one["distances"], many["distances"]), "energy score": one["score_beyond_last"]}
        both = estimate(one["distances"]), estimate(many["distances"])
        apart = mean(one["distances"]) - mean(many["distances"])
        said = f"{' and '.join(both)}, {'met' if apart <= spread(many['distances']) else 'missed'}"
        rows.append([title_of, "distance of one jump within the standard error of 16 Euler steps", said])
        for title, (gap, error) in gaps.items():
            said = f"{plus_minus(gap, error)}, {'met' if gap <= error else 'missed'}"
            rows.append([title_of, f"{title}: paired difference to 16 Euler steps within its standard error", said])
        ratio = many["head_seconds"] / one["head_seconds"]
        met = "met" if ratio >= FASTER else "missed"
        rows.append([title_of, f"head at least {FASTER:g} times faster", f"{ratio:.1f} times, {met}"])
        if "recognised" in one:
            (share, error), (usual, other) = one["recognised"], many["recognised"]
            gap, both = usual - share, math.hypot(error, other)
            said = f"{100 * share:.1f} % and {100 * usual:.1f} %, {'met' if gap <= both else 'missed'}"
            rows.append([title_of, "one jump recognised as often as 16 Euler steps", said])
            real = bottom(out, name)["recognised"][0]
            said = f"{100 * share:.1f} % and {100 * real:.1f} %, {'met' if real - share <= POINTS else 'missed'}"
            rows.append([title_of, "recognised within 3 points of re-synthesised recordings", said])
    return markdown(["set and head", "mark", "measured"], rows)
