"""The sentences and numbers of a report, from the rows of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

EvaluationRow = Mapping[str, Any]

NOUNS = {"images": "images", "points": "points", "vectors": "samples"}
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def name(row: EvaluationRow) -> str:
    """Name the sampler of a row: "1 jump", "100 ODE steps", with the run's name for rows of a reference."""
    nouns = {"jump": "jump", "euler": "ODE step", "restart": "restarted jump"}
    sampler = count(row["steps"], nouns[row["sampler"]])
    return f"{sampler} of {row['run']}" if "run" in row else sampler


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 jump", "2 jumps"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown with padded columns, the first one aligned to the left and the others to the right.

    Args:
        head: The names of the columns.
        rows: The cells of each row; a bar in a cell is escaped.

    Returns:
        The lines of the table, without a newline at the end.
    """
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_padded(row, widths) for row in (lines[0], rule, *lines[1:]))


def _padded(cells: Sequence[str], widths: Sequence[int]) -> str:
    """One line of a Markdown table."""
    others = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return f"| {' | '.join([cells[0].ljust(widths[0]), *others])} |"


def one_jump(rows: Sequence[EvaluationRow]) -> EvaluationRow | None:
    """The row of the one-step sampler."""
    return next((row for row in rows if row["sampler"] == "jump" and row["steps"] == 1 and "run" not in row), None)


def longest_ode(rows: Sequence[EvaluationRow]) -> EvaluationRow | None:
    """The ODE with the most steps: of the run itself, or of the reference if the run has none."""
    found = [row for row in rows if row["sampler"] == "euler"]
    return max(found, key=lambda row: ("run" not in row, row["steps"])) if found else None


def reference_ode(rows: Sequence[EvaluationRow]) -> EvaluationRow | None:
    """The ODE of the reference run with the most steps."""
    found = [row for row in rows if row["sampler"] == "euler" and "run" in row]
    return max(found, key=lambda row: row["steps"]) if found else None


def headline(evaluation: Mapping[str, Any], kind: str) -> str:
    """Summarise quality and speed of one jump in one sentence.

    Args:
        evaluation: The content of evaluation.json.
        kind: The kind of data: "images", "points" or "vectors".

    Returns:
        The sentence.
    """
    rows = evaluation["rows"]
    jump, ode = one_jump(rows), reference_ode(rows) or longest_ode(rows)
    noun = NOUNS[kind]
    if jump is None:
        return f"This run makes {noun} in {rows[0]['steps']} steps." if rows else "Nothing was measured."
    if ode is None:
        return (
            f"One network call makes {noun} at distance {pair(jump)} from real data, which scores {floor(evaluation)}."
        )
    calls = f"{jump['network_calls']} network call instead of {ode['network_calls']}"
    faster = ode["seconds_per_sample"] / jump["seconds_per_sample"]
    return f"{calls} makes {noun} {faster:.0f} times faster, {verdict(jump, ode)}."


def verdict(a: EvaluationRow, b: EvaluationRow) -> str:
    """Compare two distances, given their standard errors.

    Args:
        a: The row to judge.
        b: The row to compare with; named if it is of another run.

    Returns:
        "and as close to real data", "and closer ..." or "but 2 times as far ...".
    """
    if a["distance"] is None or b["distance"] is None:
        return "but not both distances to real data are known"
    gap, noise = a["distance"] - b["distance"], 2 * math.hypot(a["stderr"] or 0, b["stderr"] or 0)
    as_other, than_other = (f" {word} {name(b)}" if "run" in b else "" for word in ("as", "than"))
    if abs(gap) <= noise:
        return f"and as close to real data{as_other}"
    if gap < 0:
        return f"and closer to real data{than_other}"
    ratio = a["distance"] / b["distance"] if b["distance"] > noise else math.inf
    return (
        f"but {ratio:.2g} times as far from real data{as_other}"
        if ratio < 100
        else f"but farther from real data{than_other}"
    )


def explanation(evaluation: Mapping[str, Any]) -> str:
    """Give the distances behind the headline, with their floor."""
    rows = evaluation["rows"]
    chosen = [row for row in (one_jump(rows), longest_ode(rows), reference_ode(rows)) if row is not None]
    found = ", ".join(f"{pair(row)} by {name(row)}" for k, row in enumerate(chosen) if row not in chosen[:k])
    lower = "lower is better, and real data against itself scores"
    return f"Distance to real data that it was not trained on: {found} ({lower} {floor(evaluation)})."


def pair(row: EvaluationRow) -> str:
    """The distance of a row with its standard error."""
    return plus_minus(row["distance"], row["stderr"])


def floor(evaluation: Mapping[str, Any]) -> str:
    """The floor with its standard error."""
    return plus_minus(evaluation["floor"], evaluation.get("floor_stderr"))


def plus_minus(value: float | None, error: float | None) -> str:
    """Format a value with its error, to the digits that the error allows.

    Args:
        value: The value, or None if it is not known.
        error: The standard error; None or 0 leaves three digits.

    Returns:
        "1.235 ± 0.021", with spaces that do not break.
    """
    if value is None:
        return "not known"
    if not error:
        return f"{value:.3g}".replace("-", "−")
    digits = min(8, max(0, 1 - math.floor(math.log10(error))))
    return f"{value:.{digits}f}\u00a0±\u00a0{error:.{digits}f}".replace("-", "−")


def seconds(value: float) -> str:
    """Format a time in a suitable unit, to two digits."""
    scale, unit = next(((scale, unit) for scale, unit in UNITS if value >= scale), UNITS[-1])
    amount = value / scale
    return f"{amount:.0f} {unit}" if amount >= 10 else f"{amount:.1f} {unit}"


def speed_up(row: EvaluationRow, ode: EvaluationRow | None) -> str:
    """The speed of a row relative to the longest ODE solution, such as "12×"; "" without one."""
    if ode is None:
        return ""
    ratio = ode["seconds_per_sample"] / row["seconds_per_sample"]
    return f"{ratio:.0f}×" if ratio >= 10 else f"{ratio:.1f}×"
