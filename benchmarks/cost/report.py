"""Tables and pictures from the results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks.cost import pictures
from benchmarks.cost.marks import Found, Mark, Steps, marks
from benchmarks.cost.networks import NAMES
from benchmarks.cost.roofline import peak
from benchmarks.cost.sampling import speed_up
from benchmarks.tables import markdown
from flowmaps.files import write_text
from flowmaps.methods import LANDSCAPE

SHARED = {row.name: row.shared for row in LANDSCAPE}


def write(out: Path) -> None:
    """Write every table and picture with results in `out`, and print the targets."""
    rates, grown, streamed = (stored(out, name) for name in ("roofline", "growth", "streaming"))
    all_steps = [Steps(found, peak(rates) if rates else None) for found in each(out, "steps")]
    sampled = list(each(out, "sampling"))
    signed = [found["measured"] for found in (*(s.found for s in all_steps), *sampled, rates, grown, streamed) if found]
    under = "\n\n".join(["", *dict.fromkeys(signed)]) + "\n"
    for steps in all_steps:
        keep(out / f"steps-{steps.found['network']}.md", of_steps(steps) + under)
        keep(out / f"beside-{steps.found['network']}.md", beside(steps) + under)
    if rates:
        keep(out / "roofline.md", of_rates(rates) + under)
    if sampled:
        keep(out / "sampling.md", "\n\n".join(map(of_sampling, sampled)) + under)
        pictures.throughput(sampled, out / "sampling.png")
    if grown:
        keep(out / "growth.md", of_growth(grown) + under)
        pictures.growth(grown, out / "growth.png")
    if streamed:
        keep(out / "streaming.md", of_streaming(streamed) + under)
    found = list(marks(all_steps, sampled, streamed))
    text = of_marks(found) + under
    keep(out / "marks.md", text)
    print(text)


def stored(out: Path, name: str) -> Found | None:
    """Read a result; None if the part was not measured."""
    path = out / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def each(out: Path, part: str) -> Iterator[Found]:
    """Yield the results of a part on all networks."""
    for name in NAMES:
        if found := stored(out, f"{part}-{name}"):
            yield found


def keep(path: Path, text: str) -> None:
    """Write a table."""
    write_text(path, text)


def number(value: float | None, form: str = ".2f") -> str:
    """Format a number; empty for None."""
    return "" if value is None else format(value, form)


def megabytes(count: float | None) -> str:
    """Format bytes as megabytes; empty for None."""
    return "" if count is None else f"{count / 2**20:.1f}"


def of_marks(found: Iterable[Mark]) -> str:
    """A row for each target on each network."""
    header = ["target", "network", "bound", "worst", "of", "", "missed by", "limit"]
    lines = []
    for mark in found:
        missed = ", ".join(f"{name} {mark.values[name]:.2f}" for name in mark.missed)
        bound = f"{'>=' if mark.least else '<='} {mark.bound:g}"
        met = "missed" if mark.missed else "met"
        value = number(mark.values[mark.worst])
        lines.append([mark.name, mark.where, bound, value, mark.worst, met, missed, mark.reason if mark.missed else ""])
    return markdown(header, lines)


def of_steps(steps: Steps) -> str:
    """A row for each method: counted cost, time and memory."""
    header = ["method", "landscape", "counted", "eager", "over counted", "over flow matching", "share of peak"]
    header += ["MB", "memory over flow matching"]
    header += ["compiled", "over counted", "over flow matching", "share of peak", "MB", "memory over flow matching"]
    lines = []
    for method in steps.methods("eager"):
        line = [method, number(SHARED[method], "g"), number(steps.counted(method))]
        for kind in ("eager", "compiled"):
            row = steps.rows.get((kind, method))
            line += [
                number(steps.time(kind, method)),
                number(steps.excess(kind, method)),
                number(steps.over((kind, method), (kind, "flow_matching"))),
                number(steps.share(kind, method), ".0%"),
                megabytes(row and row["bytes"]),
                number(steps.memory(kind, method)),
            ]
        lines.append(line)
    failed = [f"{kind} {method} did not run: {why}" for (kind, method), why in steps.failures().items()]
    about = (
        f"{steps.name}, {steps.found['parameters'] / 1e6:.1f} million parameters, batch "
        f"{steps.found['rows_of_batch']}; a forward pass takes {steps.found['forward_flops'] / 1e9:.2f} GFLOP and "
        f"{megabytes(steps.found['forward_bytes'])} MB. "
        "Costs and times are in forward passes; compiled steps are compared with the compiled forward pass."
    )
    return "\n\n".join([about, markdown(header, lines), *failed])


def beside(steps: Steps) -> str:
    """Milliseconds and megabytes of the library's step, the plain step and the step in JAX."""
    kinds = ("eager", "compiled", "plain", "compiled plain", "jax")
    header = ["method", *[f"{kind}, ms" for kind in kinds], "eager over plain", "compiled over JAX"]
    header += [f"{kind}, MB" for kind in kinds]
    lines = []
    for method in dict.fromkeys([*steps.methods("plain"), *steps.methods("compiled"), *steps.methods("jax")]):
        rows = [steps.rows.get((kind, method)) for kind in kinds]
        lines.append(
            [
                method,
                *[number(1e3 * median(row["seconds"]), ".1f") if row else "" for row in rows],
                number(steps.over(("eager", method), ("plain", method))),
                number(steps.over(("compiled", method), ("jax", method))),
                *[megabytes(row and row["bytes"]) for row in rows],
            ]
        )
    return f"{steps.name}, milliseconds and megabytes of a step.\n\n{markdown(header, lines)}"


