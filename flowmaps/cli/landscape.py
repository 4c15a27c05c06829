"""`flowmaps methods`: the landscape."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ..methods import BESIDE, BEYOND, DISCRETE, DISTRIBUTIONAL, LANDSCAPE, MANIFOLDS, Row
from ..methods.variants import VARIANTS
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
OUTPUTS = {"average velocity": "V", "position": "F", "class probabilities": "p"}
NARROW = ("method", "own", "notes")
"""The columns of a terminal that is too narrow for all of them."""
WIDE = 150
"""Columns of a terminal from which all columns are shown, with whole words."""
HINT = (
    "own: cost of a training step in forward passes of the network, with the method's own shares of the batch.\n"
    f"All columns: a terminal of {WIDE} characters, a file, or --json. One method in full: flowmaps explain METHOD"
)
TITLE = (
    "output: V average velocity, F position, p class probabilities. Cost of a training step in forward passes of the "
    "network: in the post, "
    "counted with every term on the full batch, and counted with the method's own shares of the batch.\n"
    "One method in full: flowmaps explain METHOD"
)


def run_methods(options: Methods) -> None:
    """Print the landscape."""
    if options.json:
        return print_json([row.as_dict() for row in (*LANDSCAPE, *BEYOND, *DISCRETE, *MANIFOLDS, *DISTRIBUTIONAL)])
    console = Console()
    console = console if console.is_terminal else Console(width=240)
    whole = console.width >= WIDE
    columns = tuple(COLUMNS) if whole else NARROW
    console.print(landscape_table(columns))
    print(TITLE if whole else HINT)
    print("\nBeyond the post's landscape, maps that know likelihoods (docs/likelihood.md); trained like the others:")
    console.print(landscape_table(columns, BEYOND))
    print("\nDiscrete data, maps of distributions over classes (docs/landscape.md); trained like the others:")
    console.print(landscape_table(columns, DISCRETE))
    print("\nManifolds, maps on spheres, tori and rotations (docs/manifolds.md); trained like the others:")
    console.print(landscape_table(columns, MANIFOLDS))
    print("\nDistributions instead of paths (docs/landscape.md); trained like the others:")
    console.print(landscape_table(columns, DISTRIBUTIONAL))
    print(
        "\nVariants, which have settings of the papers and their code (docs/papers.md); their names stand for methods:"
    )
    print("\n".join(variant_lines(console.width)))
    print("\nBeside the landscape, methods that need more than data and a teacher (docs/post_training.md):")
    beside = {record.name: f"needs {record.needs}; learns {record.learns}" for record in BESIDE}
    print("\n".join(described(beside, console.width)))


def landscape_table(columns: Sequence[str] = tuple(COLUMNS), rows: Sequence[Row] = LANDSCAPE) -> Table:
    """The table of all methods, with a section for each rule.

    Args:
        columns: The columns to show, among `COLUMNS`.
        rows: The rows to show.

    Returns:
        The table.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for column in columns:
        table.add_column(column, overflow="fold", **COLUMNS[column])
    for rule, group in groupby(sorted(rows, key=place), key=lambda row: row.rule):
        table.add_row(f"[bold]{rule}[/bold]")
        for row in group:
            known = dict(zip(COLUMNS, cells(row), strict=True))
            if row.needs_teacher and "learning" not in columns:
                known["notes"] += "; learns from a teacher"
            table.add_row(*(known[column] for column in columns))
        table.add_section()
    return table


def variant_lines(width: int) -> list[str]:
    """A list of the variants: each name with the settings that differ.

    Args:
        width: Characters of a line.

    Returns:
        The lines.
    """
    return described({row.name: row.sets for row in VARIANTS}, width)


def described(texts: Mapping[str, str], width: int) -> list[str]:
    """A list of names with texts beside them, in lines of `width` characters."""
    longest, lines = max(map(len, texts)), []
    for name, text in texts.items():
        first, *more = textwrap.wrap(text, max(20, min(width, 120) - longest - 4))
        lines += [f"  {name:<{longest}}  {first}", *(f"{'':{longest + 4}}{line}" for line in more)]
    return lines


def place(row: Row) -> int:
    """The position of a row's rule, in the order of the landscape; behind it for a rule of no path."""
    rules = [other.rule for other in LANDSCAPE]
    return rules.index(row.rule) if row.rule in rules else len(rules)


def cells(row: Row) -> list[str]:
    """The cells of one method."""
    published = "" if row.published_cost is None else f"{row.published_cost:g}"
    costs = [published, f"{row.cost:g}", f"{row.shared:g}"]
    return [f"  {row.name}", row.learning, OUTPUTS.get(row.output, row.output), row.notes, *costs, row.reference]
