"""report.html of a comparison: one page that opens anywhere, without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import steps
from ..data import Data
from ..figures import comparison, words
from ..figures.charts import loss_curves
from ..figures.comparison import Document, Entry
from ..figures.ranking import ranking
from ..files import write_text
from ..flow_map import FlowMap
from ..runs.folder import read_config, read_metrics
from ..runs.loading import load
from ..sampling import sample
from . import page
from .sections import SHOWN, half_width, show_images, show_points, start

ROOM = 1.25
"""Width of a cloud of points over that of the data, so that samples beyond it are seen."""
SAME = "All start from the same noise: the same place in each grid is the same sample."
LOSSES = (
    "Each method measures something else, so the height of one curve says nothing about another; and the targets are "
    "noisy, so they level off far above 0. What tells is whether a curve falls, and whether it is calm."
)
COST = (
    "Counted: matrix products of the loss and its backward pass in forward passes of the network, a backward pass "
    "being 2. Own shares: as trained here, where each term sees its share of the batch. Full batch and the post: every "
    "term sees every row. Measured: training steps on this machine, at this size of network and batch; small networks "
    "pay for the number of operations more than for their size."
)


def comparison_report(out: str | Path, document: Document, data: Data) -> Path:
    """Write report.html into the folder of a comparison, whose runs it samples, and return its path."""
    out = Path(out)
    with torch.no_grad():
        html = page.page(f"flowmaps: methods on {data.name}", _parts(out, document, data))
    write_text(out / "report.html", html)
    return out / "report.html"


def _parts(out: Path, document: Document, data: Data) -> Iterator[str]:
    yield page.paragraph(f"flowmaps · {data.name} · {words.count(len(document['methods']), 'method')}", "eyebrow")
    yield f"<h1>{escape(comparison.headline(document))}</h1>"
    yield page.paragraph(comparison.heading(document) + ".")
    yield _ranking(document)
    if data.kind in SHOWN:
        yield from _samples(out, document, data)
    yield _table(document)
    yield _losses(out, document)
    yield _cost(document)
    settings = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    yield page.section("Configuration", page.details("comparison.json", page.code(json.dumps(settings, indent=2))))


def _samples(out: Path, document: Document, data: Data) -> Iterator[str]:
    """The samples of all methods side by side: by one jump, and by four."""
    real = data.held_out(SHOWN[data.kind]).x0
    show = show_images(data) if data.kind == "images" else show_points(ROOM * half_width(real))
    ode = comparison.many_steps(document["reference"])
    beside = [show(real, "real data", "held out, not trained on", "framed")]
    if ode is not None:
        run = document["reference"]["run"]
        x = _drawn(out / run, data, ode, len(real))
        beside.append(show(x, f"reference: {Path(run).name}", _note(ode), "framed"))
    for k, title in ((1, "In one jump"), (4, "In four jumps")):
        found = {name: row for name, e in comparison.evaluated(document).items() if (row := comparison.at(e, k))}
        figures = [
            show(_drawn(out / name, data, row, len(real)), name, _note(row), "framed") for name, row in found.items()
        ]
        note = page.paragraph(SAME, "note") if data.kind == "images" else ""
        yield page.section(title, page.panels([*beside, *figures]), note) if figures else ""


def _note(row: words.Row) -> str:
    return f"{words.name(row)}: {words.pair(row)}"


def _drawn(run: Path, data: Data, row: words.Row, n: int) -> Tensor:
    """Samples of a run in the way of a row of its evaluation."""
    flow: FlowMap = load(run).float()
    noise, label = start(flow, data, n, read_config(run)["training"]["labels"])
    return sample(flow, noise, row["steps"], step=getattr(steps, row["sampler"]), condition=label, seed=0)


def _ranking(document: Document) -> str:
    found = comparison.evaluated(document)
    rows = {name: {k: row for k in comparison.JUMPS if (row := comparison.at(e, k))} for name, e in found.items()}
    evaluation, ode = comparison.any_evaluation(document), comparison.many_steps(document["reference"])
    if evaluation is None or not any(rows.values()):
        return ""
    lines = {} if evaluation["floor"] is None else {"real data": evaluation["floor"]}
    if ode is not None and ode["distance"] is not None:
        lines[f"{words.name(ode)}, {Path(document['reference']['run']).name}"] = ode["distance"]
    alt = "Distance to real data of each method, by number of jumps."
    return page.section(
        "Who comes how close", page.drawing(lambda theme: ranking(rows, lines=lines, theme=theme), alt, kind="strip")
    )


def _table(document: Document) -> str:
    head, rows = comparison.distances(document)
    lines = [("floor" if cells[0].startswith("reference") else "", cells) for cells in rows]
    notes = [page.paragraph(note, "note") for note in comparison.notes(document)[:-1]]
    return page.section("All numbers", page.table(head, lines, kind="dense"), *notes)


def _losses(out: Path, document: Document) -> str:
    """The loss of each method over its own steps."""

    def one(name: str) -> str:
        rows = read_metrics(out / name)
        alt = f"Loss of {name} over {rows[-1]['step']} training steps, one curve for each term."
        caption = f"<b>{escape(name)}</b>{escape(words.count(rows[-1]['step'], 'step'))}"
        return page.drawing(lambda theme: loss_curves(rows, size=(4.6, 3), theme=theme), alt, caption, "framed")

    names = [name for name in document["methods"] if read_metrics(out / name)]
    return page.section("Training", page.paragraph(LOSSES), page.panels(map(one, names), "wide")) if names else ""


def _cost(document: Document) -> str:
    head = ["method", "passes, own shares", "passes, full batch", "the post", "steps", "time per step", "one sample"]
    lines = [("", [name, *_cost_cells(entry)]) for name, entry in document["methods"].items()]
    return page.section("Cost", page.table(head, lines, COST, kind="dense"))


def _cost_cells(entry: Entry) -> list[str]:
    published: Any = entry["published_cost"]
    counted = [f"{entry['shared']:g}", f"{entry['cost']:g}", "" if published is None else f"{published:g}"]
    if "failure" in entry:
        return [*counted, "", "", ""]
    training: Mapping[str, Any] = entry["training"]
    row = comparison.at(entry, 1) or entry["evaluation"]["rows"][0]
    step = words.seconds(training["seconds_per_step"]) if training["seconds_per_step"] else ""
    return [*counted, str(training["step"]), step, words.seconds(row["seconds_per_sample"])]
