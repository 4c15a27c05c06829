"""Flow maps that start well on a kind of data: functions from data to a `FlowMap` with new weights, to read, use and
change.
"""

from __future__ import annotations

import math

from .data import Data
from .flow_map import Bounded, FlowMap, GaussianSkip, average_velocity
from .networks import MLP, InBasis, UNet, pca_basis

SMALL = 1024
"""Values in an image up to which an MLP is enough."""


def flow_for(data: Data, *, classes: int | None = None) -> FlowMap:
    """A flow map for any data: `small_images`, `images` or `points`, by the shape of one x. `classes`: tell the network
    labels.
    """
    if data.kind != "images":
        return points(data, classes=classes)
    return (small_images if math.prod(data.shape) <= SMALL else images)(data, classes=classes)


def points(data: Data, width: int = 256, depth: int = 4, *, classes: int | None = None) -> FlowMap:
    """For points and vectors: a residual MLP that predicts the average velocity."""
    return FlowMap(MLP(data.shape, width, depth, classes=classes))


def small_images(
    data: Data, width: int = 256, depth: int = 4, *, embedding: int = 32, classes: int | None = None
) -> FlowMap:
    """For images of a thousand values: an MLP in the principal axes of the data, which predicts what a Gaussian leaves
    over, bounded to [-1, 1].

    What each part brings on the digits is measured in `benchmarks/digits.py`.
    """
    x0 = data.draw(10_000, seed=0).x0
    network = InBasis(MLP(data.shape, width, depth, embedding=embedding, classes=classes), pca_basis(x0))
    return FlowMap(network, Bounded(GaussianSkip.fit(x0)))


def images(data: Data, width: int = 64, *, classes: int | None = None) -> FlowMap:
    """For larger images: a U-Net that predicts the average velocity, its denoised field bounded to [-1, 1]."""
    channels, height, side = data.shape
    return FlowMap(UNet((channels, height, side), width, classes=classes), Bounded(average_velocity))
