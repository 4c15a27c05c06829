"""The sentences and numbers of a report, from the rows of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

EvaluationRow = Mapping[str, Any]

NOUNS = {"images": "images", "points": "points", "tokens": "texts", "vectors": "samples"}
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
NEAR_SHARE, NOISE_SHARE = 0.1, 0.8
"""Shares of the excess of noise over the floor: near real data up to the first, noise from the second."""
FAR_FLOORS = 10
"""Number of floors beyond which a distance is far, if the distance of noise is not known."""


def name(row: EvaluationRow) -> str:
    """Name the sampler of a row: "1 jump", "100 ODE steps", with the run's name for rows of a reference."""
    nouns = {"jump": "jump", "euler": "ODE step", "restart": "restarted jump", "ancestral": "ancestral step"}
    sampler = count(row["steps"], nouns[row["sampler"]])
    return f"{sampler} of {row['run']}" if "run" in row else sampler


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 jump", "2 jumps"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def visible(text: str) -> str:
    """A text in one line: line feeds become a sign, and other characters that cannot be printed their escapes."""
    return "".join(
        "⏎" if symbol == "\n" else symbol if symbol.isprintable() else symbol.encode("unicode_escape").decode()
        for symbol in text
    )


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
    if (lesson := unlearned(evaluation)) is not None:
        return lesson
    if jump is None:
        return f"This run makes {noun} in {count(rows[0]['steps'], 'step')}." if rows else "Nothing was measured."
    if ode is None:
        return (
            f"One network call makes {noun} at distance {pair(jump)} from real data, which scores {floor(evaluation)}."
        )
    calls = f"{jump['network_calls']} network call instead of {ode['network_calls']}"
    faster = ode["seconds_per_sample"] / jump["seconds_per_sample"]
    return f"{calls} makes {noun} {faster:.0f} times faster, {verdict(jump, ode, evaluation)}."


CHANCE = 0.1
"""Share of the way from chance to always right, up to which a classifier is near chance."""
Standing = Literal["real", "near", "far", "noise"]
"""How near to real data a sampler is; see `standing`."""


def standing(row: EvaluationRow, evaluation: Mapping[str, Any]) -> Standing | None:
    """Weigh a distance by the floor and by the distance of noise.

    Args:
        row: The row to judge.
        evaluation: The content of evaluation.json, with "floor" and, since version 0.2, "noise".

    Returns:
        "real" if real data score the same, within two standard errors; "near" for up to a tenth of the excess of noise
        over the floor, "noise" for four fifths and more, "far" between them. Without the distance of noise: "far" for
        more than ten times a floor that is known well, else "near". None if it is not known, as for data that are
        distributed like noise.
    """
    distance, level = row["distance"], evaluation.get("floor")
    if distance is None or level is None:
        return None
    errors = (row["stderr"] or 0, evaluation.get("floor_stderr") or 0, evaluation.get("noise_stderr") or 0)
    gap = distance - level
    if gap <= 2 * math.hypot(*errors[:2]):
        return "real"
    noise = evaluation.get("noise")
    if noise is None:
        if level <= 4 * errors[1]:
            return None
        return "far" if distance > FAR_FLOORS * level else "near"
    span = noise - level
    if span <= 2 * math.hypot(*errors[1:]):
        return None
    return "near" if gap <= NEAR_SHARE * span else "far" if gap < NOISE_SHARE * span else "noise"


def noise_name(evaluation: Mapping[str, Any]) -> str:
    """Name the noise of an evaluation: the prior of a manifold, or noise like the data."""
    return str(evaluation.get("noise_name", "noise of the same mean and spread"))


def no_closer(evaluation: Mapping[str, Any]) -> str:
    """Say of samples that they are like noise."""
    return f"hardly closer to real data than {noise_name(evaluation)}"


def unlearned(evaluation: Mapping[str, Any]) -> str | None:
    """Say that samples are no better than noise.

    Args:
        evaluation: The content of evaluation.json.

    Returns:
        A sentence if no sampler, or not the shortest one, has learned anything; else None.
    """
    own = [row for row in evaluation["rows"] if "run" not in row]
    found = {standing(row, evaluation) for row in own} - {None}
    if found == {"noise"}:
        return f"Nothing has been learned yet: samples of this run are {no_closer(evaluation)}."
    jump = one_jump(own)
    if jump is not None and standing(jump, evaluation) == "noise":
        return f"One jump has not been learned yet: its samples are {no_closer(evaluation)}."
    return None


