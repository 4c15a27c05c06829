"""Evaluate the flow map of a run folder; the classifier and the result are kept in the folder."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..arguments import device_of, finite, numbered
from ..data import Data
from ..data.class_names import listed
from ..data.labels import uses_labels
from ..evaluate.features import (
    Classifier,
    Features,
    classifier_features,
    is_classified,
    load_classifier,
    save_classifier,
    train_classifier,
)
from ..evaluate.guided import GuidedSampler, by_scale
from ..evaluate.run import evaluate as evaluate_flow
from ..evaluate.size import say_fewer, size_of
from ..flow_map import FlowMap
from ..runs.folder import read_config
from ..runs.loading import LoadedFlow, load_with_step
from ..runs.records import EVALUATION, write_evaluation
from .checks import folder_of
from .guide import time_interval
from .guided_run import EVERYWHERE, MANY, TimeInterval, guided_samplers, teacher_of
from .run_data import given_data, run_data, with_classes_of
from .run_folder import EVALUATIONS, locked
from .trained_run import check_settings

OPTIONS = (
    *(name for name in inspect.signature(evaluate_flow).parameters if name not in ("flow", "data", "labels")),
    "device", "guidance", "guidance_interval",
)  # fmt: skip
"""Names of the options of `measure`."""
CLASSIFIER = "classifier.safetensors"
"""File in a run folder with the classifier for its evaluations."""
WRITTEN = (EVALUATION, CLASSIFIER)
"""Files in a run folder that an evaluation writes."""


@locked("evaluating it", EVALUATIONS, *WRITTEN)
def evaluate(
    run: str | Path,
    reference: str | Path | None = None,
    *,
    data: Any = None,
    network: nn.Module | None = None,
    device: str = "cpu",
    guidance: Sequence[float] | None = None,
    guidance_interval: TimeInterval = EVERYWHERE,
    **options: Any,
) -> dict[str, Any]:
    """Evaluate the flow map of a run folder on its data; the result is kept in the folder as evaluation.json.

    For a guided run on images with classes, "guidance" is the table of `evaluate.by_scale`. Its samplers are compared
    with many steps of the reference, or else of the run's own teacher.

    Args:
        run: The run folder.
        reference: Another run on the same data. Its rows follow with "run", the name of its folder; they are measured
            with the classifier of the first run. If it learned only the diagonal (flow matching), only ODE steps are
            measured.
        data: Data instead of the data of the run; needed if these were made from an object.
        network: The network, if the run cannot build it.
        device: The device to sample on.
        guidance: The guidance scales. None: `guided_run.known_scales`.
        guidance_interval: The times between which guidance acts.
        **options: As for `fm.evaluate.evaluate`.

    Returns:
        The result of `fm.evaluate.evaluate` with "step" and "ema" of the weights that were measured, and "reference"
        with the same of the reference.

    Raises:
        BlockingIOError: Another process evaluates the run; the message names it.
        FileNotFoundError: The folder has no run or no checkpoint.
        ValueError: The data cannot be loaded again, the reference is a run on data of another shape, or scales are
            given for a run without guidance.
    """
    run = folder_of(run)
    options |= {"device": device, "guidance": guidance, "guidance_interval": guidance_interval}
    options = checked_options(options)
    data = run_data(run) if data is None else given_data(run, data)
    return measure(run, load_with_step(run, network), data, reference, **options)


def measure(
    run: Path,
    loaded: LoadedFlow,
    data: Data,
    reference: str | Path | None = None,
    *,
    device: str = "cpu",
    guidance: Sequence[float] | None = None,
    guidance_interval: TimeInterval = EVERYWHERE,
    **options: Any,
) -> dict[str, Any]:
    """Evaluate weights that are loaded already, as `evaluate` does, and keep the result in the run folder.

    Args:
        run: The run folder.
        loaded: Its flow map, with the step of the checkpoint that was read.
        data: The data.
        reference: As for `evaluate`, like the other options.
        device: The device to sample on.
        guidance: The guidance scales.
        guidance_interval: The times at which guidance acts.
        **options: As for `fm.evaluate.evaluate`.

    Returns:
        The result, as of `evaluate`.

    Raises:
        ValueError: As `evaluate`.
    """
    other = None if reference is None else _reference(folder_of(reference, "reference"), data)
    flow, config = loaded.flow.to(device), read_config(run)
    options |= {} if "features" in options else compared_by(run, data)
    options |= _sized(flow, data, config, options)
    steps = max(options.get("ode_steps") or (MANY,))
    beside = teacher_of(run) if reference is None else folder_of(reference, "reference")
    about = {"scales": guidance, "interval": guidance_interval, "steps": steps}
    guided, again = _guided(run, flow, data, beside, about)
    result = evaluate_flow(flow, data, labels=config["training"]["labels"], **options)
    if guided:
        kept = {name: options[name] for name in ("features", "n", "draws", "seed", "batch_size") if options.get(name)}
        result["guidance"] = {**again, **by_scale(guided, data, run_classifier(run, data), **kept)}
    if other is not None:
        result["rows"] += _reference_rows(other, data, device, options)
        result["reference"] = {"run": other.name, **other.loaded.about}
    result |= loaded.about
    return write_evaluation(run / EVALUATION, result)


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check the options of `measure` before any work is done.

    Args:
        options: The options by name.

    Returns:
        The options.

    Raises:
        TypeError: An option is unknown, or of another type.
        ValueError: There is no such device, a guidance scale is not finite, or the times are no interval.
    """
    check_settings("evaluate", options, OPTIONS)
    checked = dict(options)
    if "device" in options:
        checked["device"] = device_of(options["device"])
    if options.get("guidance") is not None:
        checked["guidance"] = scales_to_measure(options["guidance"])
    if "guidance_interval" in options:
        checked["guidance_interval"] = time_interval(options["guidance_interval"])
    return checked


