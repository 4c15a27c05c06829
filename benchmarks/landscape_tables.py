"""The table and the picture of `benchmarks.landscape`, from its stored results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import flowmaps as fm
from benchmarks.tables import markdown
from flowmaps.figures import words
from flowmaps.figures.pictures import enlarged, mosaic
from flowmaps.figures.plane import dots, frame, plane
from flowmaps.figures.style import figure, light
from flowmaps.files import write_text
from flowmaps.methods import LANDSCAPE, Row

RULES = ("diffusion", "lagrangian", "eulerian", "compositional")
JUMPS, MANY = (1, 2, 4, 8), 100
SHOWN = {"points": 1500, "images": 36}
COLUMNS, PANEL = 8, 1.55
KL = "kl_48"
ONE_JUMP = {"progressive_distillation"}
"""Methods that learn only one jump: the last grid is one step."""
CHANGED = (
    "Settings are the methods' defaults, with three exceptions: ct (a grid that grows to 20 points and an averaging "
    "decay of 0.9, because the run is short), pfmm (five phases) and, on points, pixel_meanflow (its network predicts "
    "the denoised field)."
)

Result = Mapping[str, Any]


def write(data: fm.data.Data, out: Path) -> None:
    """Write DATA.md and DATA.png beside the folder of results."""
    rows = sorted((row for row in LANDSCAPE if (out / f"{row.name}.json").exists()), key=lambda r: RULES.index(r.rule))
    results = {row: json.loads((out / f"{row.name}.json").read_text()) for row in rows}
    teachers = {path.stem: json.loads(path.read_text()) for path in sorted(out.glob("teacher-*.json"))}
    if not any("evaluation" in result for result in results.values()):
        return print(f"{data.name}: no method has a result yet")
    text = f"{table(results)}\n\n{notes(data, results, teachers)}\n"
    write_text(out.with_suffix(".md"), text)
    print(text)
    picture(data, {row: result for row, result in results.items() if "evaluation" in result}, out)


def table(results: Mapping[Row, Result]) -> str:
    """A row for each method, by rule; with a column for the divergence if it is measured."""
    header = ["method", "rule", "learns from", *[f"{n} jump{'s' * (n > 1)}" for n in JUMPS], "above the floor", "KL"]
    header += ["passes", "time of a step", "steps", "CPU s"]
    lines = [cells(row, result) for row, result in results.items()]
    known = [i for i, name in enumerate(header) if name != "KL" or any(line[i] for line in lines)]
    return markdown([header[i] for i in known], [[line[i] for i in known] for line in lines])


def cells(row: Row, result: Result) -> list[str]:
    """The cells of one method."""
    learns = {"distillation": "a teacher", "self-distillation": "itself"}.get(row.learning, "data")
    cost = [number(result.get(key), digits) for key, digits in (("relative", 2), ("steps", 0), ("cpu_seconds", 0))]
    about, cost = [row.name, row.rule, learns], [f"{row.shared:g}", *cost]
    if "evaluation" not in result:
        return [*about, f"failed: {result['failure'][:50]}", *[""] * (len(JUMPS) + 1), *cost]
    found = result["evaluation"]
    by_steps = {measured["steps"]: measured for measured in found["rows"]}
    made_for = by_steps[row.few_step]
    noise = math.hypot(made_for["stderr"], found["floor_stderr"])
    above = plus_minus(made_for["distance"] - found["floor"], noise)
    kl = plus_minus(made_for.get(KL), made_for.get(f"{KL}_stderr"))
    return [*about, *(distance(row, n, by_steps.get(n)) for n in JUMPS), above, kl, *cost]


def distance(row: Row, n: int, measured: Result | None) -> str:
    """A distance with its standard error, in parentheses for a number of jumps outside of the method's design."""
    if measured is None:
        return "-"
    made_for = n == row.few_step if row.name in ONE_JUMP else n >= row.few_step
    text = plus_minus(measured["distance"], measured["stderr"])
    return text if made_for else f"({text})"


def plus_minus(value: float | None, error: float | None) -> str:
    """A value with its error, rounded to the significant digits."""
    return "" if value is None else words.plus_minus(value, error)


def number(value: float | None, digits: int) -> str:
    """A number with this many digits; empty for None."""
    return "" if value is None else f"{value:.{digits}f}"


