"""The time at which log-densities begin: data of whole levels have no density at t = 0, and noise fills their gaps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .. import likelihood
from ..draws import seeded_by
from ..likelihood.levels import ENTROPY, width
from ..path import Path


@dataclass(frozen=True)
class Start:
    """A time at which log-densities begin, and the noise of the rows there.

    Args:
        levels: Number of levels of images in [-1, 1]; None for data without levels.
        time: The time. None: for data of levels the one whose noise fills the gaps between them, else 0.
        path: The path of the flow map.
    """

    levels: int | None
    time: float | None
    path: Path

    @property
    def has_bits(self) -> bool:
        """Whether log-densities become bits per dimension: data of levels, whose gaps are filled as far as they go."""
        return self.levels is not None and not self.time

    def __call__(self, x: Tensor, seed: int) -> tuple[Tensor, float, Tensor]:
        """The states of rows at the time.

        Args:
            x: The rows as the flow knows them, standardised if it has units, (n, ...).
            seed: Seed of the noise.

        Returns:
            The states; the time; and the change of their log-densities to the ones of the rows, (n,).
        """
        with seeded_by(torch.device("cpu"), seed):
            if self.levels is not None and self.time is None:
                return likelihood.noised(x, self.levels, path=self.path)
            none = torch.zeros(len(x))
            if self.levels is not None and self.time == 0:
                return likelihood.dequantised(x, self.levels), 0.0, none
            if not self.time:
                return x, 0.0, none
            if self.path.curved:
                return self.path.interpolate(x, torch.randn(x.shape).to(x), self.time), self.time, none
            alpha, sigma = scales(self.path, self.time)
            return alpha * x + sigma * torch.randn(x.shape).to(x), self.time, none + x[0].numel() * math.log(alpha)

    def expected(self, time: float, values: int) -> float:
        """The mean of the change over the noise.

        Args:
            time: The time.
            values: Number of values in a row.
        """
        if self.path.curved:
            return 0.0
        alpha, sigma = scales(self.path, time)
        if self.levels is not None and self.time is None:
            return values * (math.log(sigma / width(self.levels, -1.0, 1.0)) + ENTROPY)
        return values * math.log(alpha) if self.time else 0.0

    def note(self, name: str, time: float) -> str:
        """A sentence about the noise; "" if there is none.

        Args:
            name: Name of the data.
            time: The time.
        """
        if self.path.curved:
            return f"The density is one of data with noise, at t = {time:.3g}" if self.time else ""
        alpha, sigma = scales(self.path, time)
        if self.levels is not None and self.time is None:
            return (
                f"Images are on the {self.levels} levels of {name}, which have no density at t = 0: they begin at "
                f"t = {time:.3g}, whose noise fills the gaps between levels. The uniform law has "
                f"{math.log2(self.levels):.4g} bits per dimension"
            )
        if self.levels is not None and self.time == 0:
            return (
                f"Uniform noise fills the gaps between the {self.levels} levels of {name}; this is for flow maps that "
                "were trained on such rows"
            )
        if not self.time:
            return ""
        return f"The density is one of data with noise of standard deviation {sigma / alpha:.3g}, at t = {time:.3g}"


def scales(path: Path, time: float) -> tuple[float, float]:
    """The factors of data and noise at a time."""
    t = torch.tensor(time, dtype=torch.float64)
    return float(path.alpha(t)), float(path.sigma(t))


def begun(estimate: Any, time: float, path: Path, values: int) -> tuple[likelihood.Estimator, bool, float]:
    """An estimator that begins at a time.

    Args:
        estimate: The estimator.
        time: The time.
        path: The path of the flow map.
        values: Number of values in a row.

    Returns:
        The estimator; whether it takes the states at this time, and not the rows themselves; and a change of its
        result.

    Raises:
        ValueError: The estimator has no time to begin at.
    """
    if time == 0:
        return estimate, True, 0.0
    if isinstance(estimate, likelihood.Bound):  # its integral ends at the time, with clean rows
        time = max(time, estimate.start)
        return replace(estimate, start=time), False, -0.5 * values * math.log(sum(a**2 for a in scales(path, time)))
    if isinstance(estimate, likelihood.Ode):
        return replace(estimate, start=time), True, 0.0
    if (times := getattr(estimate, "times", None)) is not None and len(times) > 1 and times[1] > time:
        return replace(estimate, times=(time, *times[1:])), True, 0.0
    raise ValueError(
        f"these data begin at t = {time:.3g}, and the estimator {type(estimate).__name__} cannot begin there: take the "
        "estimators of fm.likelihood, with fewer jumps"
    )
