"""The Gaussian of images whose axes are a product of axes for channels, rows and columns."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..arguments import expect_finite, expect_floating, expect_tensor, within
from ..exact import gaussian_average_velocity
from ..path import Path
from ..serialise import describable

AXES = ("channels", "rows", "columns")


@describable
class SeparableSkip(nn.Module):
    """The network predicts the rest V - V_G beside the average velocity V_G of a Gaussian fitted to images.

    Args:
        mean: Mean of the images, (C, H, W).
        variances: Variances along the axes, (C, H, W).
        channels: Axes of the channels as columns, (C, C).
        rows: Axes along the height, (H, H).
        columns: Axes along the width, (W, W).

    It is `GaussianSkip` for images that are too large for a matrix of (C H W)^2 axes. Here an axis is a product of
    three: a mix of the channels, a profile along the height and one along the width, which come from the covariance of
    each. For photographs they are close to the cosine transform. Build it with `SeparableSkip.fit(x0)`.

    Raises:
        TypeError: An argument is no tensor.
        ValueError: The shapes do not fit together.
    """

    mean: Tensor
    variances: Tensor
    channels: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, mean: Tensor, variances: Tensor, channels: Tensor, rows: Tensor, columns: Tensor) -> None:
        super().__init__()
        given = {"mean": mean, "variances": variances, "channels": channels, "rows": rows, "columns": columns}
        for name, value in given.items():
            expect_tensor(name, value)
        squares = [tuple(given[name].shape) for name in AXES]
        if mean.ndim != 3 or variances.shape != mean.shape or squares != [(side, side) for side in mean.shape]:
            raise ValueError(
                "a Gaussian of images needs mean and variances (C, H, W) and axes (C, C), (H, H) and (W, W), got "
                + ", ".join(f"{name} {tuple(value.shape)}" for name, value in given.items())
            )
        for name, value in given.items():
            self.register_buffer(name, value.clone(memory_format=torch.contiguous_format))

    @classmethod
    def fit(cls, x0: Tensor, floor: float = 0.01) -> SeparableSkip:
        """Fit the Gaussian to images.

        Args:
            x0: Images, (N, C, H, W).
            floor: Smallest variance; it bounds the skip's slope near t = 0.

        Returns:
            The output, in the dtype of the images.

        Raises:
            ValueError: These are fewer than 2 images, or their values are not finite.
        """
        within(0, math.inf, floor=floor)
        expect_floating("x0", x0, "(N, C, H, W)", least=4)
        if x0.ndim != 4 or len(x0) < 2:
            raise ValueError(f"the axes of images need at least 2 images (N, C, H, W), got {tuple(x0.shape)}")
        expect_finite("x0", x0)
        mean = x0.mean(dim=0)
        centred = x0 - mean
        axes = [principal(centred.movedim(axis, -1).flatten(0, -2)) for axis in (1, 2, 3)]
        made = cls(mean, torch.ones_like(mean), *axes)
        made.variances = made.turned(centred).square().mean(dim=0).clamp(min=floor)
        return made

    def forward(self, value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        """Average velocity V from the network's value."""
        if x.shape[1:] != self.mean.shape:
            expected = ", ".join(map(str, self.mean.shape))
            raise ValueError(f"the axes of these images need x (B, {expected}), got {tuple(x.shape)}")
        with torch.autocast(self.mean.device.type, enabled=False):
            mean, variances = self.turned(self.mean), self.variances.flatten()
            V = gaussian_average_velocity(self.turned(x.to(self.mean.dtype)), s, t, path, mean, variances, None)
            return self.turned_back(V).to(x.dtype) + value

    def turned(self, x: Tensor) -> Tensor:
        """Coordinates of images (..., C, H, W) along the axes."""
        return product(x, self.channels, self.rows, self.columns)

    def turned_back(self, x: Tensor) -> Tensor:
        """Images of coordinates (..., C, H, W)."""
        return product(x, self.channels.T, self.rows.T, self.columns.T)


def product(x: Tensor, channels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Multiply images (..., C, H, W) with a matrix along each axis."""
    x = torch.matmul(x, columns)
    x = torch.matmul(rows.T, x)
    mixed = torch.matmul(channels.T, x.flatten(-2))
    return mixed.reshape(x.shape)


def principal(rows: Tensor) -> Tensor:
    """The eigenvectors (D, D) of the second moment of rows (N, D), the largest first, in their dtype."""
    moment = rows.double().T @ rows.double()
    return torch.linalg.eigh(moment).eigenvectors.flip(1).to(rows.dtype)
