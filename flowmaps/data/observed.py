"""Observations of each row as conditions: a noisy state for posterior maps, a measurement for noise adapters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..arguments import positive, shown, within
from ..path import Path, linear
from ..units import Units
from .core import Batch, Data
from .transformed import BatchDraws, Transformed


@dataclass(frozen=True)
class WithState:
    """Add a noisy state of each row to its conditions: `state` = x_t and `at` = t, for maps of the posterior.

    The state has noise of its own, so a method that trains on these batches learns the law of x_0 given x_t, whatever
    its loss. Times are t = 1 - U^2, dense near the noise, and t = 1 with probability `pure`, where the law is that of
    the data (Meta Flow Maps, arXiv 2601.14430).

    Args:
        path: The path from data to noise.
        pure: Probability of t = 1, in [0, 1].

    Raises:
        ValueError: The probability is outside [0, 1].
    """

    path: Path = linear
    pure: float = 0.1

    def __post_init__(self) -> None:
        within(0, 1, pure=self.pure)

    def __call__(self, batch: Batch, draws: BatchDraws) -> Batch:
        """Add states and their times to the conditions of a batch."""
        t = 1 - draws.uniform(batch.x0) ** 2
        t = torch.where(draws.uniform(batch.x0) < self.pure, torch.ones_like(t), t)
        state = self.path.interpolate(batch.x0, draws.normal(batch.x0), t)
        return batch._replace(given={**(batch.given or {}), "state": state, "at": t})


def with_state(data: Data, path: Path = linear, *, pure: float = 0.1) -> Data:
    """Change a data set so that every row carries a noisy state of its own, as `WithState` does.

    Args:
        data: The data set.
        path: The path of the flow map.
        pure: Probability that the state is noise alone.

    Returns:
        A data set with the conditions `state` (B, *shape) and `at` (B,), also in rows from `draw` and `held_out`. A
        network that takes them is `networks.StateInput`; a teacher is `velocity.Glass`.
    """
    source = Transformed(data.source, (WithState(path, pure),), everywhere=True)
    return replace(data, source=source, given=(*data.given, "state", "at"), exact=None, log_prob=None, recipe=None)


@dataclass(frozen=True)
class WithMeasurement:
    """Add a noisy measurement of each row to its conditions: `y` = A(x_0) + std n, for noise adapters.

    Args:
        measure: Function A, rows (B, *shape) -> (B, ...).
        std: Standard deviation of the noise n of the measurement.
        units: Units of standardised rows: rows are measured in the units of the data.

    Raises:
        TypeError: The measurement is no function.
        ValueError: The standard deviation is not positive.
    """

    measure: Callable[[Tensor], Tensor]
    std: float
    units: Units | None = None

    def __post_init__(self) -> None:
        positive(std=self.std)
        if not callable(self.measure):
            raise TypeError(f"a measurement is a function of rows (B, ...), got {shown(self.measure)}")

    def __call__(self, batch: Batch, draws: BatchDraws) -> Batch:
        """Add measurements to the conditions of a batch."""
        clean = self.measure(batch.x0 if self.units is None else self.units.restored(batch.x0))
        return batch._replace(given={**(batch.given or {}), "y": clean + self.std * draws.normal(clean)})


def with_measurement(data: Data, measure: Callable[[Tensor], Tensor], std: float) -> Data:
    """Change a data set so that every row carries a noisy measurement of it, as `WithMeasurement` does.

    Args:
        data: The data set.
        measure: Function A, rows (B, *shape) -> (B, ...).
        std: Standard deviation of the noise of the measurement.

    Returns:
        A data set with the condition `y`, also in rows from `draw` and `held_out`, for `methods.variational`.
    """
    source = Transformed(data.source, (WithMeasurement(measure, std, data.units),), everywhere=True)
    return replace(data, source=source, given=(*data.given, "y"), exact=None, log_prob=None, recipe=None)