def scales_to_measure(scales: Sequence[float]) -> list[float]:
    """Check the guidance scales of an evaluation.

    Args:
        scales: The scales.

    Returns:
        The scales.

    Raises:
        TypeError: These are no numbers in a list.
        ValueError: A scale is not finite.
    """
    finite(**numbered(guidance=scales))
    return list(scales)


def compared_by(run: Path, data: Data) -> dict[str, Features]:
    """The option "features" of evaluations, of the run's classifier; empty for data that are compared without one."""
    known = data.kind == "images" or is_classified(data)
    return {"features": classifier_features(run_classifier(run, data))} if known else {}


def run_classifier(run: Path, data: Data) -> Classifier:
    """The classifier in the run folder, trained on the data now if it is missing."""
    if not (run / CLASSIFIER).is_file():
        save_classifier(train_classifier(data), run / CLASSIFIER)
    return load_classifier(run / CLASSIFIER)


def _guided(
    run: Path, flow: FlowMap, data: Data, reference: Path | None, about: dict[str, Any]
) -> tuple[list[GuidedSampler], dict[str, Any]]:
    """The guided samplers of a run, and the arguments to make them again."""
    found = guided_samplers(run, flow, data, reference=reference, **about)
    if not found and about["scales"] is not None:
        raise ValueError(f"the run in {run} has no guidance, or its data are not images with classes")
    kept = {**about, "interval": list(about["interval"]), "scales": about["scales"] and list(about["scales"])}
    return found, {**kept, "reference": None if reference is None else str(reference)}


def guided_again(run: Path, flow: FlowMap, data: Data, found: Mapping[str, Any]) -> list[GuidedSampler]:
    """Make the samplers of an evaluation again.

    Args:
        run: The run folder.
        flow: Its flow map.
        data: Its data.
        found: The table "guidance" of its evaluation.

    Returns:
        The samplers in the order of the table, without the reference's samplers if its run is gone.
    """
    reference = found["reference"] and Path(found["reference"])
    about = {"scales": found["scales"], "interval": tuple(found["interval"]), "steps": found["steps"]}
    kept = reference if reference and (reference / "config.json").is_file() else None
    return guided_samplers(run, flow, data, reference=kept, **about)


def _sized(flow: FlowMap, data: Data, config: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Rows and draws where `quick` or a large network reduces them: for the run, its reference and its scales alike."""
    given = {name: options.get(name) for name in ("jumps", "ode_steps", "n", "draws")}
    quick = bool(options.get("quick"))
    size = size_of(flow, data, uses_labels(flow.network, data, config["training"]["labels"]), quick, **given)
    say_fewer(options.get("say"), size)
    return {"n": size.n, "draws": size.draws} if quick or size.fewer else {}


@dataclass(frozen=True)
class _Reference:
    """A run to compare with: the name of its folder, its configuration and its flow map."""

    name: str
    config: Mapping[str, Any]
    loaded: LoadedFlow


def _reference(run: Path, data: Data) -> _Reference:
    """Load a reference. Raises ValueError unless it is a run on data of the same shape."""
    config = read_config(run)
    if tuple(config["data"]["shape"]) != tuple(data.shape):
        expected, got = tuple(data.shape), tuple(config["data"]["shape"])
        raise ValueError(f"a reference must be a run on data of shape {expected}, and {run} has {got}")
    if with_classes_of(run, data) is not data:
        raise ValueError(
            f"a reference must have the classes of the data in the same order: the classes of {run} are "
            f"{listed(config['data'].get('class_names') or ())}, and the classes of {data.name} are "
            f"{listed(data.class_names or ())}"
        )
    return _Reference(run.name, config, load_with_step(run))


def _reference_rows(other: _Reference, data: Data, device: str, options: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a reference run, each with the name of the run."""
    if other.config["method"]["name"] == "flow_matching":
        options = {**options, "jumps": ()}
    flow, labels = other.loaded.flow.to(device), other.config["training"]["labels"]
    return [{"run": other.name, **row} for row in evaluate_flow(flow, data, labels=labels, **options)["rows"]]
