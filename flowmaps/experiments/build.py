"""From names and plain values to methods, networks and flow maps."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeGuard

import torch
from torch import Tensor, nn

from ..arguments import at_least, did_you_mean, expect_path, shown
from ..data import Data
from ..flow_map import FlowMap
from ..likelihood import joint_map
from ..links import softmax
from ..method.method import Method
from ..methods import Row
from ..networks import MLP, DiT, UNet, source_only
from ..outputs import Endpoint, GaussianSkip, MixturePolicy, Output, Position, average_velocity
from ..path import linear
from ..recipes import autoregressive, flow_for, method_name, output_for, policies, policy_for, texts
from ..recipes.by_data import heads_for_width, levels_for, patch_for
from ..recipes.manifolds import network_for, path_for
from ..recipes.rows import MethodLike, row_of, takes_teacher
from ..runs.loading import load
from ..sampling.in_order import VALID
from ..velocity.joint import joint_network

SCALED_BY = 2000
"""Number of rows that set the scale of the head of a joint map."""
NetworkName = Literal["auto", "mlp", "dit", "unet", "transformer", "autoregressive"]
OutputName = Literal["auto", "average-velocity", "endpoint", "position", "gaussian-skip"]
ModelLike = str | PathLike[str] | FlowMap
"""A flow map, the folder of its run, or the file that `fm.save` wrote."""


def check_method_arguments(build: Callable[..., Any], names: Iterable[str]) -> None:
    """Refuse arguments that the function of a method does not have, and a function that needs more of them.

    Args:
        build: The function.
        names: Names of the arguments.

    Raises:
        ValueError: One of them is unknown; the message has the closest names. Or one without a default is missing.
    """
    parameters, names = inspect.signature(build).parameters, list(names)
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and parameter.kind not in optional and name not in (*names, "teacher"):
            raise ValueError(f"{row_of(build).name} needs the argument {name!r}: give it by `method_args`")
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = [name for name in parameters if name != "teacher"]
    for name in names:
        if name not in known:
            raise ValueError(
                f"{row_of(build).name} has no argument {name!r}{did_you_mean(name, known)}; "
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
        TypeError: A function of your own returns something else.
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
        if not takes_teacher(row.build):
            raise ValueError(f"{row.name} takes no `teacher`: it is {row.learning}, not distillation")
        found["teacher"] = prepare(load(Path(teacher)) if is_path(teacher) else teacher)
    made = (build or row.build)(**found)
    if not isinstance(made, Method):
        raise TypeError(f"{row.name} must return a Method, made of terms as in fm.methods, got {shown(made)}")
    return made


def is_path(model: Any) -> TypeGuard[str | PathLike[str]]:
    """Whether a model is given as a run folder."""
    return isinstance(model, str | PathLike)


def opened(model: Any) -> Any:
    """The flow map of a file that `fm.save` wrote; any other model is returned unchanged."""
    return load(Path(model)) if is_path(model) and Path(model).is_file() else model


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
        output: Prediction of the network. "auto": the recipe's, or if `network` is given the average velocity, of
            tokens and categories probabilities.
        labels: Whether the network takes the class labels of the data.
        seed: Seed of the weights.

    Returns:
        The flow map.

    Raises:
        ValueError: A size is below 1, the network is for images and the data are not, or the data have conditions that
            no network of this library takes.
    """
    of_sequences = network == "autoregressive" or (network == "auto" and data.signal is not None)
    if data.given and not (of_sequences and data.given == (VALID,)):
        raise ValueError(
            f"the rows of {data.name} come with {', '.join(data.given)}, and the networks that are made here take no "
            "condition but the label: load the data with given=[], or pass a network of yours to fm.train"
        )
    torch.manual_seed(seed)
    classes = data.classes if labels else None
    sizes: dict[str, Any] = {name: size for name, size in (("width", width), ("depth", depth)) if size is not None}
    at_least(1, **sizes)
    row = row_of(method)
    if row.policy:
        return for_row(policy_flow(data, row, network, output, classes, sizes), row)
    if of_sequences:
        flow = autoregressive(data, classes=classes, **sizes)
    elif network == "auto":
        flow = flow_for(data, classes=classes, **sizes)
    else:
        flow = FlowMap(make_network(network, data, classes, **sizes), output_for(data), path_for(data) or linear)
    if row.own_map:
        raise ValueError(f"no recipe makes the map that {row.name} trains, {row.own_map}: pass it to fm.train")
    if row.classes and data.columns is not None:
        raise ValueError(
            f"the losses of {row.name} are cross-entropies of tokens, and rows of {data.name} hold numbers and "
            f"categories: take another method, such as {method_name(data)}"
        )
    if row.classes and not hasattr(flow.link, "logits"):
        flow = FlowMap(flow.network, Endpoint(link=softmax), flow.path)
    made = flow if output == "auto" else FlowMap(flow.network, make_output(output, data), path_for(data) or linear)
    return for_row(made, row, rows_for(row, data))


