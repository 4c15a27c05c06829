"""`evaluate` for run folders: loads what it needs, keeps the classifier and the result there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..data import Data, as_data
from ..data import load as load_data
from ..training import load, read_config
from ..training.files import write_json
from .features import Features, classifier_features, load_classifier, save_classifier, train_classifier
from .run import evaluate

RESULT, CLASSIFIER = "evaluation.json", "classifier.safetensors"


def evaluate_run(
    run: str | Path,
    reference: str | Path | None = None,
    *,
    data: Any = None,
    network: nn.Module | None = None,
    device: str = "cpu",
    **options: Any,
) -> dict[str, Any]:
    """`evaluate` on the flow map and the data of a run folder; the result is kept there as evaluation.json.

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
    result = evaluate(flow, data, labels=config["training"]["labels"], **options)
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
    if not (run / CLASSIFIER).is_file():
        save_classifier(train_classifier(data), run / CLASSIFIER)
    return classifier_features(load_classifier(run / CLASSIFIER))


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
    rows = evaluate(load(reference).to(device), data, labels=about["training"]["labels"], **options)["rows"]
    return [{"run": reference.name, **row} for row in rows]
