"""`flowmaps compare`: several methods on the same network, data and length; one table and one page.

OUT/comparison.json   what all of them share; another configuration is refused
OUT/METHOD/           a run folder each, with its evaluation.json
OUT/teacher/          the diffusion model that distillation methods learn from, where none is given
OUT/table.md, table.json, report.html

What is there is kept, so the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..data import Data, load
from ..figures import comparison
from ..files import write_json, write_text
from ..methods import Row
from ..reports.comparison_report import comparison_report
from ..runs.fingerprint import fingerprint
from ..serialise import current, differences
from .arguments import data_arguments, seconds_of
from .contest import Contest
from .models import make_flow, make_method, rows_of
from .options import Compare
from .tables import markdown, print_json, print_table, say
from .train import SHARED

NETWORK = ("network", "width", "depth", "output", "labels", "couplings")
STEPS = 5000


def run_compare(options: Compare) -> None:
    """Train, evaluate and write down; the table grows with each method."""
    rows = rows_of(options.methods)
    data = load(options.data, **data_arguments(options.data_args))
    contest = Contest(
        options, data, options.out or Path("runs") / f"{Path(data.name).name}-compare", length_of(options)
    )
    check(contest, rows)
    begin(contest.out, settings(options, data, contest.length))
    document: dict[str, Any] = {}
    for document in contest.documents(rows):
        write_json(contest.out / "table.json", document)
        write_text(contest.out / "table.md", as_markdown(document))
    page = comparison_report(contest.out, document, data)
    if options.json:
        print_json(document)
    else:
        print_table(comparison.heading(document), *comparison.table(document))
        print("\n".join(comparison.notes(document)))
    say(f"{contest.out / 'table.md'}    {contest.out / 'table.json'}    {page}")


def length_of(options: Compare) -> dict[str, Any]:
    """{"steps": ...} or {"seconds": ...}. Raises ValueError where both are given, and for a budget that is no time."""
    if options.budget is None:
        return {"steps": STEPS if options.steps is None else options.steps}
    if options.steps is not None:
        raise ValueError(f"training has one length: --budget {options.budget} or --steps {options.steps}, not both")
    return {"seconds": seconds_of(options.budget)}


def check(contest: Contest, rows: list[Row]) -> None:
    """Before the first is trained, so that a mistake costs no time: networks and methods can be built, and the teacher
    is one of this data.
    """
    for row in rows:
        make_flow(contest.options, contest.data, row)
        if not row.needs_teacher:
            make_method(row, (), None)
    contest.check_teacher()


def settings(options: Compare, data: Data, length: dict[str, Any]) -> dict[str, Any]:
    """What must be the same for numbers to stand in one table; other methods may join."""
    named = {name: getattr(options, name) for name in (*NETWORK, *SHARED) if name != "progress_bar"}
    about = {name: getattr(data, name) for name in ("name", "shape", "recipe")}
    shared = {"data": about, "length": length, "teacher": options.teacher and str(options.teacher)}
    return json.loads(json.dumps(fingerprint({**shared, **named})))


def begin(out: Path, now: dict[str, Any]) -> None:
    """Make the folder, or find the same comparison in it. Raises ValueError for another one, and FileExistsError for a
    folder with something else in it.
    """
    path = out / "comparison.json"
    if not path.is_file():
        if out.exists() and any(out.iterdir()):
            raise FileExistsError(f"{out} exists and is no comparison: choose another folder (--out)")
        out.mkdir(parents=True, exist_ok=True)
        return write_json(path, now)
    changed = list(differences(current(json.loads(path.read_text(encoding="utf-8"))), now, "comparison"))
    if changed:
        raise ValueError(
            f"the comparison in {out} has another configuration: {'; '.join(changed)}. "
            "Use the options of then, or choose another folder (--out)"
        )


def as_markdown(document: dict[str, Any]) -> str:
    """The content of table.md."""
    parts = [comparison.heading(document), markdown(*comparison.table(document)), *comparison.notes(document)]
    return "\n\n".join(parts) + "\n"
