"""Flow maps that start well on a kind of data: functions from data to a `FlowMap` with new weights, to read, use and
change.

What is not for the network goes to the `FlowMap`: `path`, and `only_source` or `only_target` for a partial map.
"""

from __future__ import annotations

import math
from typing import Any

from ..data import Data
from ..flow_map import FlowMap
from ..networks import MLP, InBasis, UNet, pca_basis
from ..outputs import Bounded, GaussianSkip, average_velocity
from ..path import Path

SMALL = 1024
"""Values in an image up to which an MLP is enough."""


def flow_for(
    data: Data,
    *,
    classes: int | None = None,
    only_source: float | None = None,
    only_target: float | None = None,
    path: Path | None = None,
    **sizes: Any,
) -> FlowMap:
    """`points`, `small_images` or `images`, by the shape of one x.

    classes: tell the network labels. only_source, only_target: of a partial map, which a method that learns nothing
    else needs (`Row.only_source`, `Row.only_target` of the landscape). path: another one than the linear path. sizes:
    width and depth of the network, where they are to be others than the recipe's.
    """
    if data.kind != "images":
        make = points
    else:
        make = small_images if math.prod(data.shape) <= SMALL else images
    given: dict[str, Any] = {"only_source": only_source, "only_target": only_target, "path": path}
    return make(data, classes=classes, **sizes, **{name: value for name, value in given.items() if value is not None})


def points(
    data: Data, width: int = 128, depth: int = 4, *, embedding: int = 32, classes: int | None = None, **limits: Any
) -> FlowMap:
    """For points and vectors: a residual MLP that predicts the average velocity."""
    network = MLP(data.shape, width, depth, embedding=embedding, classes=classes, data_std=data.std)
    return FlowMap(network, **limits)


def small_images(
    data: Data, width: int = 256, depth: int = 4, *, embedding: int = 32, classes: int | None = None, **limits: Any
) -> FlowMap:
    """For images of at most a thousand values: an MLP in the principal axes of the data, which predicts what the
    average velocity of a Gaussian leaves over, bounded to the range of images.

    What the parts bring on the digits is in `benchmarks/results/digits/parts.md`.
    """
    x0 = data.draw(10_000, seed=0).x0
    network = InBasis(MLP(data.shape, width, depth, embedding=embedding, classes=classes), pca_basis(x0))
    return FlowMap(network, Bounded(GaussianSkip.fit(x0)), **limits)


def images(data: Data, width: int = 64, depth: int = 2, *, classes: int | None = None, **limits: Any) -> FlowMap:
    """For larger images: a U-Net, `depth` blocks to a resolution, that predicts the average velocity, bounded to the
    range of images.
    """
    channels, height, side = data.shape
    network = UNet((channels, height, side), width, blocks=depth, classes=classes)
    return FlowMap(network, Bounded(average_velocity), **limits)