ADVICE = (
    "Train longer first: more steps, or go on with resume. If the mean square of the residuals under Training does not "
    "fall, check the data (values of a standard deviation of about 1) and the learning rate."
)
"""The next thing to do if nothing has been learned yet."""


def level(a: EvaluationRow, b: EvaluationRow) -> bool:
    """Whether two known distances agree within two standard errors of their difference."""
    return abs(a["distance"] - b["distance"]) <= 2 * math.hypot(a["stderr"] or 0, b["stderr"] or 0)


def verdict(a: EvaluationRow, b: EvaluationRow, evaluation: Mapping[str, Any]) -> str:
    """Compare two distances, given their standard errors, the floor and the distance of noise.

    Args:
        a: The row to judge.
        b: The row to compare with; named if it is of another run.
        evaluation: The content of evaluation.json.

    Returns:
        "and as close to real data", "and closer ..." or "but 2 times as far ..."; for samples far from real data "and
        as far from real data", or a remark.
    """
    if a["distance"] is None or b["distance"] is None:
        return "but not both distances to real data are known"
    as_other, than_other = (f" {word} {name(b)}" if "run" in b else "" for word in ("as", "than"))
    place = standing(a, evaluation)
    if level(a, b):
        if place in ("far", "noise"):
            return f"and as far from real data{as_other}"
        return f"and {'at the same distance from' if place is None else 'as close to'} real data{as_other}"
    noise = 2 * math.hypot(a["stderr"] or 0, b["stderr"] or 0)
    if a["distance"] < b["distance"]:
        return f"and closer to real data{than_other}" + (", but still far from it" if place in ("far", "noise") else "")
    ratio = a["distance"] / b["distance"] if b["distance"] > noise else math.inf
    return (
        f"but {ratio:.2g} times as far from real data{as_other}"
        if ratio < 100
        else f"but farther from real data{than_other}"
    )


def explanation(evaluation: Mapping[str, Any]) -> str:
    """Give the distances behind the headline, with their floor and the distance of noise, and the next thing to do."""
    rows = evaluation["rows"]
    chosen = [row for row in (one_jump(rows), longest_ode(rows), reference_ode(rows)) if row is not None] or rows[-1:]
    found = ", ".join(f"{pair(row)} by {name(row)}" for k, row in enumerate(chosen) if row not in chosen[:k])
    lower = f"lower is better; real data against itself scores {floor(evaluation)}"
    if evaluation.get("noise") is not None:
        lower += f", and {noise_name(evaluation)} {noise(evaluation)}"
    advice = "" if unlearned(evaluation) is None else f" {ADVICE}"
    return f"Distance to real data that it was not trained on: {found} ({lower}).{advice}"


def pair(row: EvaluationRow) -> str:
    """The distance of a row with its standard error."""
    return plus_minus(row["distance"], row["stderr"])


def floor(evaluation: Mapping[str, Any]) -> str:
    """The floor with its standard error."""
    return plus_minus(evaluation["floor"], evaluation.get("floor_stderr"))


def noise(evaluation: Mapping[str, Any]) -> str:
    """The distance of noise with its standard error; "not known" for an evaluation of an earlier version."""
    return plus_minus(evaluation.get("noise"), evaluation.get("noise_stderr"))


def recognition(evaluation: Mapping[str, Any]) -> str | None:
    """Say how well the classifier whose features are compared knows held-out rows, and whether that is chance.

    Args:
        evaluation: The content of evaluation.json.

    Returns:
        One or two sentences; None if there is no such classifier, or the evaluation is of an earlier version.
    """
    found = evaluation.get("classifier")
    if found is None:
        return None
    right, guessed = found["accuracy"], found["commonest"]
    text = (
        f"The classifier behind the features is right on {right:.0%} of held-out rows; always naming the commonest "
        f"class would be right on {guessed:.0%}."
    )
    if right - guessed > max(2 * found["stderr"], CHANCE * (1 - guessed)):
        return text
    return f"{text} That is near chance: its features hardly know the classes, so rely on the other measures too."


def plus_minus(value: float | None, error: float | None) -> str:
    """Format a value with its error, to the digits that the error allows.

    Args:
        value: The value, or None if it is not known.
        error: The standard error; none, or one below a millionth of the value, leaves three digits.

    Returns:
        "1.235 ± 0.021", with spaces that do not break.
    """
    if value is None:
        return "not known"
    if not error or error < 1e-6 * abs(value):
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
