"""report.html: what a run learned, on one page that opens anywhere, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data import as_data
from ..experiments.evaluation import evaluate_run, guided_again, read_evaluation, run_data
from ..experiments.guided_run import baked_scale
from ..figures import words
from ..files import write_text
from ..runs.folder import read_config, read_metrics
from ..runs.loading import load
from . import guided, page, sections, tables


def report(
    run: str | Path,
    reference: str | Path | None = None,
    *,
    data: Any = None,
    network: nn.Module | None = None,
    **options: Any,
) -> Path:
    """Write report.html into a run folder and return its path.

    The run is evaluated first where its evaluation.json is missing, older than its newest checkpoint or without the
    reference, and where there are options. reference, data, network and options: of `evaluate_run`.
    """
    run = Path(run)
    evaluation = read_evaluation(run)
    if evaluation is None or options or (reference is not None and not _has(evaluation, Path(reference).name)):
        evaluation = evaluate_run(run, reference, data=data, network=network, **options)
    source = run_data(run) if data is None else as_data(data)
    material = sections.Material(load(run, network).float(), source, evaluation, read_config(run))
    with torch.no_grad():
        html = page.page(f"flowmaps: {source.name}", _parts(material, run))
    write_text(run / "report.html", html)
    return run / "report.html"


def _has(evaluation: dict[str, Any], reference: str) -> bool:
    return any(row.get("run") == reference for row in evaluation["rows"])


def _parts(material: sections.Material, run: Path) -> Iterator[str]:
    evaluation, data, config = material.evaluation, material.data, material.config
    yield page.paragraph(f"flowmaps · {data.name} · {config['method']['name']}", "eyebrow")
    yield f"<h1>{escape(words.headline(evaluation, data.kind))}</h1>"
    yield page.paragraph(words.explanation(evaluation))
    yield sections.samples(material)
    yield tables.quality_and_cost(evaluation)
    if "guidance" in evaluation:
        found = evaluation["guidance"]
        yield guided.guided(
            guided_again(run, material.flow, data, found), data, found, baked_scale(material.flow) or 1.0
        )
    yield sections.becoming(material)
    yield sections.consistency(material)
    yield tables.training(read_metrics(run))
    yield tables.configuration(config, material.flow, data)
