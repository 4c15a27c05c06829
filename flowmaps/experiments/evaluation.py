"""`evaluate` for run folders: loads what it needs, keeps the classifier and the result there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..data import Data, as_data
from ..data import load as load_data
from ..evaluate.features import (
    Classifier,
    Features,
    classifier_features,
    load_classifier,
    save_classifier,
    train_classifier,
)
from ..evaluate.guided import GuidedSampler, by_scale
from ..evaluate.run import evaluate as evaluate_flow
from ..files import write_json
from ..flow_map import FlowMap
from ..runs.folder import read_config
from ..runs.loading import load
from .guided_run import EVERYWHERE, MANY, Interval, guided_samplers, teacher_of

RESULT, CLASSIFIER = "evaluation.json", "classifier.safetensors"


def evaluate(
    run: str | Path,
    reference: str | Path | None = None,
    *,
    data: Any = None,
    network: nn.Module | None = None,
    device: str = "cpu",
    guidance: Sequence[float] | None = None,
    guidance_interval: Interval = EVERYWHERE,
    **options: Any,
) -> dict[str, Any]:
    """`evaluate` on the flow map and the data of a run folder; the result is kept there as evaluation.json.

    Of a run with guidance on images with classes, "guidance" is the table of `by_scale`, at the scales `guidance`
    (`guided_run.known_scales`); many steps of the reference, or else of the run's own teacher, are what the others
    are compared with.

    reference: another run on the same data. Its rows follow with "run", its folder's name; they are measured with the
    classifier of the first one. Of a reference that only learned the diagonal (flow matching) only ODE steps are
    measured. data: in place of the run's own, or where that was made from an object. network: where `load` needs it.
    options: of `evaluate`. Raises FileNotFoundError where there is no run or no checkpoint, ValueError for data that
    cannot be loaded again and for a reference on data of another shape.
    """
    run, data = Path(run), run_data(run) if data is None else as_data(data)
    flow = load(run, network).to(device)
    config = read_config(run)
    if data.kind == "images" and "features" not in options:
        options["features"] = run_features(run, data)
    steps = max(options.get("ode_steps", (MANY,)), default=MANY)
    beside = teacher_of(run) if reference is None else Path(reference)
    about = {"scales": guidance, "interval": guidance_interval, "steps": steps}
    guided, again = _guided(run, flow, data, beside, about)
    result = evaluate_flow(flow, data, labels=config["training"]["labels"], **options)
    if guided:
        kept = {name: options[name] for name in ("features", "n", "draws", "seed", "batch_size") if options.get(name)}
        result["guidance"] = {**again, **by_scale(guided, data, run_classifier(run, data), **kept)}
    if reference is not None:
        result["rows"] += _reference_rows(Path(reference), data, device, options)
    result["step"] = newest_step(run)
    write_json(run / RESULT, result)
    return result


def run_data(run: str | Path) -> Data:
    """The data of a run, loaded again. Raises ValueError where the run was given an object instead of a name."""
    about = read_config(run)["data"]
    if about["recipe"] is None:
        raise ValueError(f'the data of the run in {run}, "{about["name"]}", was made from an object: pass it as data=')
    data = load_data(**about["recipe"])
    # couplings have the law of the data, but another flow map
    return data if about.get("coupling") is None else replace(data, exact=None)


def run_features(run: Path, data: Data) -> Features:
    """The features by which images are compared: of the classifier kept in the run, trained now if there is none."""
    return classifier_features(run_classifier(run, data))


def run_classifier(run: Path, data: Data) -> Classifier:
    """The classifier kept in the run; trained now if there is none."""
    if not (run / CLASSIFIER).is_file():
        save_classifier(train_classifier(data), run / CLASSIFIER)
    return load_classifier(run / CLASSIFIER)


def _guided(
    run: Path, flow: FlowMap, data: Data, reference: Path | None, about: dict[str, Any]
) -> tuple[list[GuidedSampler], dict[str, Any]]:
    """The run's guided samplers, and what makes the same ones again. Raises ValueError where it has none and scales
    were asked for.
    """
    found = guided_samplers(run, flow, data, reference=reference, **about)
    if not found and about["scales"] is not None:
        raise ValueError(f"the run in {run} has no guidance, or its data are not images with classes")
    kept = {**about, "interval": list(about["interval"]), "scales": about["scales"] and list(about["scales"])}
    return found, {**kept, "reference": None if reference is None else str(reference)}


def guided_again(run: Path, flow: FlowMap, data: Data, found: Mapping[str, Any]) -> list[GuidedSampler]:
    """The samplers of the table "guidance" of an evaluation, in its order, but those of a reference that is gone."""
    reference = found["reference"] and Path(found["reference"])
    about = {"scales": found["scales"], "interval": tuple(found["interval"]), "steps": found["steps"]}
    kept = reference if reference and (reference / "config.json").is_file() else None
    return guided_samplers(run, flow, data, reference=kept, **about)


def newest_step(run: Path) -> int:
    """The step of the newest checkpoint."""
    return max(int(path.name.removeprefix("step_")) for path in (run / "checkpoints").glob("step_*"))


def read_evaluation(run: str | Path) -> dict[str, Any] | None:
    """evaluation.json, or None where there is none or it is older than the newest checkpoint."""
    path = Path(run) / RESULT
    if not path.is_file():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    return result if result.get("step") == newest_step(Path(run)) else None


def _reference_rows(reference: Path, data: Data, device: str, options: dict[str, Any]) -> list[dict[str, Any]]:
    about = read_config(reference)
    if tuple(about["data"]["shape"]) != tuple(data.shape):
        expected, got = tuple(data.shape), tuple(about["data"]["shape"])
        raise ValueError(f"a reference must be a run on data of shape {expected}, and {reference} has {got}")
    if about["method"]["name"] == "flow_matching":
        options = {**options, "jumps": ()}
    rows = evaluate_flow(load(reference).to(device), data, labels=about["training"]["labels"], **options)["rows"]
    return [{"run": reference.name, **row} for row in rows]
