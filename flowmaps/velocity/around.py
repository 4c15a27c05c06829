"""The base of velocities that are made of one other flow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..path import Path, linear
from ..units import Units, units_of


class AroundFlow(nn.Module):
    """A velocity made of a flow: it has the flow's path, units, device and network.

    Args:
        flow: Any object with velocity(x, t).
    """

    def __init__(self, flow: Any) -> None:
        super().__init__()
        self.flow = flow

    @property
    def path(self) -> Path:
        """Path of the flow."""
        return getattr(self.flow, "path", linear)

    @property
    def units(self) -> Units | None:
        """Units of the data of the flow."""
        return units_of(self.flow)

    @property
    def like(self) -> Tensor:
        """Empty tensor with the device and dtype that the flow takes."""
        return getattr(self.flow, "like", torch.empty(0))

    @property
    def network(self) -> Any:
        """Network of the flow."""
        return getattr(self.flow, "network", None)
