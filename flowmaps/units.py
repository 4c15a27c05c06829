"""The units of data: the mean and standard deviation that bring rows of any size to mean 0 and standard deviation 1."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .arguments import at_least, finite, numbered
from .serialise.description import ADDED

COARSE = 1e-3
"""Rounding error of a value, in standard deviations, from which results are returned in double precision."""


@dataclass(frozen=True)
class Units:
    """Mean and standard deviation of each feature of a data set.

    A flow map with units computes on standardised states, z = (x - mean) / std. `fm.sample` and its relatives convert
    to the units of the data and back.

    Args:
        mean: Mean of each feature. A feature is an index of one axis of a row; a single number holds for all.
        std: Standard deviation of each feature. If it is 0, the feature is constant and comes back as its mean.
        axis: The axis of a row along which the features lie: 0 for vectors and channels, 1 for sequences (T, C).

    Raises:
        ValueError: There are no numbers, or not as many of both, a number is not finite, or a standard deviation or
            the axis is negative.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    axis: int = field(default=0, metadata=ADDED)

    def __post_init__(self) -> None:
        at_least(0, axis=self.axis)
        for name in ("mean", "std"):
            finite(**numbered(**{name: getattr(self, name)}))
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        if not self.mean or len(self.mean) != len(self.std) or min(self.std) < 0:
            raise ValueError(
                f"units are as many means as standard deviations of 0 or more, got {len(self.mean)} means and "
                f"{len(self.std)} standard deviations, the smallest {min(self.std, default=math.nan):g}"
            )

    def standardised(self, x: Tensor) -> Tensor:
        """(x - mean) / std for rows (B, ...), in the dtype of x; a constant feature is divided by its size."""
        mean, std = self._like(x)
        size = torch.where(mean == 0, 1.0, mean.abs())
        return ((x.to(mean) - mean) / torch.where(std == 0, size, std)).to(x.dtype)

    def restored(self, z: Tensor) -> Tensor:
        """Mean + std z for rows (B, ...), in the dtype of z, or in float64 if that dtype would round noticeably."""
        mean, std = self._like(z)
        x = mean + std * z.to(mean)
        return x if self._offset * torch.finfo(z.dtype).eps > COARSE else x.to(z.dtype)

    def check(self, shape: tuple[int, ...], name: str) -> None:
        """Raise ValueError unless rows of this shape have as many features as the units; `name` names the rows."""
        if len(self.mean) != 1 and shape[self.axis : self.axis + 1] != (len(self.mean),):
            place = f" on axis {self.axis}" if self.axis else ""
            raise ValueError(
                f"these units have {len(self.mean)} features{place}, and rows of {name} have shape {shape}: take the "
                "data that the flow map was trained on"
            )

    @cached_property
    def _offset(self) -> float:
        """Largest distance of a mean from 0, in standard deviations."""
        return max((abs(mean) / std for mean, std in zip(self.mean, self.std, strict=True) if std), default=0.0)

    @cached_property
    def _values(self) -> tuple[Tensor, Tensor]:
        """Means and standard deviations (D,), float64 on the CPU."""
        return torch.tensor(self.mean, dtype=torch.float64), torch.tensor(self.std, dtype=torch.float64)

    def _like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation beside rows x, in double precision where the device has it."""
        dtype = torch.float32 if x.device.type == "mps" else torch.float64
        mean, std = (value.to(x.device, dtype).reshape(-1, *[1] * (x.ndim - 2 - self.axis)) for value in self._values)
        return mean, std


def units_of(flow: Any) -> Units | None:
    """The units of a flow map, or of an object that stands in for one; None without units."""
    found = getattr(flow, "units", None)
    return found if isinstance(found, Units) else None
