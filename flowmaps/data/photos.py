"""Colour patches of the two photographs that come with scikit-learn, with a held-out strip of each."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from ..arguments import at_least, between, check_seed, checked, install
from .core import HELD_OUT, TRAIN, Data, generator
from .sources import Finite, TensorRows

NAMES = ("china", "flower")
"""Names of the photographs, without ending, which are the classes."""
HEIGHT, WIDTH = 427, 640
"""Height and width of each photograph in pixels."""
STRIP = range(384, 512)
"""Columns of each photograph that are held out, a fifth; they run through sky, ground and leaves."""
SHARE = 10
"""Number of training patches for each held-out one."""


@checked
def photos(size: int = 16, patches: int = 20_000, scale: int = 1, flips: bool = True, seed: int = 0) -> Data:
    """Colour patches of the photographs china.jpg and flower.jpg in scikit-learn: (3, size, size), 256 levels.

    The label is the photograph. A patch is a random square of size * scale pixels, averaged over squares of scale
    pixels; larger scales show more of the scene. No two patches of a set are the same square. Columns 384 to 511 of
    each photograph, a fifth, are held out: training patches lie wholly outside of them and held-out ones wholly inside,
    so they share no pixel. There is a held-out patch for ten training patches, or fewer if the strip has no more.

    Licence: both photographs are under CC BY 2.0, https://creativecommons.org/licenses/by/2.0/: china.jpg by
    danielbuechele (https://www.flickr.com/photos/danielbuechele/6061409035), flower.jpg by vultilion
    (https://www.flickr.com/photos/vultilion/6056698931). Whoever shows patches names them.

    Args:
        size: Height and width of a patch, 4 to 128.
        patches: The number of training patches, half of each photograph.
        scale: The side of the square behind a pixel; size * scale is at most 128.
        flips: Whether half of the patches are mirrored, left to right.
        seed: Fixes the squares.

    Returns:
        The data set.

    Raises:
        ImportError: scikit-learn or pillow is not installed.
        ValueError: A number is out of range, or the photographs have fewer squares.
    """
    between(4, len(STRIP), size=size)
    between(1, len(STRIP) // size, scale=scale)
    at_least(2, patches=patches)
    check_seed(seed)
    side = size * scale
    rest, strip = _corners(side)
    if patches > 2 * len(rest):
        raise ValueError(f"patches must be at most {2 * len(rest)} for squares of {side} pixels, got {patches}")
    held = max(2, min(patches // SHARE, 2 * len(strip)))
    train = _rows(rest, patches, side, scale, flips, generator(seed, 0, TRAIN))
    test = _rows(strip, held, side, scale, flips, generator(seed, 0, HELD_OUT))
    return Data("photos", (3, size, size), Finite(train, test), "images", len(NAMES), NAMES, levels=256)


def _corners(side: int) -> tuple[Tensor, Tensor]:
    """The upper left corners (N, 2), row and column, of all squares outside the held-out strip, and of all inside."""
    columns = torch.arange(WIDTH - side + 1)
    inside = (columns >= STRIP.start) & (columns + side <= STRIP.stop)
    outside = (columns + side <= STRIP.start) | (columns >= STRIP.stop)
    rows = torch.arange(HEIGHT - side + 1)
    return torch.cartesian_prod(rows, columns[outside]), torch.cartesian_prod(rows, columns[inside])


def _rows(corners: Tensor, count: int, side: int, scale: int, flips: bool, rng: torch.Generator) -> TensorRows:
    """A table of `count` patches, half of each photograph, at different corners."""
    parts, labels = [], []
    for number, photograph in enumerate(_photographs()):
        share = (count + 1 - number) // len(NAMES)
        chosen = corners[torch.randperm(len(corners), generator=rng)[:share]]
        reach = side - scale + 1  # from the first mean of a patch to its last
        squares = _means(photograph, scale).unfold(1, reach, 1).unfold(2, reach, 1)[..., ::scale, ::scale]
        parts.append(squares[:, chosen[:, 0], chosen[:, 1]].transpose(0, 1))
        labels.append(torch.full((len(chosen),), number))
    x = torch.cat(parts)
    if flips:
        mirrored = torch.rand(len(x), generator=rng) < 0.5
        x[mirrored] = x[mirrored].flip(3)
    return TensorRows(x, torch.cat(labels))


def _means(photograph: Tensor, scale: int) -> Tensor:
    """Means over all squares of scale x scale pixels (uint8), rounded half up in whole numbers."""
    sums = photograph.int().unfold(1, scale, 1).sum(3).unfold(2, scale, 1).sum(3)
    return ((2 * sums + scale**2) // (2 * scale**2)).to(torch.uint8)


@cache
def _photographs() -> tuple[Tensor, ...]:
    """The photographs, (3, 427, 640), uint8.

    Raises:
        ImportError: scikit-learn or pillow is not installed.
        ValueError: They are other photographs.
    """
    try:
        from sklearn.datasets import load_sample_image
    except ImportError as error:
        raise ImportError(f"the photographs come with scikit-learn: {install('data')}") from error
    try:
        found = tuple(torch.tensor(load_sample_image(f"{name}.jpg")).permute(2, 0, 1) for name in NAMES)
    except ImportError as error:
        raise ImportError(f"the photographs are read by pillow: {install('data')}") from error
    if any(photograph.shape != (3, HEIGHT, WIDTH) for photograph in found):
        raise ValueError(
            f"the photographs of scikit-learn are {HEIGHT} x {WIDTH} pixels, and this installation has "
            f"{[tuple(photograph.shape) for photograph in found]}: install it anew"
        )
    return found
