"""Measures of images that no label decides: features of a network with random weights, and small patches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ..arguments import between as bounded
from ..arguments import check_seed, expect_floating
from ..data import Data
from .distances import frechet_distance, sliced_energy_distance
from .features import Features, train_classifier
from .measures import Draws, Measure, between

LARGEST = 64
"""Largest height and width of the images that are measured; the cost grows with their area."""
FEWER_DRAWS = 4
"""Number of draws of these measures, which are beside the main one."""
PATCHES = (3, 7)
"""Smallest and largest side of a patch, a third of the image between them."""


def random_features(data: Data, seed: int = 0) -> Features:
    """Features of a convolutional network with fixed random weights, whitened on training images.

    They see edges and textures, and neither labels nor the success of a training have a part in them (random features
    as a measure: Naeem et al. 2020, arXiv 2002.09797, section 4).

    Args:
        data: Images.
        seed: Fixes the weights.

    Returns:
        The features.

    Raises:
        ValueError: The data are not images.
    """
    network = train_classifier(data, steps=0, seed=seed)
    return Features("whitened features of a small network with random weights", network.features)


def random_patches(x: Tensor, side: int, seed: int = 0) -> Tensor:
    """A square of each image at a random place.

    Args:
        x: Images (N, C, H, W).
        side: Height and width of the squares.
        seed: Fixes the places; image i has the same one in any set.

    Returns:
        The squares (N, C, side, side).

    Raises:
        ValueError: These are no images, or the squares are larger than they.
    """
    expect_floating("x", x, "(N, C, H, W)", least=4)
    check_seed(seed)
    bounded(1, min(x.shape[-2:]), side=side)
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(len(x), 2, generator=generator, dtype=torch.float64).to(x.device)
    row, column = ((u[:, k] * (x.shape[2 + k] - side + 1)).long() for k in (0, 1))
    return x.unfold(2, side, 1).unfold(3, side, 1)[torch.arange(len(x), device=x.device), :, row, column]


def measures_without_labels(data: Data, draws: Draws, main: Features, seed: int = 0) -> Iterator[Measure]:
    """The Fréchet distance in random features, and the energy distance of random patches.

    Both take at most four draws. Larger images are not measured.

    Args:
        data: Images.
        draws: Their draws.
        main: The features of the main distance. If these are random, they are not measured again.
        seed: Fixes weights, places and directions.

    Yields:
        One measure after another.
    """
    height, width = data.shape[1:]
    if max(height, width) > LARGEST:
        return
    count = min(FEWER_DRAWS, draws.wanted // draws.n)
    fewer = replace(
        draws, held_out=draws.held_out[:count], training=draws.training[:count], wanted=count * draws.n, whole=None
    )
    if main.classifier is None or main.classifier.classes > 1:
        features = random_features(data, seed)
        title = f"Fréchet distance in {features.name}, for which no labels count"
        yield between("random_distance", title, frechet_distance, fewer, features)
    least, most = PATCHES
    side = min(height, width, max(least, min(most, min(height, width) // 3)))
    title = (
        f"energy distance between patches of {side} x {side} pixels, one of each image at a random place, over 128 "
        "random directions (unbiased, so it can fall below 0)"
    )
    yield between("patch_distance", title, sliced_energy_distance, fewer, lambda x: random_patches(x, side, seed))
