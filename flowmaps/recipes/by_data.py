"""Flow maps with good defaults for a kind of data: functions from data to a `FlowMap` with new weights.

Options that are not for the network go to the `FlowMap`: `path`, and `only_source` or `only_target` for a partial map.
"""

from __future__ import annotations

import math
from typing import Any

from ..arguments import shown
from ..data import Data
from ..flow_map import FlowMap
from ..networks import MLP, InBasis, UNet, pca_basis
from ..outputs import Bounded, GaussianSkip, average_velocity
from ..path import Path

SMALL = 1024
"""Number of values in an image up to which an MLP is used."""


def flow_for(
    data: Data,
    *,
    classes: int | None = None,
    only_source: float | None = None,
    only_target: float | None = None,
    path: Path | None = None,
    **sizes: Any,
) -> FlowMap:
    """Make a flow map by `points`, `small_images` or `images`, chosen by the shape of one x.

    Args:
        data: The data set.
        classes: Number of classes. None: the network takes no labels.
        only_source: Only source time of a partial map (`Row.only_source` of the landscape). None: any.
        only_target: Only target time of a partial map (`Row.only_target`). None: any.
        path: The path. None: the linear path.
        **sizes: `width` and `depth` of the network.

    Returns:
        The flow map, with new weights.

    Raises:
        TypeError: These are no `Data`.
        ValueError: The values of the data are all equal, or a size is below 1.
    """
    if not isinstance(data, Data):
        raise TypeError(f"expected a Data, such as fm.data.as_data(x), got {shown(data)}")
    if data.kind != "images":
        make = points
    else:
        make = small_images if math.prod(data.shape) <= SMALL else images
    given: dict[str, Any] = {"only_source": only_source, "only_target": only_target, "path": path}
    return make(data, classes=classes, **sizes, **{name: value for name, value in given.items() if value is not None})


def points(
    data: Data, width: int = 128, depth: int = 4, *, embedding: int = 32, classes: int | None = None, **limits: Any
) -> FlowMap:
    """Make a flow map for points and vectors: a residual MLP that predicts the average velocity.

    Args:
        data: The data set.
        width: Width of the network.
        depth: Number of residual blocks.
        embedding: Size of the time embedding.
        classes: Number of classes. None: the network takes no labels.
        **limits: Further arguments of `FlowMap`.

    Returns:
        The flow map, with new weights.
    """
    network = MLP(data.shape, width, depth, embedding=embedding, classes=classes, data_std=data.std)
    return FlowMap(network, **limits)


def small_images(
    data: Data, width: int = 256, depth: int = 4, *, embedding: int = 32, classes: int | None = None, **limits: Any
) -> FlowMap:
    """Make a flow map for images of at most a thousand values.

    The network is an MLP in the principal axes of the data. It predicts the residual to the average velocity of a
    Gaussian, bounded to the range of images. `benchmarks/results/digits/parts.md` has the effect of each part on the
    digits.

    Args:
        data: The data set.
        width: Width of the network.
        depth: Number of residual blocks.
        embedding: Size of the time embedding.
        classes: Number of classes. None: the network takes no labels.
        **limits: Further arguments of `FlowMap`.

    Returns:
        The flow map, with new weights.
    """
    x0 = data.draw(10_000, seed=0).x0
    network = InBasis(MLP(data.shape, width, depth, embedding=embedding, classes=classes), pca_basis(x0))
    return FlowMap(network, Bounded(GaussianSkip.fit(x0)), **limits)


def images(data: Data, width: int = 64, depth: int = 2, *, classes: int | None = None, **limits: Any) -> FlowMap:
    """Make a flow map for larger images: a U-Net that predicts the average velocity, bounded to the range of images.

    Args:
        data: The data set.
        width: Number of channels at the highest resolution.
        depth: Number of blocks for each resolution.
        classes: Number of classes. None: the network takes no labels.
        **limits: Further arguments of `FlowMap`.

    Returns:
        The flow map, with new weights.
    """
    channels, height, side = data.shape
    network = UNet((channels, height, side), width, blocks=depth, classes=classes)
    return FlowMap(network, Bounded(average_velocity), **limits)
