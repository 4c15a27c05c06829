"""Reports of run folders: gather the content of a page, draw it, and write report.html."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from ..data import Data, as_data
from ..figures.comparison import Document
from ..files import write_text
from ..flow_map import FlowMap
from ..reports import Comparison, Material, comparison_page, run_page
from ..runs.folder import read_config, read_evaluation, read_metrics
from ..runs.loading import load
from .checks import folder_of
from .evaluation import evaluate, guided_again, run_data
from .guided_run import baked_scale

PAGE = "report.html"


def report(
    run: str | Path,
    reference: str | Path | None = None,
    *,
    data: Any = None,
    network: nn.Module | None = None,
    **options: Any,
) -> Path:
    """Write report.html into a run folder: one self-contained page.

    The run is evaluated first if its evaluation.json is missing, older than its newest checkpoint or without the
    reference, or if there are options.

    Args:
        run: The run folder.
        reference: Another run on the same data, to compare with by samples of many steps.
        data: Data instead of the data of the run; needed if these were made from an object.
        network: The network, if the run cannot build it.
        **options: As for `evaluate` of flow maps.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: The folder has no run or no checkpoint.
        ValueError: The data cannot be loaded again, or the reference is a run on data of another shape.
        ImportError: jinja2 or matplotlib is not installed.
    """
    run = folder_of(run)
    evaluation = read_evaluation(run)
    if (
        evaluation is None
        or options
        or (reference is not None and not _has(evaluation, folder_of(reference, "reference").name))
    ):
        evaluation = evaluate(run, reference, data=data, network=network, **options)
    source = run_data(run) if data is None else as_data(data)
    flow, config = load(run, network).float(), read_config(run)
    found = evaluation.get("guidance")
    samplers = guided_again(run, flow, source, found) if found else ()
    usual = baked_scale(flow) or 1.0
    write_text(run / PAGE, run_page(Material(flow, source, evaluation, config, read_metrics(run), samplers, usual)))
    return run / PAGE


def _has(evaluation: dict[str, Any], reference: str) -> bool:
    """Whether an evaluation has rows of a run of this name."""
    return any(row.get("run") == reference for row in evaluation["rows"])


def comparison_report(out: str | Path, document: Document, data: Data) -> Path:
    """Write report.html into the folder of a comparison, with samples of its runs.

    Args:
        out: The folder, with comparison.json and a run folder for each method.
        document: The content of table.json.
        data: The data set of all methods.

    Returns:
        The path of the page.
    """
    out = Path(out)

    def flow(run: str) -> tuple[FlowMap, bool]:
        return load(out / run).float(), read_config(out / run)["training"]["labels"]

    settings = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    metrics = {name: read_metrics(out / name) for name in document["methods"]}
    write_text(out / PAGE, comparison_page(Comparison(document, data, settings, metrics, flow)))
    return out / PAGE
