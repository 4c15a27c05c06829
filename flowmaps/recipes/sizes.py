"""Sizes of the U-Net for images, and rows of a batch, by size of an image, device and length of training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..data import Data

SMALL = 1024
"""Number of values in an image up to which an MLP is used."""
PASSES = 3.5
"""Forward passes of the network that a training step costs, by most methods."""
RATES = {"cpu": 5e10, "cuda": 2e13}
"""Typical operations per second of a device in training. Sizes must not depend on a measured time."""
HOURS = {"cpu": 1.0, "cuda": 8.0}
"""Length of training that the sizes are chosen for, if it is given in steps."""
LEAST_STEPS = 1000
"""Number of steps that must fit, if the length of training is given in seconds."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a training run on images.

    Args:
        width: Channels of the U-Net at the highest resolution.
        depth: Blocks of the U-Net for each resolution.
        batch_size: Rows of a step.
    """

    width: int = 64
    depth: int = 2
    batch_size: int = 256

    def operations(self, shape: tuple[int, ...]) -> float:
        """Operations of a training step, within about a tenth; the tests count them.

        Args:
            shape: (C, H, W) of one image.

        Returns:
            The number.
        """
        pixels = math.prod(shape[1:])
        return PASSES * self.batch_size * self.width**2 * pixels * (255 + 212 * self.depth)


LADDER = (
    Sizes(), Sizes(64, 2, 128), Sizes(64, 2, 64), Sizes(48, 2, 64), Sizes(32, 2, 64), Sizes(32, 2, 32),
    Sizes(32, 1, 32), Sizes(24, 1, 32), Sizes(16, 1, 32), Sizes(16, 1, 16),
)  # fmt: skip
"""Sizes from the largest to the smallest."""


TOKENS = 2048
"""Number of tokens in a training step on a CPU."""
LEAST_ROWS, MOST_ROWS = 16, 256
"""Bounds of the rows of a training step on tokens."""


def token_rows(data: Data, device: str = "cpu") -> int:
    """Rows of a training step on tokens: about 2048 tokens on a CPU, 256 rows on other devices.

    Args:
        data: The data set, of kind "tokens".
        device: Kind of the device.

    Returns:
        The number.
    """
    if not device.startswith("cpu"):
        return MOST_ROWS
    return max(LEAST_ROWS, min(MOST_ROWS, TOKENS // data.shape[0]))


def are_large(data: Data) -> bool:
    """Whether these are images that get a U-Net."""
    return data.kind == "images" and math.prod(data.shape) > SMALL


def sizes_for(
    data: Data,
    device: str = "cpu",
    *,
    steps: int | None = None,
    seconds: float | None = None,
    width: int | None = None,
    depth: int | None = None,
    batch_size: int | None = None,
) -> Sizes:
    """Choose sizes for images, so that training on a usual device takes at most an hour (on a GPU a night).

    The choice depends on the shape of the images, on the kind of the device and on the length of training alone.

    Args:
        data: The images.
        device: Kind of the device, "cpu" or "cuda".
        steps: Training steps.
        seconds: Training time, instead of `steps`.
        width: Channels of the U-Net. None: chosen.
        depth: Blocks of the U-Net. None: chosen.
        batch_size: Rows of a step. None: chosen.

    Returns:
        The largest sizes that fit, or the smallest of all.
    """
    kind = "cpu" if device.startswith("cpu") else "cuda"
    budget = (3600 * HOURS[kind] / (steps or 1) if seconds is None else seconds / LEAST_STEPS) * RATES[kind]
    ladder = [Sizes(width or one.width, depth or one.depth, batch_size or one.batch_size) for one in LADDER]
    return next((one for one in ladder if one.operations(data.shape) <= budget), ladder[-1])
