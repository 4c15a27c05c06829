"""A comparison of methods in numbers and words: the content of table.json, and its table.

    {"data", "kind", "length": {"steps" or "seconds": ...}, "reference": entry or None, "methods": {name: entry}}

A length in seconds has the entry "clock": "processor" if it is processor time.
An entry holds the properties of a method (`about`) and either its results (`measured`) or its "failure".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data import Data
from ..methods import Row
from . import words

JUMPS = (1, 2, 4, 8)
PASSES = (
    "passes: the cost of a training step in forward passes of the network for the whole batch, with the method's own "
    "shares of the batch (a backward pass counts 2)."
)

Document = dict[str, Any]
Entry = Mapping[str, Any]


def document(data: Data, length: Mapping[str, Any], methods: Mapping[str, Entry], reference: Entry | None) -> Document:
    """The content of table.json.

    Args:
        data: The data set of all methods.
        length: {"steps": ...}, or {"seconds": ...} with the "clock" if that is processor time.
        methods: The entries by name.
        reference: The entry of the diffusion model, if there is one.

    Returns:
        A dict that JSON can hold.
    """
    return {
        "data": data.name,
        "kind": data.kind,
        "length": dict(length),
        "reference": reference,
        "methods": dict(methods),
    }


def about(row: Row, run: Path) -> dict[str, Any]:
    """The properties of a method and the counted cost of its step, for an entry.

    Args:
        row: The method's row of the landscape.
        run: Its run folder; the name is kept.

    Returns:
        The first part of an entry; costs that are not known are None.
    """
    names = ("rule", "learning", "output", "few_step", "published_cost", "cost", "shared", "reference")
    known = {name: getattr(row, name) for name in names}
    return {"run": run.name, **{name: None if value != value else value for name, value in known.items()}}


def measured(last: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The cost and end of training, and the evaluation, for an entry.

    Args:
        last: The last row of metrics.jsonl.
        evaluation: The content of evaluation.json.

    Returns:
        {"training": ..., "evaluation": ...}.
    """
    seconds = last["seconds"] or None
    training = {name: last[name] for name in ("step", "loss", "seconds")}
    return {
        "training": {**training, "seconds_per_step": seconds and seconds / last["step"]},
        "evaluation": dict(evaluation),
    }


def evaluated(document: Document) -> dict[str, Entry]:
    """The entries of the methods that did not fail."""
    return {name: entry for name, entry in document["methods"].items() if "evaluation" in entry}


def any_evaluation(document: Document) -> Mapping[str, Any] | None:
    """Any of the evaluations, for the metric and the floor that all share."""
    known = [*evaluated(document).values(), document["reference"] or {}]
    return next((entry["evaluation"] for entry in known if "evaluation" in entry), None)


def at(entry: Entry, steps: int) -> words.EvaluationRow | None:
    """The row of an entry with this number of jumps (ODE steps for a diffusion model); None if there is none."""
    rows = [row for row in entry["evaluation"]["rows"] if row["steps"] == steps]
    jumps = [row for row in entry["evaluation"]["rows"] if row["sampler"] != "euler"]
    return next((row for row in rows if not jumps or row["sampler"] != "euler"), None)


def many_steps(entry: Entry | None) -> words.EvaluationRow | None:
    """The row of the longest ODE solution of an entry; None if there is none."""
    return words.longest_ode(entry["evaluation"]["rows"]) if entry and "evaluation" in entry else None


def heading(document: Document) -> str:
    """Name the measure, the data and the length of training."""
    evaluation = any_evaluation(document)
    length = dict(document["length"])
    of = " of processor time" if length.pop("clock", None) == "processor" else ""
    [(unit, number)] = length.items()
    trained = f"{document['data']}, each method trained for {number:g} {unit}{of}"
    if evaluation is None:
        return f"{trained}; none could be measured"
    return f"{trained}: {evaluation['metric']}, lower is better; real data against itself {words.floor(evaluation)}"


