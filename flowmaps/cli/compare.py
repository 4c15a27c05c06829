"""`flowmaps compare`."""

from __future__ import annotations

from ..experiments.comparison import compare
from .arguments import keywords, seconds_of
from .options import Compare
from .own_method import methods_named
from .tables import print_json, print_table, say


def run_compare(options: Compare) -> None:
    """Train, evaluate and print the table."""
    given = keywords(options, "budget", "methods")
    if options.budget is not None:
        if options.steps is not None:
            raise ValueError(f"training has one length: --budget {options.budget} or --steps {options.steps}, not both")
        given["seconds"] = seconds_of(options.budget)
    result = compare(**given, methods=methods_named(options.methods), say=say)
    if options.json:
        print_json(result.document)
    else:
        print_table(result.heading, result.columns, result.rows)
        print("\n".join(result.notes))
    say(f"{result.folder / 'table.md'}    {result.folder / 'table.json'}    {result.page}")