def notes(data: fm.data.Data, results: Mapping[Row, Result], teachers: Mapping[str, Result]) -> str:
    """Notes below the table: the measures, the floor, the reference, the machine."""
    some = next(result for result in results.values() if "evaluation" in result)
    found, last = some["evaluation"], max(results.values(), key=lambda result: result["machine"])
    lines = [
        f"Distance: {found['metric']}; mean and standard error over {found['draws']} draws of {found['samples']} "
        f"samples. The floor is data against data: {plus_minus(found['floor'], found['floor_stderr'])}.",
        "Flow matching uses Euler steps, maps to t = 0 alone use restarts after the first jump, and maps from s = 1 "
        "alone have one jump. In parentheses: numbers of jumps that the method is not designed for. The distance above "
        "the floor is for the smallest number of jumps that it is designed for.",
        *divergence(found),
        CHANGED,
        "Passes: matrix products of a step with the method's own shares of the batch, in units of a forward pass.",
        f"Time of a step: in units of a step of flow matching ({1e3 * some['unit']:.2f} ms), processor time in turns.",
        *many_steps(data, results, teachers),
    ]
    command = f"python -m benchmarks.landscape --only {data.name} --seconds {some['budget']:g}"
    return "\n".join(f"- {line}" for line in lines) + f"\n\n{last['machine']}; command: {command}"


def divergence(found: Mapping[str, Any]) -> Iterator[str]:
    """A note on the column of the divergence, if there is one."""
    if KL in found["measures"]:
        floor = plus_minus(found[f"{KL}_floor"], found[f"{KL}_floor_stderr"])
        yield f"KL: for the same number of jumps; {floor} for data. {found['measures'][KL]}."


def many_steps(data: fm.data.Data, results: Mapping[Row, Result], teachers: Mapping[str, Result]) -> Iterator[str]:
    """The reference, and the teachers."""
    for row, result in results.items():
        if row.rule == "diffusion" and "evaluation" in result:
            yield f"Reference, {MANY} Euler steps of flow matching: {by_many(result)}."
    if data.exact is not None:
        yield "The teacher is the exact velocity of the data."
    for name, result in teachers.items():
        path = name.removeprefix("teacher-")
        yield (
            f"The teacher on the {path} path is flow matching after {result['steps']} steps, "
            f"{result['cpu_seconds']:.0f} CPU s: {by_many(result)} by {MANY} Euler steps."
        )


def by_many(result: Result) -> str:
    """Distance and standard error by many Euler steps."""
    row = next(row for row in result["evaluation"]["rows"] if row["steps"] == MANY)
    return plus_minus(row["distance"], row["stderr"])


def store(target: Path, x: Tensor, kind: str) -> None:
    """Samples in few bytes: images as grey levels of 8 bits, points in half precision."""
    small = (fm.evaluate.to_levels(x, 256) * 127.5 + 127.5).round().byte() if kind == "images" else x.half()
    buffer = BytesIO()
    np.savez_compressed(buffer, x=small.numpy())
    target.write_bytes(buffer.getvalue())


def stored(source: Path) -> Tensor:
    """Read the samples written by `store`."""
    x = torch.from_numpy(np.load(source)["x"])
    return x / 127.5 - 1 if x.dtype == torch.uint8 else x.float()


def picture(data: fm.data.Data, results: Mapping[Row, Result], out: Path) -> None:
    """Draw data, the reference and the samples of every method side by side, with their distances."""
    real = data.held_out(SHOWN[data.kind]).x0
    panels = [("data", real)]
    for row, result in results.items():
        steps = MANY if row.rule == "diffusion" else row.few_step
        measured = next(found for found in result["evaluation"]["rows"] if found["steps"] == steps)
        after = "" if steps == 1 else f" ({steps})"
        value = plus_minus(measured["distance"], measured["stderr"])
        panels.append((f"{row.name}{after}\n{value}", stored(out / f"{row.name}.npz")))
    side_by_side(data, panels, out.with_suffix(".png"))


def side_by_side(data: fm.data.Data, panels: Sequence[tuple[str, Tensor]], target: Path) -> None:
    """Draw samples with their titles in rows of panels; the first panel has real data, which set the frame."""
    down = -(-len(panels) // COLUMNS)
    with figure(light, COLUMNS * PANEL, down * (PANEL + 0.4), nrows=down, ncols=COLUMNS, squeeze=False) as (made, axes):
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, (title, x) in zip(axes.flat, panels, strict=False):
            axis.set_title(title, fontsize=7, loc="center")
            panel(axis, data, x, panels[0][1])
        save(made, target)


def panel(axis: Any, data: fm.data.Data, x: Tensor, real: Tensor) -> None:
    """Draw one cloud of points, in the frame of real ones, one grid of images, or series as lines."""
    if data.kind == "vectors":
        axis.plot(x.T.numpy(), linewidth=0.6)
    elif data.kind == "images":
        axis.imshow(mosaic(enlarged(data.to_pixels(x), 24)).numpy())
    else:
        extent, middle = frame(real)
        plane(axis, extent, middle)
        dots(axis, x[((x.cpu() - torch.tensor(middle)).abs() < extent).all(1)], light.series[0])


def save(made: Any, target: Path) -> None:
    """Write a PNG with 256 colours, half of the size."""
    from PIL import Image

    buffer = BytesIO()
    made.savefig(buffer, format="png", dpi=130)
    Image.open(buffer).convert("RGB").quantize(256).save(target, optimize=True)
