"""`flowmaps explain`: one method, from its row of the landscape and from its terms."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from ..experiments.explaining import Explanation, explain
from ..figures.anatomy import Part, grouped
from ..methods.beside import Beside, beside_named
from ..methods.variants import Variant
from ..recipes.rows import OWN, row_of
from . import drawings
from .arguments import method_arguments
from .options import Explain
from .own_method import method_named
from .tables import print_json, say

SIZES, LOSSES = (1e-2, 1e2), (1e-4, 1e3)
WHEN = {0.0: "at the start", 0.5: "half way", 1.0: "at the end"}


def run_explain(options: Explain) -> None:
    """Print one method, and draw it into a file if one is given."""
    if (record := beside_named(options.method)) is not None:
        return explain_beside(record, options)
    row = row_of(method_named(options.method))
    found = explain(row, method_args=method_arguments(row.build, options.method_args))
    if options.out is not None:
        found.draw(options.out)
        say(f"{options.out}")
    if options.json:
        print_json(found.as_dict())
    else:
        print("\n".join(text(found)))


def explain_beside(record: Beside, options: Explain) -> None:
    """Print a method beside the landscape, whose terms cannot be shown without its reward, states or measurement."""
    if options.out is not None or options.method_args:
        raise ValueError(f"`out` and `method_args` are for methods of the landscape, and {record.refusal}")
    if options.json:
        return print_json(record.as_dict())
    known = [
        ("learns", record.learns), ("loss", record.equation), ("needs", record.needs),
        ("use", "; ".join(record.use)), ("page", record.page), ("paper", record.reference),
    ]  # fmt: skip
    print("\n".join([f"{record.name}, beside the landscape", "", *lines(known)]))


def lines(facts: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The lines of facts, each under a heading."""
    for name, value in facts:
        first, *more = textwrap.wrap(value, 92) or [""]
        yield f"  {name:<14}{first}"
        yield from (f"{'':16}{line}" for line in more)


def text(found: Explanation) -> Iterator[str]:
    """The page for the terminal, line by line."""
    row, stages = found.row, found.stages
    yield from (row.name if row.rule == OWN else f"{row.name}: {row.rule}, {row.learning}", "")
    yield from lines(facts(found))
    for stage in stages:
        yield ""
        if len(stages) > 1:
            yield f"Stage {stage.name}: {stage.share:.0%} of training"
        total = sum(part.share for part in stage.parts)
        yield from drawings.bar({part.name: part.share / total for part in stage.parts})
        for part in stage.parts:
            yield from ("", *drawn(part))
    yield from (
        "",
        "• loss of a row, ◦ its slope (how hard it pulls), against the size of the residual",
        *(("", row.bibtex) if row.bibtex else ()),
    )


def facts(found: Explanation) -> list[tuple[str, str]]:
    """Facts about a method, each under a heading."""
    row = found.row
    published = "" if row.published_cost is None else f"; the post: {row.published_cost:g}"
    cost = f"{row.shared:g} forward passes a step with its own shares, {row.cost:g} on a full batch{published}"
    known = [
        ("loss", row.equation),
        ("gradient", row.gradient and f"through {row.gradient}"),
        ("network", row.bibtex and f"predicts the {row.output} in the paper"),
        ("needs", "; ".join(found.needs) or "nothing but data"),
        ("samples by", found.sampling),
        ("cost", "" if math.isnan(row.cost) else cost),
        ("notes", "" if isinstance(row, Variant) else row.notes),
        ("variant", f"of {row.of}, {row.setting}: {row.sets}" if isinstance(row, Variant) else ""),
        ("paper", row.bibtex and row.reference),
    ]
    return [(name, value) for name, value in known if value]


def drawn(part: Part) -> list[str]:
    """Draw one term: its times and its weight, side by side."""
    head = f"{part.name}: rule {part.rule}, velocity {part.velocity}"
    blocks = [drawings.square(s, t) for s, t in part.times.values()]
    several = len(part.times) > 1
    titles = [f"{'':4}times {WHEN[moment] if several else ''}" for moment in part.times]
    for name, curve in grouped(part.curves).items():
        marks = {"◦": (curve.sizes, curve.pull.abs()), "•": (curve.sizes, curve.loss)}
        blocks.append(drawings.chart(marks, SIZES, LOSSES))
        titles.append(f"{'':8}{f'weight of {name}' if len(part.curves) > 1 else 'weight'}")
    changing = [f"{name} of the rule {change(values)}" for name, values in part.changes.items()]
    notes = [f"in the course of training: {', '.join(changing)}"] if changing else []
    return [head, *notes, *drawings.beside(blocks, titles, shutil.get_terminal_size((200, 50)).columns)]


def change(values: Sequence[float | str]) -> str:
    """Describe how an option changes, by its values if they are numbers."""
    numbers = [f"{value:g}" for value in values if isinstance(value, float)]
    return f"goes {' → '.join(numbers)}" if len(numbers) == len(values) else "changes"
