"""Loading the flow map of a run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from ..arguments import expect_path, shown, truth
from ..data import Columns, Coordinates, Vocabulary
from ..distributed.shards import part_shapes
from ..files import tensor_shapes
from ..flow_map import FlowMap
from ..manifolds import Manifold
from ..path import Geodesic
from ..path import Path as ProbabilityPath
from ..sequences import Signal
from ..serialise import build, check_arguments, shown_value
from ..trained import TrainedSpec
from ..units import Units
from . import flow_file
from .checkpoint_reading import read_latest, read_model
from .folder import FLOW, Run, read_config
from .outline import check_outline

E = TypeVar("E")


@dataclass(frozen=True)
class LoadedFlow:
    """A flow map with the checkpoint that its weights were read from.

    Attributes:
        flow: The flow map, on the CPU, in evaluation mode.
        step: Number of training steps of the checkpoint.
        ema: Whether the weights are the averaged ones.
    """

    flow: FlowMap
    step: int
    ema: bool

    @property
    def about(self) -> dict[str, Any]:
        """The step and the kind of the weights, for records of measurements."""
        return {"step": self.step, "ema": self.ema}


def load(run: str | Path, network: nn.Module | None = None, *, ema: bool = True) -> FlowMap:
    """Load the flow map of a run folder, from its newest valid checkpoint, or of a file that `fm.save` wrote.

    Nothing is unpickled, and nothing is downloaded: a network that was read from the folder of a pipeline is read from
    its safetensors again, and one from the Hugging Face hub from the local cache. A checkpoint whose weights are
    damaged is skipped with a warning. Only the file with these weights is read and checked.

    Args:
        run: The run folder, or the file.
        network: The network, if it is not part of flowmaps; a whole FlowMap if its output or path is not part of
            flowmaps. None: built from its description.
        ema: Whether to load the averaged weights instead of the trained weights. A file has one kind of weights.

    Returns:
        The flow map, on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: If there is no run or no checkpoint.
        OSError: If the network refers to the folder of a pretrained model, and that folder is missing or has no
            safetensors.
        ValueError: If all checkpoints or the file are damaged, `network` is needed, or the weights do not match it.
    """
    expect_path("run", run)
    return load_file(Path(run), network) if Path(run).is_file() else load_with_step(run, network, ema=ema).flow


def load_file(path: Path, network: nn.Module | None = None) -> FlowMap:
    """Load the flow map of a file that `fm.save` wrote. It has the arguments and errors of `load`."""
    _check_network(network)
    about = flow_file.read(path)
    if not isinstance(network, FlowMap):
        check_outline(lambda: rebuild(about["flow"], network, path), tensor_shapes(path), path, path)
    weights = flow_file.read_weights(path, about["sha256"])
    return filled(_made(about, network, path), weights, path)


def load_with_step(run: str | Path, network: nn.Module | None = None, *, ema: bool = True) -> LoadedFlow:
    """Load a flow map as `load` does, with the step of the checkpoint that was read.

    Args:
        run: The run folder.
        network: As for `load`.
        ema: As for `load`.

    Returns:
        The flow map and its step. A damaged newest checkpoint, or one that is written meanwhile, does not count.

    Raises:
        FileNotFoundError: As `load`.
        OSError: As `load`.
        ValueError: As `load`.
    """
    expect_path("run", run)
    truth(ema=ema)
    _check_network(network)
    config = read_config(run)
    name, file = "ema" if ema else "flow", Run(Path(run)).config

    def read(path: Path, state: dict[str, Any]) -> tuple[Path, dict[str, Any], dict[str, Tensor]]:
        if not isinstance(network, FlowMap):
            check_outline(lambda: rebuild(config["flow"], network, file), part_shapes(path, name), path, file)
        return path, state, read_model(path, name)

    found = read_latest(Run(Path(run)).checkpoints, (name,), read)
    if found is None:
        raise FileNotFoundError(f"the run in {run} has no checkpoint yet")
    path, state, weights = found
    flow = _made(config, network, file)
    return LoadedFlow(filled(flow, weights, path), state["step"], ema)


def _check_network(network: Any) -> None:
    """Raise TypeError for a network that is no module."""
    if network is not None and not isinstance(network, nn.Module):
        raise TypeError(f"network must be a module, or a whole FlowMap, got {shown(network)}")


def _made(config: Mapping[str, Any], network: nn.Module | None, file: Path) -> FlowMap:
    """Make the described flow map, or take a whole one; it gets the record of training and the units."""
    flow = network if isinstance(network, FlowMap) else rebuild(config["flow"], network, file)
    flow.trained, flow.units = read_trained(config["flow"], file), read_units(config, file)
    return flow


def filled(flow: FlowMap, weights: dict[str, Tensor], path: Path) -> FlowMap:
    """Load weights into a flow map in their own precision, and put it into evaluation mode."""
    for name, value in flow.state_dict(keep_vars=True).items():
        value.data = value.data.to(weights[name].dtype if name in weights else value.dtype)
    try:
        flow.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit this network: {' '.join(str(error).split())}") from None
    return flow.eval()


def read_units(config: Mapping[str, Any], file: Path) -> Units | None:
    """The units of the data in the content of a config.json, or of the description of a flow map in a file.

    Args:
        config: The content.
        file: The file, for messages.

    Returns:
        The units; None for data that are not standardised, as in all runs of earlier versions.

    Raises:
        ValueError: The entry is broken.
    """

    def check(units: Units) -> None:
        if "data" in config:
            units.check(tuple(config["data"]["shape"]), config["data"]["name"])

    return _entry(config["flow"], "flow.units", Units, "a units.Units", check, file)


def read_vocabulary(config: Mapping[str, Any], file: Path) -> Vocabulary | None:
    """The vocabulary of the data in the content of a config.json.

    Args:
        config: The content.
        file: The file, for messages.

    Returns:
        The vocabulary; None for data that are no tokens, or tokens without texts.

    Raises:
        ValueError: The entry is broken.
    """
    about = config["data"]

    def check(vocabulary: Vocabulary) -> None:
        if vocabulary.size != about["shape"][-1]:
            raise ValueError(f"data.vocabulary has {vocabulary.size} tokens, and rows have {about['shape'][-1]}")

    words = "a vocabulary of `flowmaps.data`"
    return _entry(about, "data.vocabulary", Vocabulary, words, check, file)  # type: ignore[type-abstract]


def read_columns(config: Mapping[str, Any], file: Path) -> Columns | None:
    """The columns of the data in the content of a config.json.

    Args:
        config: The content.
        file: The file, for messages.

    Returns:
        The columns; None for data without columns of categories.

    Raises:
        ValueError: The entry is broken.
    """
    about = config["data"]

    def check(columns: Columns) -> None:
        if [columns.width] != about["shape"]:
            raise ValueError(f"data.columns are rows of {columns.width}, and the rows of the data {about['shape']}")

    return _entry(about, "data.columns", Columns, "a data.Columns", check, file)


def read_coordinates(config: Mapping[str, Any], file: Path) -> Coordinates | None:
    """The coordinates of the points in the content of a config.json.

    Args:
        config: The content.
        file: The file, for messages.

    Returns:
        The coordinates; None for data that are no points on a manifold, or points without other coordinates.

    Raises:
        ValueError: The entry is broken.
    """
    about = config["data"]

    def check(coordinates: Coordinates) -> None:
        if [coordinates.manifold.size] != about["shape"]:
            raise ValueError(
                f"data.coordinates are of points of {coordinates.manifold.size} numbers, and rows are {about['shape']}"
            )

    words = "coordinates of `flowmaps.data`"
    return _entry(about, "data.coordinates", Coordinates, words, check, file)  # type: ignore[type-abstract]


def read_signal(config: Mapping[str, Any], file: Path) -> Signal | None:
    """The signal of the data in the content of a config.json.

    Args:
        config: The content.
        file: The file, for messages.

    Returns:
        The signal; None for data that are no frames of sound.

    Raises:
        ValueError: The entry is broken.
    """
    about = config["data"]

    def check(signal: Signal) -> None:
        if len(about["shape"]) != 2 or signal.bins != about["shape"][1]:
            raise ValueError(f"data.signal has frames of {signal.bins} numbers, and rows have shape {about['shape']}")

    return _entry(about, "data.signal", Signal, "a sequences.Signal", check, file)


def read_manifold(config: Mapping[str, Any], file: Path) -> Manifold | None:
    """The manifold of the path in the content of a config.json.

    Args:
        config: The content.
        file: The file, for messages.

    Returns:
        The manifold; None for a path in R^n.

    Raises:
        ValueError: The entry is broken.
    """
    words = "a path of `flowmaps.path`"
    path = _entry(config["flow"], "flow.path", ProbabilityPath, words, lambda path: None, file)  # type: ignore[type-abstract]
    return path.manifold if isinstance(path, Geodesic) else None


def _entry(
    about: Mapping[str, Any], name: str, kind: type[E], words: str, check: Callable[[E], None], file: Path
) -> E | None:
    """Build an entry of a config.json.

    Args:
        about: The part of the content that holds the entry.
        name: Name of the entry, behind the name of its part and a point.
        kind: Class of the entry.
        words: The class in words, for messages.
        check: Function that raises ValueError for an entry that does not fit the rest.
        file: The file, for messages.

    Returns:
        The entry; None if it is missing or null.

    Raises:
        ValueError: It is broken, of another class, or does not fit.
    """
    try:
        found = build(about.get(name.partition(".")[2]), name)
        if found is None:
            return None
        if not isinstance(found, kind):
            raise ValueError(f"{name} must be {words}, got {shown_value(found)}")
        check(found)
    except ValueError as error:
        raise ValueError(f"{file} cannot be used: {error}") from None
    return found


def rebuild(config: dict[str, Any], network: nn.Module | None, file: Path) -> FlowMap:
    """Build a flow map from the "flow" entry of config.json, with untrained weights.

    Args:
        config: The entry.
        network: The network to use instead of the described one. None: the described one.
        file: The config.json, for messages.

    Returns:
        The flow map.

    Raises:
        ValueError: If a described part does not belong to flowmaps, or the description is broken.
        OSError: If the pretrained model of the network cannot be loaded.
    """
    left = ("trained", "units") if network is None else ("trained", "units", "network")
    parts = {name: config.get(name) for name in FLOW if name not in left}
    for name, part in parts.items():
        if isinstance(part, dict) and "unknown" in part:
            instead = "network=" if name == "network" else "a whole FlowMap as network="
            raise ValueError(
                f"the {name} of this {'run' if file.name == 'config.json' else 'file'} is not part of flowmaps and "
                f"cannot be rebuilt from a file: pass {instead} "
                f"({shown_value(part['unknown'])})"
            )
    try:
        built = {name: build(part, f"flow.{name}") for name, part in parts.items()}
        built = {"network": network, **built}
        check_arguments(FlowMap, "FlowMap", built, "flow")
        for name in ("only_source", "only_target"):
            if built[name] is not None and not 0 <= built[name] <= 1:
                raise ValueError(f"flow.{name} must be a time in [0, 1], got {built[name]}")
    except ValueError as error:
        raise ValueError(f"{file} cannot be used: {error}") from None
    except OSError as error:
        raise type(error)(
            f"the pretrained model of this run cannot be loaded: {error}. If it has moved, pass a whole FlowMap around "
            "it as network="
        ) from error
    return FlowMap(**built)


def read_trained(config: dict[str, Any], file: Path) -> TrainedSpec | None:
    """Read the record of training from the "flow" entry of config.json; None in runs of earlier versions."""
    try:
        trained = build(config.get("trained"), "flow.trained")
        if not isinstance(trained, TrainedSpec | None):
            raise ValueError(f"flow.trained must be a TrainedSpec, got {shown_value(trained)}")
    except ValueError as error:
        raise ValueError(f"{file} cannot be used: {error}") from None
    return trained
