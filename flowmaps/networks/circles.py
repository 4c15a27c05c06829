"""A network around a network: angles become points on circles, so that the result is periodic in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import at_least, numbered
from ..serialise import describable
from .layers import expect_shape


@describable
class OnCircles(nn.Module):
    """A network of points on circles, for x with angles: network(x, s, t).

    Each angle a is the point (cos a, sin a) of a circle in the plane. The inner network sees these points and gives a
    vector of the plane for each, whose part along the circle is the rate of change of the angle. So the result has no
    seam at a = pi.

        da/dt = -sin(a) p + cos(a) q,  (p, q) the inner network's vector

    Args:
        network: the inner network, of rows with one number more for each angle: the other coordinates, then all cosines
            and then all sines.
        size: number of coordinates of a row.
        angles: numbers of the coordinates that are angles, in radians.

    Raises:
        TypeError: for numbers that are not whole.
        ValueError: for an angle that is no coordinate, or for none.
    """

    passes_time_to = "network"

    def __init__(self, network: nn.Module, size: int, angles: Sequence[int]) -> None:
        super().__init__()
        at_least(1, size=size)
        at_least(0, **numbered(angles=angles))
        if not angles or len(set(angles)) < len(angles) or max(angles) >= size:
            raise ValueError(f"angles are different coordinates 0 to {size - 1}, at least one, got {list(angles)}")
        self.network, self.size = network, size
        self.angles = list(angles)
        self.others = [at for at in range(size) if at not in self.angles]
        order = [*self.others, *self.angles]
        self.back = [order.index(at) for at in range(size)]

    def forward(self, x: Tensor, s: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """Evaluate the network at x (B, size), with times s and t (B,) and the conditions of the inner network."""
        expect_shape(x, (self.size,), next(self.network.parameters()))
        angle = x[:, self.angles]
        cos, sin = torch.cos(angle), torch.sin(angle)
        found = self.network(torch.cat([x[:, self.others], cos, sin], 1), s, t, **condition)
        rest, count = found[:, : len(self.others)], len(self.angles)
        p, q = found[:, len(self.others) : -count], found[:, -count:]
        return torch.cat([rest, cos * q - sin * p], 1)[:, self.back]
