"""From names and plain values to methods, networks and flow maps."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeGuard

import torch
from torch import nn

from ..arguments import at_least, did_you_mean, expect_path, shown
from ..data import Data
from ..flow_map import FlowMap
from ..method.method import Method
from ..methods import LANDSCAPE, Row
from ..methods.landscape import row_named
from ..networks import MLP, DiT, UNet
from ..outputs import Endpoint, GaussianSkip, Output, Position, average_velocity
from ..recipes import flow_for
from ..runs.loading import load

NetworkName = Literal["auto", "mlp", "dit", "unet"]
OutputName = Literal["auto", "average-velocity", "endpoint", "position", "gaussian-skip"]
MethodLike = str | Row | Method | Callable[..., Method]
"""A method: its name, its row of the landscape, its function, or the method itself."""
ModelLike = str | PathLike[str] | FlowMap
"""A flow map, or the folder of its run."""


def row_of(method: MethodLike) -> Row:
    """Find the row of the landscape of a method.

    Args:
        method: Its name, its row, its function, or the method itself.

    Returns:
        The row.

    Raises:
        TypeError: It is something else.
        ValueError: The method is unknown; the message has the closest names.
    """
    if isinstance(method, Row):
        return method
    if not isinstance(method, str | Method) and not callable(method):
        raise TypeError(f"a method is a name such as 'imf', a function of fm.methods or a Method, got {shown(method)}")
    if not isinstance(method, str | Method):
        return next((row for row in LANDSCAPE if row.build is method), None) or row_of(getattr(method, "__name__", "?"))
    name = method if isinstance(method, str) else method.name
    return row_named(name)


def rows_of(methods: Sequence[MethodLike]) -> list[Row]:
    """Find the rows of several methods, each once. Raises ValueError for an unknown method and for an empty list."""
    if not isinstance(methods, list | tuple):
        raise TypeError(f"`methods` must be a list of methods, got {shown(methods)}")
    rows = [row_of(method) for method in methods]
    if not rows:
        raise ValueError("`methods` needs at least one name")
    return list(dict.fromkeys(rows))


def check_method_arguments(build: Callable[..., Any], names: Iterable[str]) -> None:
    """Refuse arguments that the function of a method does not have.

    Args:
        build: The function.
        names: Names of the arguments.

    Raises:
        ValueError: One of them is unknown; the message has the closest names.
    """
    known = [name for name in inspect.signature(build).parameters if name != "teacher"]
    for name in names:
        if name not in known:
            raise ValueError(
                f"{build.__name__} has no argument {name!r}{did_you_mean(name, known)}; "
                f"it has {', '.join(known) or 'none'}"
            )


def make_method(
    method: MethodLike,
    arguments: Mapping[str, Any] | None = None,
    teacher: ModelLike | Any = None,
    build: Callable[..., Method] | None = None,
    prepare: Callable[[Any], Any] = lambda teacher: teacher,
) -> Method:
    """Make a method, with its teacher loaded and prepared.

    Args:
        method: The method, as for `row_of`; a `Method` is returned unchanged.
        arguments: Keyword arguments of its function.
        teacher: A run folder, a flow map or another velocity to learn from. None: no teacher.
        build: Its function with some arguments bound. None: the function of the row.
        prepare: Function from the teacher to the velocity to learn from, such as a guided velocity.

    Returns:
        The method.

    Raises:
        ValueError: A teacher is missing or not needed, or an argument is unknown.
    """
    row = row_of(method)
    if isinstance(method, Method):
        if arguments or teacher is not None:
            raise ValueError(
                f"{row.name} is already a method: give arguments and teacher to the function that makes it"
            )
        return method
    found = dict(arguments or {})
    check_method_arguments(row.build, found)
    if row.needs_teacher and teacher is None:
        raise ValueError(f"{row.name} is a distillation method and needs a trained model to learn from: `teacher=RUN`")
    if teacher is not None:
        if not row.needs_teacher:
            raise ValueError(f"{row.name} takes no `teacher`: it is {row.learning}, not distillation")
        found["teacher"] = prepare(load(Path(teacher)) if is_path(teacher) else teacher)
    return (build or row.build)(**found)


def is_path(model: Any) -> TypeGuard[str | PathLike[str]]:
    """Whether a model is given as a run folder."""
    return isinstance(model, str | PathLike)


def flow_of(model: ModelLike) -> FlowMap:
    """A flow map to start from: loaded from a run folder, or a copy of the given one."""
    if not isinstance(model, FlowMap):
        expect_path("a model", model)
    return copy.deepcopy(model) if isinstance(model, FlowMap) else load(Path(model))


def make_flow(
    data: Data,
    method: MethodLike,
    *,
    network: NetworkName = "auto",
    width: int | None = None,
    depth: int | None = None,
    output: OutputName = "auto",
    labels: bool = True,
    seed: int = 0,
) -> FlowMap:
    """Make a flow map with new weights by the recipe for the data, or with another network and output.

    Args:
        data: The data set, for shapes, spread and number of classes.
        method: The method that will train it; the flow map is partial if the method learns only that.
        network: Kind of network. "auto": `recipes.flow_for`.
        width: Width of the network. None: its default.
        depth: Blocks of the network (a U-Net: blocks per resolution). None: its default.
        output: Prediction of the network. "auto": the recipe's, or the average velocity if `network` is given.
        labels: Whether the network takes the class labels of the data.
        seed: Seed of the weights.

    Returns:
        The flow map.

    Raises:
        ValueError: A size is below 1, or the network is for images and the data are not.
    """
    torch.manual_seed(seed)
    classes = data.classes if labels else None
    sizes: dict[str, Any] = {name: size for name, size in (("width", width), ("depth", depth)) if size is not None}
    at_least(1, **sizes)
    if network == "auto":
        flow = flow_for(data, classes=classes, **sizes)
    else:
        flow = FlowMap(make_network(network, data, classes, **sizes))
    return for_row(flow if output == "auto" else FlowMap(flow.network, make_output(output, data)), row_of(method))


def for_row(flow: FlowMap, row: Row) -> FlowMap:
    """Limit a flow map to the times that a method learns; network, output and path stay the same.

    Args:
        flow: Any flow map.
        row: The row of the method.

    Returns:
        A partial map if the method learns a single source or target time.
    """
    return FlowMap(flow.network, flow.output, flow.path, only_source=row.only_source, only_target=row.only_target)


def make_network(kind: NetworkName, data: Data, classes: int | None, **sizes: Any) -> nn.Module:
    """Make an MLP, a DiT or a U-Net with new weights.

    Args:
        kind: "mlp", "dit" or "unet".
        data: The data set, for the shape of a row.
        classes: Number of classes of the network. None: it takes no labels.
        **sizes: width and depth.

    Returns:
        The network.

    Raises:
        ValueError: The network is for images and the data are not.
    """
    if kind == "mlp":
        return MLP(data.shape, data_std=data.std, classes=classes, **sizes)
    if data.kind != "images":
        raise ValueError(
            f"`network={kind}` is for images, and {data.name} holds {data.kind} of shape {data.shape}: use mlp"
        )
    channels, height, width = data.shape
    if kind == "dit":
        return DiT((channels, height, width), classes=classes, **sizes)
    renamed = {"blocks" if name == "depth" else name: size for name, size in sizes.items()}
    return UNet((channels, height, width), classes=classes, **renamed)


def make_output(name: OutputName, data: Data) -> Output:
    """Make the output of this name, fitted to the data if it has parameters."""
    if name == "gaussian-skip":
        return GaussianSkip.fit(data.draw(10_000).x0)
    if name == "position":
        return Position(data.std)
    return Endpoint() if name == "endpoint" else average_velocity