def policy_flow(
    data: Data, row: Row, network: NetworkName, output: OutputName, classes: int | None, sizes: dict[str, Any]
) -> FlowMap:
    """Make a flow map that predicts a policy.

    Args:
        data: The data set.
        row: The row of the method.
        network: As for `make_flow`.
        output: As for `make_flow`.
        classes: Number of classes of the network. None: it takes no labels.
        sizes: width and depth, if they are given.

    Returns:
        The flow map, whose network does not see the target time.

    Raises:
        ValueError: Another output is given, or the data are no plain numbers.
    """
    if output != "auto":
        raise ValueError(f"{row.name} trains a policy, which is an output of its own: leave `output={output}` out")
    if network == "auto":
        return policies(data, classes=classes, **sizes)
    found = policy_for(data)
    wide: dict[str, Any] = {"times": source_only, "channels_out": found.channels}
    return FlowMap(make_network(network, data, classes, **sizes, **wide), found)


def rows_for(row: Row, data: Data) -> Tensor | None:
    """Rows of data that set the scale of a joint map; None for other methods."""
    return data.draw(SCALED_BY).x0 if row.head else None


def for_row(flow: FlowMap, row: Row, rows: Tensor | None = None) -> FlowMap:
    """Limit a flow map to the times that a method learns; network, output and path stay the same.

    Args:
        flow: Any flow map.
        row: The row of the method.
        rows: Rows of the training data, for methods of joint maps, whose network gets a head. None: it gets none.

    Returns:
        A partial map if the method learns a single source or target time; a joint map if it learns one.

    Raises:
        ValueError: The method trains a policy, and the flow map predicts none.
    """
    if row.policy and not isinstance(flow.output, MixturePolicy):
        raise ValueError(
            f"{row.name} trains a policy, and this flow map does not predict one: train new weights, flowmaps train "
            f"DATA --method {row.name} --teacher RUN, or make a flow map with the output fm.outputs.MixturePolicy"
        )
    limited = FlowMap(flow.network, flow.output, flow.path, only_source=row.only_source, only_target=row.only_target)
    if row.head and rows is not None and joint_network(flow) is None:
        limited = joint_map(limited, rows)
    limited.units = flow.units
    return limited


def make_network(kind: NetworkName, data: Data, classes: int | None, **sizes: Any) -> nn.Module:
    """Make a network with new weights; heads, patches and levels fit the width and the images.

    Args:
        kind: "mlp", "dit", "unet", or "transformer" for tokens.
        data: The data set, for the shape of a row.
        classes: Number of classes of the network. None: it takes no labels.
        **sizes: width and depth, and arguments that all networks for numbers have.

    Returns:
        The network.

    Raises:
        ValueError: The network is for rows (C, H, W) or for tokens, and the data are others.
    """
    if kind == "transformer":
        if data.kind != "tokens":
            raise ValueError(f"`network={kind}` is for tokens, and {data.name} holds {data.kind}")
        return texts(data, classes=classes, **sizes).network
    if kind == "mlp" and data.manifold is not None:
        return network_for(data.manifold, classes=classes, **sizes)
    if kind == "mlp":
        return MLP(data.shape, data_std=data.std, classes=classes, **sizes)
    if len(data.shape) != 3:
        raise ValueError(
            f"`network={kind}` is for images and latents (C, H, W), and {data.name} holds {data.kind} of shape "
            f"{data.shape}: use mlp"
        )
    channels, height, across = data.shape
    if kind == "dit":
        heads: dict[str, Any] = {"heads": heads_for_width(sizes["width"])} if "width" in sizes else {}
        return DiT((channels, height, across), patch_for((height, across)), classes=classes, **sizes, **heads)
    renamed = {"blocks" if name == "depth" else name: size for name, size in sizes.items()}
    return UNet((channels, height, across), multipliers=levels_for((height, across)), classes=classes, **renamed)


def make_output(name: OutputName, data: Data) -> Output:
    """Make the output of this name, fitted to the data if it has parameters."""
    if name == "gaussian-skip":
        return GaussianSkip.fit(data.draw(10_000).x0)
    if name == "position":
        return Position(data.std)
    return Endpoint() if name == "endpoint" else average_velocity
