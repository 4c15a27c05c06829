"""The result of a look-ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from ..path import Time
from .spread import Spread


@dataclass(frozen=True)
class Outlook:
    """Knowledge of x0 given x_t: draws, or a point with a covariance around it.

    Attributes:
        draws: (n, B, ...); one draw is a point.
        log_weights: (n, B), up to a constant in each row; None for equal weights.
        spread: Covariance of x0 around a single point; None for draws.
    """

    draws: Tensor
    log_weights: Tensor | None = None
    spread: Spread | None = None


class Look(Protocol):
    """Look-ahead."""

    @property
    def from_map(self) -> bool:
        """Whether the draws are jumps of the flow map from x_t, whose reward does not vanish at t = 1."""
        ...

    def __call__(self, flow: Any, x: Tensor, t: Time) -> Outlook:
        """The data known from the state x at time t, differentiable in x."""
        ...