def of_rates(found: Found) -> str:
    """GFLOP/s of square matrix products."""
    sizes = list(next(iter(found["rates"].values())))
    lines = [[kind, *[f"{rates[size] / 1e9:.0f}" for size in sizes]] for kind, rates in found["rates"].items()]
    return markdown(["GFLOP/s", *[f"{size} x {size}" for size in sizes]], lines)


def of_sampling(found: Found) -> str:
    """Milliseconds of a batch, and the speed-up of one jump."""
    lines = []
    for batch, times in found["batches"].items():
        middle = {steps: median(values) for steps, values in times.items()}
        speed = [speed_up(times, n) if n in times else None for n in ("10", "100")]
        lines.append(
            [
                batch,
                *[number(1e3 * middle[n], ".2f") if n in middle else "" for n in ("1", "10", "100")],
                *[number(value, ".1f") for value in speed],
            ]
        )
    header = ["rows", "1 jump, ms", "10 steps, ms", "100 steps, ms", "1 against 10", "1 against 100"]
    return f"{NAMES[found['network']]}\n\n{markdown(header, lines)}"


def of_growth(found: Found) -> str:
    """Flow matching along each axis, and the ratios of other methods to it."""
    lines = []
    for axis, points in found["axes"].items():
        for value, methods in points.items():
            first = methods["flow_matching"]
            name, shown = ("tokens", str(found["tokens"][value])) if axis == "side" else (axis, value)
            others = [f"{m['seconds'] / first['seconds']:.2f}" for k, m in methods.items() if k != "flow_matching"]
            lines.append(
                [f"{name} {shown}", f"{1e3 * first['seconds']:.1f}", megabytes(first["bytes"]), *others]
                + [f"{m['bytes'] / first['bytes']:.2f}" for k, m in methods.items() if k != "flow_matching"]
            )
    names: Sequence[str] = [name for name in next(iter(found["axes"]["batch"].values())) if name != "flow_matching"]
    header = ["DiT", "flow matching, ms", "MB", *names, *[f"{name}, memory" for name in names]]
    return markdown(header, lines)


def of_streaming(found: Found) -> str:
    """Memory of a process besides the network, for a data set on disk and in memory."""
    lines = [
        [f"{size} MB", *[cell for at in (sizes["disk"], sizes["memory"]) for cell in cells(at)]]
        for size, sizes in found["megabytes"].items()
    ]
    return markdown(["data set", "on disk, MB", "ms per step", "in memory, MB", "ms per step"], lines)


def cells(found: Found) -> list[str]:
    """Cells with memory and time of one run."""
    return [megabytes(found["bytes"]), f"{1e3 * found['seconds']:.1f}"]
