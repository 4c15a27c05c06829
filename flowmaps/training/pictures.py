"""Pictures of samples during training."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import figures
from ..data import Data
from ..data.transforms import Transformed
from ..figures.manifolds import sight_of
from ..flow_map import FlowMap
from ..method.method import Method
from ..method.several import Several
from ..methods.landscape import known_rows
from ..sampling import by_name, sample
from ..steps import Step, ancestral, euler, jump


def draw(path: Path, flow: FlowMap, method: Method, data: Data, labels: bool) -> None:
    """Save a picture of samples from a fixed noise: a grid of 64 images, or 2000 points of the plane or a manifold.

    Other data have no picture.

    Without the packages for figures training goes on, and a warning says so once.

    The number of jumps is the method's own, usually one; a method without jumps takes 16 Euler steps, and one
    of ancestral steps its own number of them. The samples have
    the classes 0, 1, 2, ... in turn.

    Args:
        path: The PNG file; it is replaced atomically.
        flow: The flow map to sample.
        method: The method that trains it.
        data: The data set, for shape, classes and conditions.
        labels: Whether the network is conditioned on class labels.
    """
    show = figure_of(data)
    if show is None:
        return
    weight = flow.like
    count = 64 if data.kind == "images" else 2000
    normal = torch.randn(count, *data.shape, generator=torch.Generator().manual_seed(0)).to(weight)
    noise = flow.path.noise(normal)
    label = torch.arange(count, device=weight.device) % data.classes if labels and data.classes else None
    steps, step = steps_of(flow, method)
    # conditions of a training batch, because transforms may add some
    given = next(data.batches(count)).given if data.given or isinstance(data.source, Transformed) else None
    shown = {name: value.to(weight.device) for name, value in (given or {}).items() if name not in method.hidden}
    condition = {**by_name(label), **shown}
    x = sample(flow, noise, steps, step=step, condition=condition or None)
    try:
        show(x.float().cpu(), path)
    except ImportError as missing:
        warnings.warn(f"no pictures of samples are drawn: {missing}", stacklevel=2)


def figure_of(data: Data) -> Callable[[Tensor, Path], Any] | None:
    """The function that draws samples (N, *shape) of a data set to a file; None for data without figures."""
    seen = sight_of(data)
    if seen is not None:
        return seen.whole
    known: dict[str, Callable[[Tensor, Path], Any]] = {
        "images": lambda x, path: figures.grid(data.to_pixels(x), path),
        "points": figures.points,
    }
    return known.get(data.kind)


def steps_of(flow: FlowMap, method: Method) -> tuple[int, Step]:
    """The number and the kind of the steps that sample a method's map."""
    if not (flow.has_ode or flow.is_partial):
        return jumps_of(method), ancestral
    return (jumps_of(method), jump) if learns_jumps(flow, method) else (16, euler)


def learns_jumps(flow: FlowMap, method: Method) -> bool:
    """Whether the flow map learns jumps: it is a partial map, or some term is off the diagonal."""
    return flow.is_partial or any(not term.diagonal for term in method.terms)


def jumps_of(method: Method) -> int:
    """Number of sampling steps of a method of the landscape, for its last stage; 1 for any other method."""
    last = method.methods[-1] if isinstance(method, Several) else method
    return next((row.few_step for row in known_rows() if row.name == last.name), 1)
