"""The data of a run, and other data with the classes of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from ..data import Data, as_data
from ..data.class_names import Numbering
from ..data.folder import folder_order_changed
from ..data.load import load, load_again
from ..data.standardise import with_units
from ..flow_map import FlowMap
from ..runs.folder import read_config
from ..runs.loading import read_columns, read_signal, read_vocabulary
from .build import is_path
from .sample_files import TABLES
from .trained_run import units_of_model


def run_data(run: str | Path) -> Data:
    """Load the data of a run again.

    Args:
        run: The run folder.

    Returns:
        The data, with classes in the order of the run and standardised like the run; without the exact distribution if
        the run has another flow map, because it was trained on couplings or post-trained on a reward.

    Raises:
        ValueError: The data of the run were made from an object instead of a name.
    """
    config = read_config(run)
    about = config["data"]
    if about["recipe"] is None:
        raise ValueError(f'the data of the run in {run}, "{about["name"]}", was made from an object: pass it as data=')
    where = f"{Path(run) / 'config.json'}: data.recipe"
    data = load_again(about["recipe"], where)
    if "class_names" not in about and folder_order_changed(data.class_names or (), data.recipe):
        data = load_again({**about["recipe"], "class_names": sorted(data.class_names or ())}, where)
    data = with_units(data, units_of_model(run))
    another = about.get("coupling") is not None or config["notes"].get("post_training") is not None
    return replace(data, exact=None) if another else data


def given_data(run: str | Path, data: Any) -> Data:
    """The data that take the place of the data of a run, with its classes and standardised like the run."""
    columns = read_columns(read_config(run), Path(run) / "config.json")
    if columns is not None and isinstance(data, str | PathLike) and Path(data).suffix.lower() in TABLES:
        data = load(Path(data), columns=columns.numbers, categories=dict(columns.categories), standardise=False)
    return with_classes_of(run, with_units(as_data(data, standardise=False), units_of_model(run)))


def with_classes_of(run: str | Path, data: Data) -> Data:
    """Give the classes of a data set the numbers that they have in a run.

    Args:
        run: The run folder.
        data: The data set.

    Returns:
        The data set with the classes of the run; itself if the run takes no labels, or its classes have these numbers.

    Raises:
        ValueError: A class of the data is none of the run.
    """
    config = read_config(run)
    about = config["data"]
    _check_vocabulary(Path(run), config, data)
    _check_signal(Path(run), config, data)
    columns = read_columns(config, Path(run) / "config.json")
    if columns is not None and data.columns not in (None, columns):
        raise ValueError(
            f"the columns of {data.name} differ from the ones of {run}: load the data with columns=[...] and "
            "categories={name: [...]} of the run, as in its config.json"
        )
    if not config["training"]["labels"] or data.classes is None:
        return data
    names = _class_names(run, about) if data.class_names is not None else ()
    if names is None and data.classes == about["classes"]:
        return data
    advice = "rename the classes of the data, or give rows with the run's own labels as (tensor, labels)"
    return Numbering(str(run), about["classes"], dict(enumerate(names or ())), advice=advice).fit(data)


def _check_vocabulary(run: Path, config: Mapping[str, Any], data: Data) -> None:
    """Raise ValueError if tokens of the data mean other texts than in a run."""
    known = read_vocabulary(config, run / "config.json")
    if known is not None and data.vocabulary is not None and known != data.vocabulary:
        raise ValueError(
            f"the tokens of {data.name} differ from the ones of {run}: load the text with the vocabulary of the "
            "run, whose symbols are in its config.json"
        )


def _check_signal(run: Path, config: Mapping[str, Any], data: Data) -> None:
    """Raise ValueError if frames of the data mean other sound than in a run."""
    known = read_signal(config, run / "config.json")
    if known is not None and data.signal is not None and known != data.signal:
        raise ValueError(
            f"frames of {data.name} are of {data.signal}, and the ones of {run} of {known}: load the recordings with "
            "this rate and transform"
        )


def with_classes_of_all(models: Iterable[Any], data: Data) -> Data:
    """Give the classes of a data set the numbers that they have in the runs that another run starts from.

    Args:
        models: Run folders, and flow maps, whose classes have no names. Others know no classes.
        data: The data set.

    Returns:
        The data set with the classes of the runs.

    Raises:
        ValueError: A class of the data is none of a run, or the runs have different numbers.
    """
    models = list(models)
    runs = [Path(model) for model in models if is_path(model)]
    for run in runs:
        data = with_classes_of(run, data)
    for flow in models:
        if isinstance(flow, FlowMap) and data.classes is not None and (count := classes_of(flow)):
            names = flow.trained.class_names if flow.trained is not None else None
            if names or data.classes != count:
                advice = "rename the classes of the data, or give rows with the model's own labels as (tensor, labels)"
                data = Numbering("the flow map", count, dict(enumerate(names or ())), advice=advice).fit(data)
    for run in runs:
        if with_classes_of(run, data) is not data:
            raise ValueError(f"{runs[0]} and {runs[-1]} number their classes differently, so they do not fit together")
    return data


def with_all_classes_of(model: Any, data: Data) -> Data:
    """Give a data set with labels of some classes of a model the number of all its classes.

    The null class of guidance is the number after the last class, the same in data and model.

    Args:
        model: Run folder or flow map; any other model, and None, changes nothing.
        data: The data set, with the numbers of the model's classes.

    Returns:
        The data set.
    """
    count = classes_of(model) if isinstance(model, FlowMap) or is_path(model) else None
    if count is None or data.classes is None or data.classes >= count:
        return data
    return replace(data, classes=count, class_names=None)


def classes_of(model: str | PathLike[str] | FlowMap) -> int | None:
    """The number of classes that a run or a flow map was trained with; None without labels, or if it is not known."""
    if isinstance(model, FlowMap):
        return None if model.trained is None else model.trained.classes
    config = read_config(Path(model))
    return config["data"]["classes"] if config["training"]["labels"] else None


def _class_names(run: str | Path, about: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The class names of a run; None if they are unknown, as runs of version 0.1.0 do not hold them."""
    if "class_names" in about:
        return tuple(about["class_names"] or ())
    try:
        return run_data(run).class_names or ()
    except (ValueError, OSError, ImportError):
        return None