def distances(document: Document) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of the table of distances by number of jumps."""
    head, rows = table(document)
    return head[: 2 + len(JUMPS)], [row[: 2 + len(JUMPS)] for row in rows]


def table(document: Document) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of the whole table: the distance by number of jumps, and the cost."""
    longest = max((row["steps"] for entry in evaluated(document).values() if (row := many_steps(entry))), default=0)
    head = ["method", *(words.count(k, "jump") for k in JUMPS), f"{longest} ODE steps" if longest else "ODE"]
    rows = [[name, *cells(entry)] for name, entry in document["methods"].items()]
    ode = many_steps(document["reference"])
    if ode is not None:
        rows.append(
            [f"reference: {Path(document['reference']['run']).name}", "", "", "", "", words.pair(ode), "", "", ""]
        )
    return [*head, "passes", "training", "time per step"], rows


def cells(entry: Entry) -> list[str]:
    """One row of the table, without the method's name."""
    if "failure" in entry:
        return ["failed", "", "", "", "", passes(entry), "", ""]
    found = [*(at(entry, k) for k in JUMPS), many_steps(entry)]
    distances = [words.pair(row) if row else "" for row in found]
    training = entry["training"]
    step = words.seconds(training["seconds_per_step"]) if training["seconds_per_step"] else ""
    return [*distances, passes(entry), f"{training['step']} steps, {training['seconds']:.0f} s", step]


def passes(entry: Entry) -> str:
    """The cost of a step in forward passes; "" for a method of your own, whose cost is not counted."""
    return "" if entry["shared"] is None else f"{entry['shared']:g}"


def notes(document: Document) -> list[str]:
    """Notes under the table: failures, methods with other samplers, the meaning of the columns."""
    found = evaluated(document)
    failed = [f"{name} failed: {e['failure']}." for name, e in document["methods"].items() if "failure" in e]
    restarting = [name for name, entry in found.items() if _samples_by(entry, "restart")]
    solving = [name for name, entry in found.items() if not _samples_by(entry, "jump")]
    single = [name for name, e in found.items() if _samples_by(e, "jump") and at(e, 1) and not at(e, 2)]
    several = [f"{name} ({words.count(e['few_step'], 'jump')})" for name, e in found.items() if e["few_step"] > 1]
    sentences = {
        "Maps to t = 0 alone, which in several jumps add noise again after each": restarting,
        "Maps from t = 1 alone, which jump once": single,
        "Diffusion models, with steps of the ODE instead of jumps": solving,
        "Made for several jumps": several,
    }
    return [*failed, *(f"{text}: {', '.join(names)}." for text, names in sentences.items() if names), PASSES]


def _samples_by(entry: Entry, sampler: str) -> bool:
    """Whether an entry has a row of a sampler."""
    return any(row["sampler"] == sampler for row in entry["evaluation"]["rows"])


def headline(document: Document) -> str:
    """Name the methods that come closest to real data in one jump, as far as the standard errors can tell."""
    ones = {name: row for name, e in evaluated(document).items() if (row := at(e, 1)) and row["sampler"] != "euler"}
    ones = {name: row for name, row in ones.items() if row["distance"] is not None}
    if not ones:
        return f"{words.count(len(document['methods']), 'method')} on {document['data']}"
    best = min(ones.values(), key=lambda row: row["distance"])
    level = [name for name, row in ones.items() if words.level(row, best)]
    single = len(level) == 1
    closest = f"In one jump {_listed(level)} {'comes' if single else 'come'} closest to real data"
    place = words.standing(best, any_evaluation(document) or {})
    if place == "noise":
        far = words.no_closer(any_evaluation(document) or {})
        return f"No method has learned one jump yet: even {_listed(level)} {'is' if single else 'are'} {far}"
    return f"{closest}, but still far from it" if place == "far" else closest


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence: "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
