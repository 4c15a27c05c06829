"""`flowmaps explain`: one method, from its row of the landscape and from its terms."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..exact import Gaussian
from ..experiments.build import for_row, row_of
from ..figures.anatomy import MOMENTS, Part, Stage, anatomy, grouped
from ..flow_map import FlowMap
from ..method.method import Method
from ..methods import Row
from ..networks import MLP
from ..velocity import Auxiliary, Averaged, Discriminator, Phased
from ..weight import Learned
from . import drawings
from .arguments import method_arguments
from .options import Explain
from .tables import print_json, say

COVARIANCE = [[1.0, 0.6], [0.6, 0.5]]
SIZES, LOSSES = (1e-2, 1e2), (1e-4, 1e3)
WHEN = {0.0: "at the start", 0.5: "half way", 1.0: "at the end"}


def run_explain(options: Explain) -> None:
    """Print one method, and draw it into a file if one is given."""
    row = row_of(options.method)
    method, stages = subject(row, options.method_args)
    if options.out is not None:
        from ..figures.portrait import portrait

        portrait(stages, options.out, title=row.name, subtitle=row.equation)
        say(f"{options.out}")
    if options.json:
        print_json(as_json(row, method, stages))
    else:
        print("\n".join(text(row, method, stages)))


def subject(row: Row, arguments: tuple[str, ...]) -> tuple[Method, list[Stage]]:
    """Make a method and its anatomy; a Gaussian in the plane is its data and its teacher.

    Args:
        row: The row of the method.
        arguments: Arguments of its function as texts, such as `diagonal=0.5`.

    Returns:
        The method, and its stages with their terms.
    """
    found = method_arguments(row.build, arguments)
    flow = for_row(FlowMap(MLP((2,), width=16, depth=1)), row)
    truth = Gaussian([0.5, -0.5], covariance=torch.tensor(COVARIANCE), path=flow.path)
    method = row.build(**found, **({"teacher": truth} if row.needs_teacher else {}))
    return method, anatomy(method, flow, truth.sample(64).float())


def text(row: Row, method: Method, stages: list[Stage]) -> Iterator[str]:
    """The page for the terminal.

    Args:
        row: The row of the method.
        method: The method that its function made.
        stages: The anatomy of the method.

    Yields:
        Lines.
    """
    yield from (f"{row.name}: {row.rule}, {row.learning}", "")
    for name, value in facts(row, method):
        lines = textwrap.wrap(value, 92) or [""]
        yield f"  {name:<14}{lines[0]}"
        yield from (f"{'':16}{line}" for line in lines[1:])
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
        "",
        row.bibtex,
    )


def facts(row: Row, method: Method) -> list[tuple[str, str]]:
    """Facts about a method, under headings.

    Args:
        row: The row of the method.
        method: The method that its function made.

    Returns:
        Heading and text.
    """
    published = "" if row.published_cost is None else f"; the post: {row.published_cost:g}"
    return [
        ("loss", row.equation),
        ("gradient", f"through {row.gradient}"),
        ("network", f"predicts the {row.output} in the paper"),
        ("needs", "; ".join(needs(row, method)) or "nothing but data"),
        ("samples by", sampling(row)),
        ("cost", f"{row.shared:g} forward passes a step with its own shares, {row.cost:g} on a full batch{published}"),
        ("notes", row.notes),
        ("paper", row.reference),
    ]


def needs(row: Row, method: Method) -> list[str]:
    """Describe the needs of a method beside the flow map and its data.

    Args:
        row: The row of the method.
        method: The method that its function made.

    Returns:
        Its needs, in words.
    """
    found = ["a trained model as its teacher"] if row.needs_teacher else []
    found += ["no data"] if method.data_free else []
    return found + list(dict.fromkeys(filter(None, map(companion, method.modules()))))


def companion(part: Any) -> str:
    """Describe a part with its own weights; "" for any other part."""
    if isinstance(part, Averaged):
        decay = "a decay that changes" if callable(part.decay) else f"decay {part.decay:g}"
        return f"an average of its own weights ({decay})"
    if isinstance(part, Phased):
        return f"the flow map of the phase before as its teacher ({part.phases} phases)"
    if isinstance(part, Discriminator):
        return "a discriminator with an optimiser of its own"
    if isinstance(part, Auxiliary):
        return "a second network with an optimiser of its own"
    return "a learned weight of (s, t)" if isinstance(part, Learned) else ""


def sampling(row: Row) -> str:
    """Describe the steps that are valid for the learned map."""
    if row.rule == "diffusion":
        return "steps of the ODE: it learns only the velocity"
    if row.only_source is not None:
        return f"one jump from s = {row.only_source:g}: a partial map that knows no other source"
    if row.only_target is not None:
        return f"one jump to t = {row.only_target:g}, or several that add noise again (steps.restart): a partial map"
    made = f"; made for {row.few_step} jumps" if row.few_step > 1 else ""
    return f"any number of jumps, or steps of its ODE{made}"


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


def as_json(row: Row, method: Method, stages: list[Stage]) -> dict[str, Any]:
    """The content of the page for JSON, with the numbers of its drawings.

    Args:
        row: The row of the method.
        method: The method that its function made.
        stages: The anatomy of the method.

    Returns:
        Values by name.
    """
    about = {**row.as_dict(), "bibtex": row.bibtex, "needs": needs(row, method), "sampling": sampling(row)}
    return {
        **about,
        "data_free": method.data_free,
        "stages": [
            {"name": stage.name, "share": stage.share, "terms": [part_json(part) for part in stage.parts]}
            for stage in stages
        ],
    }


def part_json(part: Part) -> dict[str, Any]:
    """One term for JSON."""
    return {
        "name": part.name,
        "share": part.share,
        "rule": part.rule,
        "velocity": part.velocity,
        "changes": {"progress": list(MOMENTS), **part.changes} if part.changes else {},
        "times": [{"progress": moment, **times_json(s, t)} for moment, (s, t) in part.times.items()],
        "losses": {
            name: {"size": curve.sizes.tolist(), "loss": curve.loss.tolist(), "slope": curve.pull.tolist()}
            for name, curve in part.curves.items()
        },
    }


def times_json(s: Tensor, t: Tensor) -> dict[str, Any]:
    """Quantiles of the two times and of the gap between them, and the share of rows with t = s."""
    at = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    found = {name: value.float().quantile(at).tolist() for name, value in (("s", s), ("t", t), ("gap", s - t))}
    return {"quantiles": at.tolist(), **found, "diagonal": float((s == t).double().mean())}
