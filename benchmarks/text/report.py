"""Tables, marks and pictures of `benchmarks.text`, from the cells."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.tables import markdown
from benchmarks.text.models import EULER, FLOOR, JUMPS, MODELS
from benchmarks.text.sets import SETS
from flowmaps.figures.style import figure, light
from flowmaps.figures.words import plus_minus
from flowmaps.files import write_text

Cell = Mapping[str, Any]
COMMAND = "python -m benchmarks.text"
WAYS = {"jumps": "jumps", "euler": "Euler steps", "unmasking": "steps of unmasking", "symbols": "symbol by symbol"}
FLOORS = {"training": "other windows of the training text", "held-out": "the last book, held out"}
MARKS = ((1, 64), (4, 256))
"""Numbers of jumps, and of Euler steps of the same map that they should reach."""
ENTROPY = 0.05
"""Largest relative distance of the entropy of one jump to the entropy of the data."""
MEASURES = {
    "tv": "Total variation of 4-grams to the training text",
    "entropy": "Entropy of the symbols within a sample, nats",
    "valid": "Share of known words",
}


def read(out: Path, name: str) -> dict[str, list[Cell]]:
    """The cells of a set: for each model the ones of all seeds."""
    found: dict[str, list[Cell]] = {}
    for path in sorted((out / name).glob("*.json")):
        cell = json.loads(path.read_text())
        found.setdefault(cell["model"], []).append(cell)
    return {name: found[name] for name in (*MODELS, FLOOR) if name in found}


def of(cells: Sequence[Cell], way: str, calls: int) -> list[Cell]:
    """The rows of a sampler at a number of calls, one for each seed."""
    return [row for cell in cells for row in cell["rows"] if (row["way"], row["calls"]) == (way, calls)]


def value(rows: Sequence[Cell], key: str) -> float | None:
    """Mean of a measure over seeds; None without a row."""
    return mean(row[key]["mean"] for row in rows) if rows else None


def text(rows: Sequence[Cell], key: str) -> str:
    """A measure with its standard error; rows of spaces alone have no words to be valid."""
    if (found := value(rows, key)) is None or not math.isfinite(found):
        return "" if found is None else "no words"
    return plus_minus(found, rows[0][key]["stderr"])


def lines(cells: Mapping[str, list[Cell]], key: str) -> Iterator[list[str]]:
    """The rows of the table of a measure."""
    for model, found in cells.items():
        if model == FLOOR:
            continue
        ways = {row["way"]: None for cell in found for row in cell["rows"]}
        for way in ways:
            counts = {row["calls"] for cell in found for row in cell["rows"] if row["way"] == way}
            shown = [text(of(found, way, calls), key) for calls in columns(cells)]
            if any(shown) and counts:
                yield [f"{MODELS[model].title}, {WAYS[way]}", *shown]


def columns(cells: Mapping[str, list[Cell]]) -> list[int]:
    """All numbers of calls in the cells."""
    return sorted({row["calls"] for found in cells.values() for cell in found for row in cell["rows"]} - {0})


def table(cells: Mapping[str, list[Cell]], key: str) -> str:
    """A measure of every model at every number of calls, with the same measure of held-out text."""
    blank = [""] * (len(columns(cells)) - 1)
    floors = [[f"**{title}**", text(of(cells.get(FLOOR, []), way, 0), key), *blank] for way, title in FLOORS.items()]
    rows = [*lines(cells, key), *floors]
    return f"**{MEASURES[key]}**\n\n" + markdown(["calls", *map(str, columns(cells))], rows)


def table_of_bits(cells: Mapping[str, list[Cell]]) -> str:
    """Bits a character of held-out text, and the steps of training."""
    rows = []
    for model, found in cells.items():
        if model != FLOOR:
            bits = plus_minus(mean(cell["bits"]["mean"] for cell in found), found[0]["bits"]["stderr"])
            kind = "exact" if model == "autoregressive" else "at most"
            rows.append([MODELS[model].title, f"{kind} {bits}", str(found[0]["training"]["steps"])])
    return markdown(["model", "bits a character", "steps of training"], rows)


def marks_of(cells: Mapping[str, list[Cell]]) -> list[list[str]]:
    """The marks of a set: jumps against Euler steps of the same map, for the map that comes nearest to the data."""
    rows = []
    data = value(of(cells.get(FLOOR, []), "training", 0), "entropy")
    for jumps, euler in MARKS:
        ratio = {}
        for model, found in cells.items():
            one, many = value(of(found, "jumps", jumps), "tv"), value(of(found, "euler", euler), "tv")
            if one is not None and many is not None:
                ratio[model] = (one, many)
        title = f"{jumps} jump{'s' * (jumps > 1)} at or below {euler} Euler steps, 4-grams"
        if not ratio:
            rows.append([title, "", "not measured"])
            continue
        best = min(ratio, key=lambda model: ratio[model][0])
        one, many = ratio[best]
        rows.append([title, MODELS[best].title, f"{one:.3f} against {many:.3f}, {said(one <= many)}"])
        entropy = value(of(cells[best], "jumps", jumps), "entropy")
        if jumps == 1 and data is not None and entropy is not None:
            away = abs(entropy / data - 1)
            row = ["entropy of one jump within 5% of the data's", MODELS[best].title]
            rows.append([*row, f"{entropy:.3f} against {data:.3f}, {said(away <= ENTROPY)}"])
    return rows


def said(holds: bool) -> str:
    """The outcome of a mark."""
    return "met" if holds else "missed"


def marks(found: Mapping[str, Mapping[str, list[Cell]]]) -> str:
    """The marks of all sets."""
    rows = [[name, *row] for name, cells in found.items() for row in marks_of(cells)]
    return markdown(["set", "mark", "best map in jumps", "measured"], rows)


def samples(cells: Mapping[str, list[Cell]], count: int = 3) -> str:
    """The first samples of each model, in one jump and in more."""
    rows = []
    for model, found in cells.items():
        for row in found[0]["rows"] if model != FLOOR else []:
            few = row["calls"] in (JUMPS[0], JUMPS[2], EULER[-1]) or row["way"] in ("symbols", "unmasking")
            if few and row["texts"]:
                title = f"{MODELS[model].title}, {row['calls']} {WAYS[row['way']]}"
                rows.append([title, "<br>".join(f"`{one}`" for one in row["texts"][:count])])
    return markdown(["model", "samples"], rows)


MARKERS = ("o", "s", "^")
"""Markers of the picture, after every colour was used once."""


def picture(cells: Mapping[str, list[Cell]], path: Path) -> None:
    """Draw the total variation of 4-grams over the number of calls: jumps solid, other samplers dashed.

    A model has a colour and a marker of its own.
    """
    looks = [(color, marker) for marker in MARKERS for color in light.series]
    with figure(light, 7.2, 4.6, path) as (made, ax):
        for (color, marker), (model, found) in zip(looks, cells.items(), strict=False):
            for way, style in (("jumps", "-"), ("euler", ":"), ("unmasking", "--"), ("symbols", "")):
                points = [(c, value(of(found, way, c), "tv")) for c in columns(cells)]
                known = [point for point in points if point[1] is not None]
                if known and model != FLOOR:
                    label = f"{MODELS[model].title.replace('`', '')}, {WAYS[way]}"
                    ax.plot(*zip(*known, strict=True), marker + style, color=color, label=label, markersize=4.5)
        floor = value(of(cells.get(FLOOR, []), "training", 0), "tv")
        if floor is not None:
            ax.axhline(floor, color=light.muted, linewidth=1, label="text itself")
        ax.set(xscale="log", xlabel="network calls", ylabel="total variation of 4-grams")
        ax.set_xticks(columns(cells), [str(c) for c in columns(cells)])
        ax.minorticks_off()
        made.legend(loc="outside right upper", fontsize=7)


def write(out: Path) -> str:
    """Write the tables and the pictures; return the marks."""
    found = {name: read(out, name) for name in SETS}
    for name, cells in found.items():
        models = [cell for model, one in cells.items() if model != FLOOR for cell in one]
        if not models:
            continue
        parts = [table_of_bits(cells), *(table(cells, key) for key in MEASURES), samples(cells)]
        seconds, seeds = models[0]["training"]["seconds"], len({cell["seed"] for cell in models})
        about = f"{seconds:g} s of training on one core each, {seeds} seed{'s' * (seeds > 1)}.\n\n"
        write_text(out / f"{name}.md", "\n\n".join([*parts, f"{about}{models[0]['machine']}; command: {COMMAND}\n"]))
        picture(cells, out / f"{name}.png")
    write_text(out / "marks.md", marks(found) + "\n")
    return marks(found)
