"""The part of a run's page about its last log-densities: their histogram, their numbers, and the command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..figures import words
from ..figures.densities import densities
from .page import Picture, Table, drawing

HEAD = ("rows", "by", "nats", "bits per dimension", "nats per value", "error of a row", "held-out above", "no density",
        "passes", "time")  # fmt: skip
"""Names of the columns."""


@dataclass(frozen=True)
class LikelihoodSection:
    """The values of likelihood.html.j2.

    Attributes:
        quantity: The quantity in words, with the data and the weights.
        picture: The histogram.
        table: The numbers.
        notes: Sentences about the numbers.
        command: The command line; "" if it is not known.
    """

    quantity: str
    picture: Picture
    table: Table
    notes: Sequence[str]
    command: str


def section(record: Mapping[str, Any]) -> LikelihoodSection:
    """Put the record of log-densities into words.

    Args:
        record: The content of likelihood.json.

    Returns:
        The values of the template.
    """
    alt = "Histograms of log-densities, a strip for each kind of rows."
    quantity = record["quantity"]
    picture = drawing(lambda theme: densities(record["values"], name=quantity, theme=theme), alt, kind="strip")
    known = [name for name in HEAD if name not in _absent(record)]
    rows = [("", [_cells(row)[name] for name in known]) for row in record["rows"]]
    if all(row["by"].startswith("tokens:") for row in record["rows"]):
        known = ["nats per token" if name == "nats per value" else name for name in known]
    classes = [
        f"{share:.1%} of held-out rows have their own class as the most probable one by Bayes' rule ({by})"
        for by, share in record["accuracy"].items()
    ]
    about = f"{quantity} of {record['data']}, weights of step {record['step']}"
    return LikelihoodSection(about, picture, Table(known, rows, "dense", "likelihood"), [*record["notes"], *classes],
                             record["command"] or "")  # fmt: skip


def _absent(record: Mapping[str, Any]) -> list[str]:
    """The columns without any entry."""
    entry = {"bits per dimension": "bits", "error of a row": "error", "no density": "folded"}
    absent = [name for name, key in entry.items() if not any(row[key] for row in record["rows"])]
    return absent if "bits per dimension" in absent else [*absent, "nats per value"]


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """The cells of a row by column."""
    return {
        "rows": f"{row['rows']} ({row['n']})",
        "by": row["by"],
        "nats": "none" if row["nats"] is None else words.plus_minus(row["nats"], row["stderr"]),
        "bits per dimension": "none" if row["bits"] is None else words.plus_minus(row["bits"], row["bits_stderr"]),
        "nats per value": "none" if row["per_value"] is None else f"{row['per_value']:.4g}",
        "error of a row": "none" if row["error"] is None else f"{row['error']:.3g}",
        "held-out above": "" if row["auroc"] is None else f"{row['auroc']:.1%}",
        "no density": str(row["folded"]),
        "passes": f"{row['passes']:,}",
        "time": words.seconds(row["seconds"]),
    }
