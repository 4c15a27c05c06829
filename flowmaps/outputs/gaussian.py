"""The average velocity of a Gaussian beside the value of the network."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..arguments import expect_tensor, within
from ..exact import Gaussian, gaussian_average_velocity
from ..path import Path
from ..serialise import describable


@describable
class GaussianSkip(nn.Module):
    """The network predicts the rest V - V_G beside the average velocity V_G of a Gaussian fitted to the data.

    Args:
        mean: Mean of the data, (*shape).
        variances: Variances along the principal axes.
        basis: Principal axes.

    Build it with `GaussianSkip.fit(x0)`. V_G is a closed form (`exact.gaussian_average_velocity`). It is right at large
    times, and for the coarse statistics at all times.
    """

    mean: Tensor
    variances: Tensor
    basis: Tensor

    def __init__(self, mean: Tensor, variances: Tensor, basis: Tensor) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("variances", variances), ("basis", basis)):
            expect_tensor(name, value)
        size = mean.numel()
        if tuple(variances.shape) != (size,) or tuple(basis.shape) != (size, size):
            raise ValueError(
                f"a Gaussian of {size} values needs variances ({size},) and a basis ({size}, {size}), got "
                f"{tuple(variances.shape)} and {tuple(basis.shape)}"
            )
        for name, value in (("mean", mean), ("variances", variances), ("basis", basis)):
            self.register_buffer(name, value.clone(memory_format=torch.contiguous_format))

    @classmethod
    def fit(cls, x0: Tensor, floor: float = 0.01) -> GaussianSkip:
        """Fit the Gaussian to data.

        Args:
            x0: Data, (N, *shape).
            floor: Smallest variance; it bounds the skip's slope near t = 0.

        Returns:
            The output, in the dtype of the data.
        """
        within(0, math.inf, floor=floor)
        gaussian = Gaussian.fit(x0, floor=floor)
        assert gaussian.basis is not None
        return cls(gaussian.mean.to(x0.dtype), gaussian.variances.to(x0.dtype), gaussian.basis.to(x0.dtype))

    def forward(self, value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        """Average velocity V from the network's value."""
        with torch.autocast(self.mean.device.type, enabled=False):
            return gaussian_average_velocity(x, s, t, path, self.mean, self.variances, self.basis) + value
