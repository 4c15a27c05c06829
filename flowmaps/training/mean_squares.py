"""The unweighted mean square of each term's residual, smoothed over the steps between two rows of metrics."""

from __future__ import annotations

import math
from collections import deque

import torch
from torch import Tensor

from ..method.method import Loss

SAMPLES = 10
"""Number of steps, evenly spaced between two rows of metrics, over which mean squares are averaged."""


class MeanSquares:
    """Average the mean squares of residuals over the last `every` steps.

    Adaptive and learned weights hide the size of a residual: the weighted loss of a method can stay at 1 while the map
    improves. The mean square shows it. It is taken of residuals that the loss has computed already, at up to ten of the
    steps, and stays on the device until it is read.

    Args:
        every: Number of steps between two rows of metrics.
    """

    def __init__(self, every: int) -> None:
        self._stride = max(1, every // SAMPLES)
        self._kept: deque[dict[str, Tensor]] = deque(maxlen=len(range(0, every, self._stride)))

    def add(self, step: int, loss: Loss) -> None:
        """Keep the mean squares of a step, if it is one of those that count.

        Args:
            step: The number of the step.
            loss: Its loss, detached.
        """
        residuals = squared(loss)
        if step % self._stride == 0 or not self._kept or self._kept[-1].keys() != residuals.keys():
            self._kept.append({name: mean_square(residual) for name, residual in residuals.items()})

    def read(self) -> dict[str, float | None]:
        """Return the average of each term of the last step, or None if it is not finite. It waits for the device."""
        names = self._kept[-1] if self._kept else {}
        known = {name: [row[name] for row in self._kept if name in row] for name in names}
        means = {name: float(torch.stack(values).mean()) for name, values in known.items()}
        return {name: value if math.isfinite(value) else None for name, value in means.items()}


def squared(loss: Loss) -> dict[str, Tensor]:
    """Return the residuals of a loss by term, without those that are distances or losses already."""
    return {name: t.residual for name, t in loss.terms.items() if not t.is_distance and t.residual.numel()}


def mean_square(residual: Tensor) -> Tensor:
    """Return the mean of r^2 over rows and coordinates, at least in float32."""
    return residual.detach().to(torch.promote_types(residual.dtype, torch.float32)).square().mean()
