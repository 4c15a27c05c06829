"""Flow maps that start well on a kind of data: functions from data to a `FlowMap` with new weights, to read, use and
change.
"""

from __future__ import annotations

import math
from typing import Any

from .data import Data
from .flow_map import Bounded, FlowMap, GaussianSkip, average_velocity
from .networks import MLP, InBasis, UNet, pca_basis

SMALL = 1024
"""Values in an image up to which an MLP is enough."""


def flow_for(data: Data, *, classes: int | None = None, **sizes: Any) -> FlowMap:
    """`points`, `small_images` or `images`, by the shape of one x. `classes`: tell the network labels; `sizes`: width
    and
    depth of the network, where they are to be others than the recipe's.
    """
    if data.kind != "images":
        return points(data, classes=classes, **sizes)
    return (small_images if math.prod(data.shape) <= SMALL else images)(data, classes=classes, **sizes)


def points(data: Data, width: int = 128, depth: int = 4, *, embedding: int = 32, classes: int | None = None) -> FlowMap:
    """For points and vectors: a residual MLP that predicts the average velocity."""
    return FlowMap(MLP(data.shape, width, depth, embedding=embedding, classes=classes, data_std=data.std))


def small_images(
    data: Data, width: int = 256, depth: int = 4, *, embedding: int = 32, classes: int | None = None
) -> FlowMap:
    """For images of at most a thousand values: an MLP in the principal axes of the data, which predicts what the
    average
    velocity of a Gaussian leaves over, bounded to the range of images.

    What the parts bring on the digits is in `benchmarks/results/digits/parts.md`.
    """
    x0 = data.draw(10_000, seed=0).x0
    network = InBasis(MLP(data.shape, width, depth, embedding=embedding, classes=classes), pca_basis(x0))
    return FlowMap(network, Bounded(GaussianSkip.fit(x0)))


def images(data: Data, width: int = 64, depth: int = 2, *, classes: int | None = None) -> FlowMap:
    """For larger images: a U-Net, `depth` blocks to a resolution, that predicts the average velocity, bounded to the
    range
    of images.
    """
    channels, height, side = data.shape
    return FlowMap(UNet((channels, height, side), width, blocks=depth, classes=classes), Bounded(average_velocity))
