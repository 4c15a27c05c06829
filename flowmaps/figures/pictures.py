"""Pictures of images: grids of samples, and the way from noise to an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..arguments import at_least, expect_tensor, given
from .style import Theme, figure, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MOST_PIXELS = 2**26
"""Largest number of pixels of a picture."""


def check_mosaic(count: int, height: int, width: int) -> None:
    """Refuse a picture of more than MOST_PIXELS pixels.

    Args:
        count: Number of images in the picture.
        height: Pixels of an image from top to bottom.
        width: Pixels of an image from left to right.

    Raises:
        ValueError: The picture is too large.
    """
    if count * height * width > MOST_PIXELS:
        raise ValueError(
            f"a picture of {count:,} images of {height} x {width} pixels is too large, the limit is {MOST_PIXELS:,} "
            f"pixels: take {MOST_PIXELS // (height * width):,} images at most, or write an array (.npy)"
        )


def mosaic(images: Tensor, columns: int | None = None, gap: int = 1) -> Tensor:
    """Put images side by side, with transparent pixels between them.

    Args:
        images: Images (N, C, H, W) in [0, 1] with C = 1, 3 or 4.
        columns: Images in a row; None takes about as many as rows.
        gap: Pixels between neighbours.

    Returns:
        The picture (height, width, 4), in red, green, blue and opacity.

    Raises:
        ValueError: The images have another shape, or the picture is too large.
    """
    expect_tensor("images", images)
    at_least(1, **given(columns=columns))
    at_least(0, gap=gap)
    if images.ndim != 4 or images.shape[1] not in (1, 3, 4) or not len(images):
        raise ValueError(f"a grid needs images (N, C, H, W) with 1, 3 or 4 channels, got {tuple(images.shape)}")
    check_mosaic(len(images), *images.shape[2:])
    images = images.detach().float().cpu().nan_to_num(0).clamp(0, 1)
    images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    opaque = torch.cat((images, torch.ones_like(images[:, :1])), 1) if images.shape[1] == 3 else images
    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    rows, (height, width) = -(-len(images) // columns), images.shape[2:]
    board = torch.zeros(4, rows * (height + gap) - gap, columns * (width + gap) - gap)
    for k, image in enumerate(opaque):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        board[:, top : top + height, left : left + width] = image
    return board.permute(1, 2, 0)


def enlarged(images: Tensor, side: int = 56) -> Tensor:
    """Enlarge small images smoothly by a whole factor, and leave large ones unchanged.

    Args:
        images: Images (N, C, H, W) in [0, 1].
        side: The least height and width of the result.

    Returns:
        The images.
    """
    factor = -(-side // min(images.shape[2:]))
    if factor == 1:
        return images
    return torch.nn.functional.interpolate(images, scale_factor=factor, mode="bicubic").clamp(0, 1)


def png(board: Tensor) -> bytes:
    """The bytes of a PNG file of a mosaic (height, width, 4), pixel by pixel."""
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray((board * 255).round().byte().numpy(), "RGBA").save(buffer, "png", optimize=True)
    return buffer.getvalue()


EXACT_PIXELS = 2**15
"""Largest number of pixels of a WebP file without any loss."""


def webp(board: Tensor) -> bytes:
    """The bytes of a WebP file of a mosaic (height, width, 4): smaller than a PNG file, for large ones with a loss."""
    from PIL import Image

    buffer, exact = BytesIO(), board.shape[0] * board.shape[1] <= EXACT_PIXELS
    Image.fromarray((board * 255).round().byte().numpy(), "RGBA").save(buffer, "webp", quality=90, lossless=exact)
    return buffer.getvalue()


def grid(images: Tensor, path: str | Path | None = None, *, columns: int | None = None, theme: Theme = light) -> Figure:
    """Draw a grid of images.

    Args:
        images: Images (N, C, H, W) in [0, 1].
        path: The file to save; its suffix chooses the format. None: not saved.
        columns: Images in a row; None takes about as many as rows.
        theme: The colours.

    Returns:
        The figure.
    """
    board = mosaic(images, columns)
    height, width = board.shape[:2]
    with figure(theme, 6, 6 * height / width, path) as (made, axes):
        _show(axes, board)
    return made


def path_strip(
    states: Sequence[Tensor],
    times: Sequence[float],
    path: str | Path | None = None,
    *,
    names: Sequence[str] = (),
    gap: int = 1,
    theme: Theme = light,
) -> Figure:
    """Draw the way from noise to data: a column for each time, a row for each sample.

    Args:
        states: Images (B, C, H, W) in [0, 1] at each time.
        times: The times, as the names of the columns.
        path: The file to save; its suffix chooses the format. None: not saved.
        names: The names of the B rows; none by default.
        gap: Pixels between neighbours.
        theme: The colours.

    Returns:
        The figure.
    """
    rows = len(states[0])
    board = mosaic(torch.stack(list(states), 1).flatten(0, 1), len(states), gap)
    height, width = board.shape[:2]
    with figure(theme, 10, 10 * height / width + 0.6, path) as (made, axes):
        _show(axes, board)
        axes.xaxis.tick_top()
        axes.set_xticks(_middles(len(states), width, gap), [f"t = {t:.2g}" for t in times])
        axes.set_yticks(_middles(rows, height, gap) if names else [], list(names))
        axes.tick_params(length=0)
    return made


def _middles(count: int, length: int, gap: int) -> list[float]:
    """The positions of the ticks in the middle of each of `count` images along `length` pixels."""
    each = (length + gap) / count
    return [each * k + (each - gap) / 2 - 0.5 for k in range(count)]


def _show(axes: Any, board: Tensor) -> None:
    """Draw a mosaic without a frame."""
    axes.imshow(board.numpy(), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
