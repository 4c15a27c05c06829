"""From options to data, network, flow map and method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data import Data
from ..data.check import at_least, did_you_mean
from ..flow_map import FlowMap
from ..method.method import Method
from ..methods import LANDSCAPE, Row
from ..networks import MLP, DiT, UNet
from ..outputs import Endpoint, GaussianSkip, Output, Position, average_velocity
from ..recipes import flow_for
from .arguments import method_arguments
from .options import Training


def row_of(name: str) -> Row:
    """The row of the landscape with this name. Raises ValueError for an unknown one, with the closest ones."""
    names = [row.name for row in LANDSCAPE]
    wanted = name.replace("-", "_")
    if wanted not in names:
        raise ValueError(f"unknown method {name!r}{did_you_mean(wanted, names)}; known are {', '.join(names)}")
    return LANDSCAPE[names.index(wanted)]


def rows_of(names: str) -> list[Row]:
    """The rows of names with commas between them, each once. Raises ValueError for an unknown one and for none."""
    rows = [row_of(name.strip()) for name in names.split(",") if name.strip()]
    if not rows:
        raise ValueError("--methods needs at least one name")
    return list(dict.fromkeys(rows))


def make_method(
    row: Row,
    arguments: Sequence[str],
    teacher: Path | None,
    build: Callable[..., Method] | None = None,
    prepare: Callable[[FlowMap], Any] = lambda teacher: teacher,
) -> Method:
    """The method, with its teacher loaded and prepared; build: its function, where some arguments are bound to it
    already. Raises ValueError for a teacher that is missing or not needed.
    """
    found: dict[str, Any] = method_arguments(row.build, arguments)
    if row.needs_teacher and teacher is None:
        raise ValueError(f"{row.name} is a distillation method and needs a trained model to learn from: --teacher RUN")
    if teacher is not None:
        from ..runs.loading import load

        if not row.needs_teacher:
            raise ValueError(f"{row.name} takes no --teacher: it is {row.learning}, not distillation")
        found["teacher"] = prepare(load(teacher))
    return (build or row.build)(**found)


def make_flow(options: Training, data: Data, row: Row) -> FlowMap:
    """A flow map with new weights: the recipe for the data, with the network and the output that the options name in
    place of its own, and with the limits of the method; the seed fixes the weights. Raises ValueError for sizes below
    1.
    """
    torch.manual_seed(options.seed)
    classes = data.classes if options.labels else None
    sizes: dict[str, Any] = {name: size for name in ("width", "depth") if (size := getattr(options, name)) is not None}
    at_least(1, **sizes)
    if options.network == "auto":
        flow = flow_for(data, classes=classes, **sizes)
    else:
        flow = FlowMap(make_network(options.network, data, classes, **sizes))
    return for_row(flow if options.output == "auto" else FlowMap(flow.network, make_output(options, data)), row)


def for_row(flow: FlowMap, row: Row) -> FlowMap:
    """The same network, output and path as the map that the method learns: a partial one where it knows one end of time
    only.
    """
    return FlowMap(flow.network, flow.output, flow.path, only_source=row.only_source, only_target=row.only_target)


def make_network(kind: str, data: Data, classes: int | None, **sizes: Any) -> nn.Module:
    """MLP, DiT or U-Net. Raises ValueError for an image network on rows that are no images."""
    if kind == "mlp":
        return MLP(data.shape, data_std=data.std, classes=classes, **sizes)
    if data.kind != "images":
        raise ValueError(
            f"--network {kind} is for images, and {data.name} holds {data.kind} of shape {data.shape}: use mlp"
        )
    channels, height, width = data.shape
    if kind == "dit":
        return DiT((channels, height, width), classes=classes, **sizes)
    renamed = {"blocks" if name == "depth" else name: size for name, size in sizes.items()}
    return UNet((channels, height, width), classes=classes, **renamed)


def make_output(options: Training, data: Data) -> Output:
    """What the network predicts."""
    if options.output == "gaussian-skip":
        return GaussianSkip.fit(data.draw(10_000).x0)
    if options.output == "position":
        return Position(data.std)
    return Endpoint() if options.output == "endpoint" else average_velocity


def device() -> str:
    """Where samples are drawn: the GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
