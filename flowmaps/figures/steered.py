"""Picture of steered samples: the measurement, the samples, their mean and their spread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .pictures import mosaic
from .style import SHADES, Theme, figure, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HOLE = (0.84, 0.37, 0.0)
"""Colour of pixels that were not measured, in red, green and blue."""


def steered(
    x: Tensor,
    mean: Tensor,
    std: Tensor,
    *,
    measurement: Tensor | None = None,
    truth: Tensor | None = None,
    path: str | Path | None = None,
    theme: Theme = light,
) -> Figure:
    """Draw steered samples of images: measurement, truth, mean and spread at the left, the samples at the right.

    Args:
        x: Samples (N, C, H, W) in [0, 1].
        mean: Their mean (C, H, W).
        std: Their standard deviation (C, H, W), in the units of the data.
        measurement: The measurement as an image (C, h, w); NaN where nothing was measured. None: there is none.
        truth: The image that was measured. None: it is not known.
        path: The file to save; its suffix chooses the format. None: not saved.
        theme: The colours.

    Returns:
        The figure.
    """
    known = measurement is not None and bool(measurement.isnan().any())
    name = "measurement (unknown: orange)" if known else "measurement"
    panels = {name: measurement, "truth": truth, "mean of samples": mean}
    drawn = {name: _coloured(image) for name, image in panels.items() if image is not None}
    columns = 1 if len(drawn) < 3 else 2
    rows = -(-(len(drawn) + 1) // columns)
    board = mosaic(x, gap=max(1, x.shape[-1] // 8))
    height, width = 5.2, 5.2 * board.shape[1] / board.shape[0]
    left = columns * height / rows
    ratios = [*[left / columns] * columns, width]
    with figure(theme, left + width + 0.4, height + 0.5, path, nrows=rows, ncols=columns + 1, width_ratios=ratios,
                squeeze=False) as (made, axes):  # fmt: skip
        grid = axes[0, 0].get_gridspec()
        for row in range(rows):
            axes[row, -1].remove()
        _panel(made.add_subplot(grid[:, -1]), board.numpy(), f"{len(x)} samples" if len(x) > 1 else "1 sample")
        places = [axes[row, column] for row in range(rows) for column in range(columns)]
        for place, (name, image) in zip(places, drawn.items(), strict=False):
            _panel(place, image, name)
        shade = _panel(places[len(drawn)], std.mean(0).float().numpy(), "spread of samples", cmap=SHADES, vmin=0)
        bar = made.colorbar(shade, ax=places[len(drawn)], shrink=0.8)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
        for place in places[len(drawn) + 1 :]:
            place.remove()
    return made


def _coloured(image: Tensor) -> Any:
    """An image (C, h, w) as (h, w, 3), with a colour where it is NaN."""
    pixels = image.detach().float().cpu()
    pixels = pixels.expand(3, -1, -1) if len(pixels) == 1 else pixels
    hole = torch.tensor(HOLE)[:, None, None].expand(pixels.shape)
    return torch.where(pixels.isnan(), hole, pixels.clamp(0, 1)).movedim(0, -1).numpy()


def _panel(axes: Any, image: Any, title: str, **options: Any) -> Any:
    """Draw one image without a frame, with a title. Returns it."""
    drawn = axes.imshow(image, interpolation="nearest", **options)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=11)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return drawn
