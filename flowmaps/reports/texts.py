"""The sections of a page about tokens: texts side by side, and measures over the number of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..data import Data, tokens_of
from ..figures import words
from ..figures.charts import measure_curves
from ..sampling import sample
from ..steps import euler
from .page import Picture, Table, drawing
from .readings import curves as read_curves
from .sections import Material

SHOWN = 16
"""Number of texts of each sampler."""
JUMPS = (1, 2, 4, 8)
ODE_STEPS = 64


def samples(material: Material) -> Table | None:
    """Texts by 1, 2, 4 and 8 jumps and by the ODE, from the same noise, and held-out texts; None for other data."""
    data, flow = material.data, material.flow
    if data.kind != "tokens":
        return None
    noise, label = material.start(SHOWN)
    columns = {}
    for steps in (1,) if flow.is_partial else JUMPS:
        columns[words.name({"sampler": "jump", "steps": steps})] = sample(flow, noise, steps, condition=label)
    if not flow.is_partial:
        x = sample(flow, noise, ODE_STEPS, step=euler, condition=label)
        columns[words.name({"sampler": "euler", "steps": ODE_STEPS})] = x
    columns["held-out data"] = data.held_out(SHOWN).x0
    texts = [lines(data, x) for x in columns.values()]
    rows = [("", list(row)) for row in zip(*texts, strict=False)]
    return Table(list(columns), rows, "texts", "texts")


def lines(data: Data, x: Tensor) -> list[str]:
    """Rows of tokens as texts, or as numbers without a vocabulary."""
    if data.vocabulary is None:
        return [" ".join(map(str, row)) for row in tokens_of(x).tolist()]
    return [words.visible(text) for text in data.vocabulary.decode(x)]


def curves(evaluation: Mapping[str, Any], kind: str) -> list[Picture]:
    """Each measure over the number of jumps and of ODE steps, with its floor; empty for data that are no tokens."""
    if kind != "tokens":
        return []
    rows: Sequence[Mapping[str, Any]] = [row for row in evaluation["rows"] if "run" not in row]
    figures = []
    for key, title in evaluation["measures"].items():
        if key == "ngram_tv_2":
            continue
        floor = evaluation["floor"] if key == "distance" else evaluation[f"{key}_floor"]
        name, _, note = title.partition("; floor")[0].partition(" (")
        figures.append(
            drawing(
                lambda theme, key=key, floor=floor, name=name: measure_curves(  # type: ignore[misc]
                    rows, key, floor, name=name, size=(4.6, 3), theme=theme
                ),
                f"{name} over the number of steps",
                name,
                "dotted: real data" + (f" ({note}" if note else ""),
                "framed",
                read_curves,
            )
        )
    return figures
