"""`flowmaps methods`: the landscape."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ..methods import LANDSCAPE, Row
from .options import Methods
from .tables import print_json

WHOLE = {"no_wrap": True}
COLUMNS: dict[str, dict[str, Any]] = {
    "method": WHOLE,
    "learning": {},
    "output": {},
    "notes": {},
    "post": {"justify": "right", **WHOLE},
    "full": {"justify": "right", **WHOLE},
    "own": {"justify": "right", **WHOLE},
    "reference": {},
}
OUTPUTS = {"average velocity": "V", "position": "F"}
TITLE = (
    "output: V average velocity, F position. Cost of a training step in forward passes of the network: in the post, "
    "counted with every term on the full batch, and counted with the method's own shares of the batch.\n"
    "One method in full: flowmaps explain METHOD"
)


def run_methods(options: Methods) -> None:
    """Print the landscape."""
    if options.json:
        return print_json([row.as_dict() for row in LANDSCAPE])
    console = Console()
    console = console if console.is_terminal else Console(width=240)
    console.print(landscape_table(), TITLE)


def landscape_table() -> Table:
    """The table of all methods, with a section for each rule."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for column, look in COLUMNS.items():
        table.add_column(column, overflow="fold", **look)
    for rule, rows in groupby(sorted(LANDSCAPE, key=place), key=lambda row: row.rule):
        table.add_row(f"[bold]{rule}[/bold]")
        for row in rows:
            table.add_row(*cells(row))
        table.add_section()
    return table


def place(row: Row) -> int:
    """The position of a row's rule, in the order of the landscape."""
    return [other.rule for other in LANDSCAPE].index(row.rule)


def cells(row: Row) -> list[str]:
    """The cells of one method."""
    published = "" if row.published_cost is None else f"{row.published_cost:g}"
    costs = [published, f"{row.cost:g}", f"{row.shared:g}"]
    return [f"  {row.name}", row.learning, OUTPUTS.get(row.output, row.output), row.notes, *costs, row.reference]
