"""Training into a run folder, and the resulting run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from ..data import Data, as_data
from ..data import load as load_data
from ..data.standardise import with_units
from ..evaluate.clip_measures import MotionRow
from ..flow_map import FlowMap
from ..method.method import Method
from ..runs.folder import Run, read_config
from ..runs.loading import load, read_units
from ..training import State
from ..training import train as train_flow
from ..training.config import LearningConfig, check_names, clock_of, names
from ..units import Units
from .forecast import Forecast

Say = Callable[[str], None]
LEARNING = names(LearningConfig)
"""Names of the training settings that all methods of a comparison share."""


def silent(text: str) -> None:
    """Drop a message: the default `say` of experiments."""


@dataclass(frozen=True)
class TrainedRun:
    """A trained run; it can be used as a path wherever a run folder is expected.

    Args:
        folder: The run folder.
        steps: Number of steps taken in this call; 0 if the run was already complete.
        state: The state after the last step, with the flow map in training and the averaged one. None: no steps.
        motion: After the distillation of a video model, the motion of its clips beside the teacher's.
    """

    folder: Path
    steps: int = 0
    state: State | None = field(default=None, repr=False)
    motion: Sequence[MotionRow] = field(default=(), repr=False, kw_only=True)

    def __fspath__(self) -> str:
        """The path of the folder, for `Path(run)`."""
        return str(self.folder)

    __str__ = __fspath__

    @property
    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        return read_config(self.folder)

    @cached_property
    def flow(self) -> FlowMap:
        """The flow map with averaged weights, loaded from the folder."""
        return load(self.folder)


def train_into(
    folder: str | Path, flow: FlowMap, method: Method, data: Data, say: Say = silent, **settings: Any
) -> TrainedRun:
    """Train a flow map into a run folder.

    Args:
        folder: The run folder.
        flow: The flow map, trained in place.
        method: The method.
        data: The data set.
        say: Receives a line with the size of the network, and one with the expected time of a long training.
        **settings: As for `flowmaps.train`.

    Returns:
        The run.
    """
    weights = sum(weight.numel() for weight in flow.parameters())
    learned = sum(weight.numel() for weight in flow.parameters() if weight.requires_grad)
    some = f", {learned:,} of them trained" if learned < weights else ""
    say(f"{method.name} on {data.name}: a network of {weights:,} weights{some}, run folder {folder}")
    steps, last = 0, None
    on_cpu = device(settings.get("device")).startswith("cpu")
    forecast = Forecast(say, settings.get("steps"), settings.get("seconds"), on_cpu, clock_of(settings.get("clock")))
    for state in train_flow(flow, method, data, out=folder, **settings):
        steps, last = steps + 1, state
        forecast.after(state.step)
    return TrainedRun(Path(folder), steps, last)


def settings_of_training() -> dict[str, Any]:
    """The keyword arguments of `flowmaps.train` with their defaults."""
    parameters = inspect.signature(train_flow).parameters.values()
    return {item.name: item.default for item in parameters if item.kind is item.KEYWORD_ONLY}


def check_settings(name: str, settings: Mapping[str, Any], known: Iterable[str] | None = None) -> None:
    """Raise TypeError for unknown keyword arguments before any work is done.

    Args:
        name: Name of the experiment in the message.
        settings: The keyword arguments.
        known: Names that it takes. None: the settings of `flowmaps.train`.

    Raises:
        TypeError: One of them is unknown.
    """
    words = [word for word in (settings_of_training() if known is None else known) if word not in ("out", "labels")]
    check_names(name, settings, words)


def data_of(data: Any, data_args: Mapping[str, Any] | None = None) -> Data:
    """Load or wrap the data of an experiment.

    Args:
        data: A name, folder or file as for `flowmaps.data.load`, a `Data`, or anything that `data.as_data` takes.
        data_args: Options of a data set that is given by name.

    Returns:
        The data set.

    Raises:
        ValueError: Options are given for an object, or the data set does not take them.
    """
    if isinstance(data, str | Path):
        return load_data(data, **(data_args or {}))
    if data_args and set(data_args) <= {"standardise"}:
        return as_data(data, **data_args)
    if data_args:
        raise ValueError(f"`data_args` are for a data set that is given by name, not for a {type(data).__name__}")
    return as_data(data)


def rows_in_units(data: Data, models: Iterable[Any], run: Path | None = None) -> Data:
    """The data set in the units of the models that training starts or learns from, or of the run that goes on.

    Args:
        data: The data set.
        models: Run folders, flow maps or other teachers; None entries are left out.
        run: The run folder that is resumed. None: a new run.

    Returns:
        The data set, standardised like the models, or like the run; with its own units if there are neither.

    Raises:
        ValueError: The models have different units, or another number of features than the data.
    """
    found = [units_of_model(model) for model in models if isinstance(model, (FlowMap, str, PathLike))]
    if run is not None and (run / "config.json").is_file():
        return with_units(data, units_of_model(run))
    if not found:
        return data
    if any(units != found[0] for units in found):
        raise ValueError(
            "the models that this training starts and learns from were trained on data in different units: train "
            "them on the same data set, or with the data option standardise=False"
        )
    return with_units(data, found[0])


def units_of_model(model: str | PathLike[str] | FlowMap) -> Units | None:
    """The units of a run or of a flow map; None for data that are not standardised."""
    if isinstance(model, FlowMap):
        return model.units
    run = Run(Path(model))
    return read_units(read_config(run.path), run.config)


def device(wanted: Any = None) -> str:
    """The device that experiments compute on: the one that is asked for, else the GPU if there is one."""
    return str(wanted) if wanted is not None else "cuda" if torch.cuda.is_available() else "cpu"
