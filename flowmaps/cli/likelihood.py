"""`flowmaps likelihood`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from ..experiments.likelihood_table import LikelihoodRow, LikelihoodTable
from ..experiments.likelihoods import likelihood
from .arguments import command_of, keywords
from .options_likelihood import Likelihood
from .tables import duration, number, print_json, print_table, say


def run_likelihood(options: Likelihood) -> None:
    """Compute log-densities, and print the table."""
    given = keywords(options, "by")
    result = likelihood(**given, by=options.by or None, command=command_of("likelihood", options), say=say)
    if options.json:
        known = {name: getattr(result, name) for name in ("step", "data", "levels", "quantity")}
        rows = [asdict(row) for row in result.rows]
        print_json({**known, "rows": rows, "accuracy": dict(result.accuracy), "notes": list(result.notes)})
    else:
        print_likelihood(result)


def print_likelihood(result: LikelihoodTable) -> None:
    """Print the table, with the notes below."""
    leveled, rows = result.levels is not None, result.rows
    of_tokens = all(row.by.startswith("tokens:") for row in rows)
    columns = {
        "rows": lambda row: row.rows,
        "by": lambda row: row.by,
        "n": lambda row: str(row.n),
        "nats": lambda row: number(row.nats),
        "+-": lambda row: number(row.stderr),
        "bits per dimension" if leveled else "nats per token" if of_tokens else "nats per value": lambda row: number(
            row.bits if leveled else row.per_value
        ),
        "error of a row": lambda row: number(row.error),
        "held-out above": lambda row: "-" if row.auroc is None else f"{row.auroc:.1%}",
        "no density": lambda row: str(row.folded),
        "calls": lambda row: f"{row.passes:,}",
        "time": lambda row: duration(row.seconds),
    }
    if not _any(rows, "error"):
        del columns["error of a row"]
    if not _any(rows, "folded"):
        del columns["no density"]
    title = f"{result.quantity} of {result.data}, weights of step {result.step}"
    print_table(title, list(columns), [[cell(row) for cell in columns.values()] for row in rows])
    print("held-out above: share of pairs in which the held-out row has the higher log-density (AUROC); 50% is chance")
    for by, share in result.accuracy.items():
        print(f"{by}: {share:.1%} of held-out rows have their own class as the most probable one")
    for note in result.notes:
        print(note)


def _any(rows: Sequence[LikelihoodRow], name: str) -> bool:
    """Whether a number of some row is there, and not 0."""
    return any(getattr(row, name) for row in rows)
