"""Outputs with a bounded denoised field."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..arguments import finite, shown
from ..links import identity
from ..path import Path
from ..serialise import describable
from .predictions import Endpoint, Output, average_velocity


@describable
class Bounded(nn.Module):
    """Another output with its denoised field clamped to the range of the data:  D <- clamp(D, low, high).

    Args:
        output: The other output, with average velocity V'.
        low: Least value of the data.
        high: Largest value of the data.
        min_time: Source time below which nothing is clamped, for x is the data already.

    Raises:
        ValueError: low is not below high, or the output is an `Endpoint` with a link.

    On the linear path V = (x - clamp(x - s V', low, high))/s. Where the clamp does not act, V = V'. At the true flow
    map D is a weighted mean of E[x_0 | x_u] over the times u from t to s, so it lies in the range of the data. Values
    at the edge of the range, such as the background of an image, come out exact.
    """

    def __init__(
        self, output: Output = average_velocity, low: float = -1.0, high: float = 1.0, min_time: float = 1e-3
    ) -> None:
        super().__init__()
        finite(low=low, high=high)
        if not callable(output) or isinstance(output, type):
            raise TypeError(f"an output is a function (value, x, s, t, path) -> V, got {shown(output)}")
        if not low < high:
            raise ValueError(f"the bounds of the data must be low < high, got {low} and {high}")
        if getattr(output, "link", identity) is not identity:
            raise ValueError(f"{output!r} has a bounded field already: give the FlowMap this output itself")
        self.output, self.low, self.high = output, low, high
        self.endpoint = Endpoint(min_time)  # for its linear relation of V, x and D

    @property
    def elementwise(self) -> bool:
        """Whether it takes times per frame."""
        return bool(getattr(self.output, "elementwise", False))

    def forward(self, value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        """Average velocity V from the network's value."""
        V = self.output(value, x, s, t, path)
        D = self.endpoint.field(V, x, s, t, path)
        cut = self.endpoint.coefficients(s, t, path)[1] * (D.clamp(self.low, self.high) - D)
        return V + torch.where(s < self.endpoint.min_time, torch.zeros_like(cut), cut)
