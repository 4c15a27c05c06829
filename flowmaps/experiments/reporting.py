"""Reports of run folders: gather the content of a page, draw it, and write report.html."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ..data import Data
from ..figures.comparison import Document
from ..files import read_json, write_text
from ..flow_map import FlowMap
from ..reports import Comparison, Material, comparison_page, run_page
from ..runs.folder import read_config
from ..runs.likelihood_record import read_likelihood_record
from ..runs.loading import load, load_with_step
from ..runs.records import read_evaluation, thinned_metrics
from ..runs.steering_record import read_steered_record
from .checks import folder_of
from .evaluation import WRITTEN, checked_options, guided_again, measure
from .exploring import PAGE as EXPLORED
from .guided_run import baked_scale
from .run_data import given_data, run_data
from .run_folder import EVALUATIONS, locked

PAGE = "report.html"


@locked("evaluating it", EVALUATIONS, *WRITTEN, PAGE)
def report(
    run: str | Path,
    reference: str | Path | None = None,
    *,
    data: Any = None,
    network: nn.Module | None = None,
    **options: Any,
) -> Path:
    """Write report.html into a run folder: one self-contained page.

    The run is evaluated first if its evaluation.json is missing, damaged, of another step than the weights or without
    the reference, or if there are options besides `say`.

    Args:
        run: The run folder.
        reference: Another run on the same data, to compare with by samples of many steps.
        data: Data instead of the data of the run; needed if these were made from an object.
        network: The network, if the run cannot build it.
        **options: As for `evaluate` of flow maps.

    Returns:
        The path of the page.

    Raises:
        BlockingIOError: Another process evaluates the run; the message names it.
        FileNotFoundError: The folder has no run or no checkpoint.
        ValueError: The data cannot be loaded again, or the reference is a run on data of another shape.
        ImportError: jinja2 or matplotlib is not installed.
    """
    run = folder_of(run)
    other = None if reference is None else folder_of(reference, "reference").name
    options = checked_options(options)
    asked = options.keys() - {"say"}
    loaded = load_with_step(run, network)
    source = run_data(run) if data is None else given_data(run, data)
    evaluation = read_evaluation(run, loaded.step)
    if evaluation is None or asked or (other is not None and not _has(evaluation, other)):
        evaluation = measure(run, loaded, source, reference, **options)
    flow, config = loaded.flow.to("cpu").float(), read_config(run)
    found = evaluation.get("guidance")
    samplers = guided_again(run, flow, source, found) if found else ()
    usual = baked_scale(flow) or 1.0
    steered, densities = read_steered_record(run), read_likelihood_record(run)
    explored = EXPLORED if (run / EXPLORED).exists() else ""
    metrics = thinned_metrics(run)
    material = Material(flow, source, evaluation, config, metrics, samplers, usual, steered, densities, explored)
    write_text(run / PAGE, run_page(material))
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

    settings = read_json(out / "comparison.json")
    metrics = {name: thinned_metrics(out / name) for name in document["methods"]}
    write_text(out / PAGE, comparison_page(Comparison(document, data, settings, metrics, flow)))
    return out / PAGE
