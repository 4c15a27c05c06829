"""The marks, tables and pictures of `benchmarks.one_step`, from its cells."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean

from benchmarks.landscape_tables import SHOWN, side_by_side, stored
from benchmarks.one_step import ablation
from benchmarks.one_step.cells import COUPLINGS, EULER, HEUN, LINES, REFERENCE, data_of
from benchmarks.one_step.measured import MANY, RESOLVED, Measured, Sampler, command, read
from benchmarks.one_step.methods import GROUPS, METHODS
from benchmarks.one_step.sets import MARKED, SETS
from benchmarks.tables import markdown
from flowmaps.evaluate import Estimate
from flowmaps.figures.words import plus_minus
from flowmaps.files import write_text

BOUNDS = {"scratch": 1.0, "distillation": 0.95}
"""The marks: one jump of the best method of a group over the Euler steps of the reference, at most."""
NOT_MEASURED = "not measured"


def write(out: Path) -> str:
    """Write marks.md, and SET.md and SET.png for each data set with a result; return all of it as a page."""
    found = {name: read(out, name) for name in SETS}
    parts = {"marks": marks(found)}
    for name, measured in found.items():
        if measured is not None:
            parts[name] = f"{table(measured)}\n\n{notes(measured, out)}"
            picture(measured, out)
    ablated = {name: one for name, one in found.items() if one is not None and ablation.is_measured(one)}
    if ablated:
        parts["ablation"] = f"{ablation.table(ablated)}\n\n{ablation.notes(ablated, out)}"
        ablation.picture(ablated, out)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in parts.items():
        write_text(out / f"{name}.md", f"{text}\n")
    return "\n\n".join(f"## {name}\n\n{text}" for name, text in parts.items())


def marks(found: Mapping[str, Measured | None]) -> str:
    """A row for each mark of each data set: the best method, its ratios, and the outcome."""
    lines = []
    for name, measured in found.items():
        for group, bound in BOUNDS.items():
            lines.append([name, f"{group}, at most {bound:.2f}", *mark(measured, group, bound)])
    header = ["set", "mark", "best method", "ratio", "outcome", "methods measured", "seeds"]
    return markdown(header, lines)


def mark(measured: Measured | None, group: str, bound: float) -> list[str]:
    """The cells of one mark: met, missed, at the floor, or not measured."""
    best = measured and measured.best(group)
    total = len(GROUPS[group])
    if not measured or not best:
        return ["", "", NOT_MEASURED, f"0 of {total}", "0"]
    ratios, outcomes = [], []
    for key, title in MARKED[measured.kind].items():
        pair = measured.pair(best, key, ("euler", EULER))
        assert pair is not None, "the best method has a reference"
        ratios.append(f"{title} {ratio(*pair)}")
        outcomes.append(outcome(*pair, measured.floor(key), bound))
    count = sum(bool(measured.seeds(name)) for name in GROUPS[group])
    worst = next(word for word in ("missed", "at the floor", "met") if word in outcomes)
    seeds = len([seed for seed in measured.seeds(best) if (REFERENCE, seed) in measured.cells])
    return [best, ", ".join(ratios), worst, f"{count} of {total}", str(seeds)]


def outcome(one: Estimate, many: Estimate, floor: Estimate, bound: float) -> str:
    """Whether a distance is at most `bound` times another; if not, whether it differs from the one of real data."""
    if one.value <= bound * many.value:
        return "met"
    error = math.hypot(one.stderr, floor.stderr)
    return "at the floor" if one.value - floor.value <= RESOLVED * error else "missed"


def ratio(one: Estimate, many: Estimate) -> str:
    """The ratio of two distances; "-" if the second one does not differ from 0."""
    return f"{one.value / many.value:.2f}" if many.value > RESOLVED * many.stderr else "-"


def table(measured: Measured) -> str:
    """Two rows for the reference, one for one jump of each method, and the floor."""
    titles = measured.measures
    against = [f"{title} / {EULER} Euler" for title in MARKED[measured.kind].values()]
    against += [f"{title} / {HEUN} Heun" for title in MARKED[measured.kind].values()]
    lines = [line_of(measured, f"{REFERENCE}, {n} {s.capitalize()} steps", REFERENCE, (s, n)) for s, n in MANY]
    lines += [line_of(measured, name, name, ("jump", 1)) for group in BOUNDS for name in GROUPS[group]]
    floors = [plus_minus(*measured.floor(key)) for key in titles]
    lines.append(["data against data (floor)", "", *floors, *[""] * (len(against) + 2)])
    return markdown(["one jump", "group", *titles.values(), *against, "seeds", "steps of training"], lines)


def line_of(measured: Measured, title: str, method: str, sampler: Sampler) -> list[str]:
    """The row of one sampler; "not measured" without a cell."""
    keys, marked = list(measured.measures), list(MARKED[measured.kind])
    group, seeds = METHODS[method].group, measured.seeds(method)
    failed = [reason for (name, _), reason in measured.failures.items() if name == method]
    if not seeds:
        word = f"failed: {failed[0][:60]}" if failed else NOT_MEASURED
        return [title, group, word, *[""] * (len(keys) + len(MANY) * len(marked) + 1)]
    values = [value for key in keys if (value := measured.value(method, sampler, key))]
    pairs = [measured.pair(method, key, many) if method != REFERENCE else None for many in MANY for key in marked]
    ratios = ["" if pair is None else ratio(*pair) for pair in pairs]
    steps = mean(measured.cells[method, seed]["training"]["steps"] for seed in seeds)
    count = f"{len(seeds)}" + (f", {len(failed)} failed" if failed else "")
    return [title, group, *(plus_minus(*value) for value in values), *ratios, count, f"{steps:.0f}"]


def notes(measured: Measured, out: Path) -> str:
    """Notes below the table: the measures, the training, the machine."""
    last = max(measured.cells.values(), key=lambda cell: cell["machine"])
    found, budget = last["evaluation"], last["budget"]
    classifier = found.get("classifier")
    lines = [
        *(f"{title}: {found['measures'][key]}." for key, title in measured.measures.items()),
        f"Distances over {found['draws']} draws of {found['samples']} samples. With several seeds: means, with the "
        "standard error of their spread. With one seed: the standard error of the measurement.",
        f"Each training took {budget:g} s of processor time. Distillations start from the weights of the reference and "
        f"learn from it, so {budget:g} s come before theirs. The {COUPLINGS['n']} couplings of rectified_meanflow are "
        "within its own time.",
    ]
    if classifier:
        lines.append(
            f"The classifier is right on {classifier['accuracy']:.0%} of held-out rows; the commonest class has "
            f"{classifier['commonest']:.0%}."
        )
    return "\n".join(f"- {line}" for line in lines) + f"\n\n{last['machine']}; command: {command(measured, out)}"


def picture(measured: Measured, out: Path) -> None:
    """Draw data and the stored samples of every method side by side, with their distances."""
    names = [name for name in METHODS if shown(measured, name, out)]
    if not names:
        return
    data = data_of(measured.name)
    real = data.held_out(SHOWN.get(data.kind, LINES)).x0
    panels = [("data", real)] + [(title, stored(source)) for title, source in titled(measured, names, out)]
    side_by_side(data, panels, out / f"{measured.name}.png")


def shown(measured: Measured, name: str, out: Path) -> bool:
    """Whether a method is in the picture."""
    group, stored = METHODS[name].group, (out / measured.name / f"{name}.npz").exists()
    return group in ("reference", *BOUNDS) and stored and bool(measured.seeds(name))


def titled(measured: Measured, names: Sequence[str], out: Path) -> Iterator[tuple[str, Path]]:
    """The titles and the files of the samples, which have the first seed."""
    key = next(iter(MARKED[measured.kind]))
    for name in names:
        sampler = MANY[0] if name == REFERENCE else ("jump", 1)
        value = measured.value(name, sampler, key)
        assert value is not None, "only measured methods have samples"
        yield f"{name}\n{plus_minus(*value)}", out / measured.name / f"{name}.npz"
