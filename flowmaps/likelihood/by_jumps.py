"""The log-density by jumps: any invertible composition of jumps is a normalising flow.

log p_N(x_0) = log N(z) + sum log |det dF/dx|,   from x_0 to z, one term for each jump
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import at_least
from ..derivative import along_many
from ..path import Geodesic, Path
from ..sampling.grid import ascending
from ..steps import Step, jump, named
from ..velocity.divergence import Field, jacobian, units
from .result import LogProb, log_noise, path_of, warn

OWN = ". Log-densities of data need jumps from data to noise; likelihood.sample has log-densities of its own samples"
"""Advice for a map that knows the way from noise to data alone."""


Followed = Callable[[Any, Tensor, Sequence[float], Step, int], tuple[Tensor, Tensor, Tensor]]
"""(flow, states, times, step, derivatives at a time) -> the last states, log-changes of volume, and folds, as below."""


def expect_end(times: Sequence[float]) -> None:
    """Raise ValueError unless times from data end at the noise."""
    if times[-1] != 1:
        raise ValueError(f"the times must end at 1, where the density of the noise is known, got {times[-1]:g}")


@dataclass(frozen=True)
class Jumps:
    """Log-densities by jumps; see `jumps`."""

    times: tuple[float, ...] = (0.0, 1.0)
    step: Step = jump
    chunk: int = 16

    def __post_init__(self) -> None:
        at_least(1, chunk=self.chunk)
        expect_end(self.times)

    def __call__(self, flow: Any, x0: Tensor) -> LogProb:
        """Log-densities of rows under the inverse of the jumps from data to noise.

        Args:
            flow: The flow map, its condition bound.
            x0: Rows, (B, ...).

        Returns:
            The log-densities, NaN in rows where a jump folds space.

        Raises:
            ValueError: The map was not trained on jumps from data to noise.
        """
        refuse_untrained(flow, self.times, self.step)
        x, change, folded = determinants(flow, x0, self.times, self.step, self.chunk)
        warn_of_folds(folded, "from data to noise")
        value = torch.where(folded == 0, log_noise(flow, x) + change, torch.nan)
        return LogProb(value, x, passes=(len(self.times) - 1) * (1 + x0[0].numel()), folded=folded)


def determinants(
    flow: Any, x: Tensor, times: Sequence[float], step: Step = jump, chunk: int = 16
) -> tuple[Tensor, Tensor, Tensor]:
    """Follow steps, and add up the log-determinants of their Jacobians.

    Args:
        flow: The flow map.
        x: States at the first time, (B, ...).
        times: The times.
        step: A deterministic step.
        chunk: Number of derivatives at a time.

    Returns:
        The last states, the sums of log |det|, (B,), and the number of steps of each row without a positive
        determinant, (B,).
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    change = torch.zeros(len(x), dtype=wide, device=x.device)
    folded = torch.zeros(len(x), dtype=torch.long, device=x.device)
    for s, t in pairwise(times):
        x, slopes = matrix(path_of(flow), functools.partial(_stepped, flow, step, s, t), x, chunk)
        sign, logarithm = torch.linalg.slogdet(slopes.to(wide))
        known = slopes.isfinite().all(2).all(1)  # else the determinant is no number, which is no fold
        change = torch.where(known, change + logarithm, torch.nan)
        folded = folded + (known & (sign <= 0))
    return x, change, folded


def matrix(path: Path, function: Field, x: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """The value of a step, and a matrix whose determinant is the change of volume.

    Args:
        path: The path.
        function: The step as a function of its state.
        x: States, (B, ...).
        chunk: Number of derivatives at a time.

    Returns:
        The value y, and the Jacobian (B, D, D). On a manifold it is P_y J P_x + N, with projections P to tangent spaces
        and the isometry N of normal spaces, so that its determinant is the one of the map of tangent spaces.
    """
    if not isinstance(path, Geodesic) or not path.curved:
        return jacobian(function, x, chunk)
    directions = path.tangent(x, units(x).expand(x.shape[1], *x.shape))
    y, columns = along_many(lambda z: function(path.point(z)), x, directions, chunk)
    return y, path.tangent(y, columns).permute(1, 2, 0) + path.normal(x, y)


def _stepped(flow: Any, step: Step, s: float, t: float, x: Tensor) -> Tensor:
    """A step as a function of its state."""
    return step(flow, x, s, t)


def deterministic(step: Step | str) -> Step:
    """Return a step, or the step of a name. Raises ValueError if it is random, so that it has no Jacobian."""
    found = named(step)
    if hasattr(found, "moments"):
        name = getattr(found, "__name__", "this")
        raise ValueError(
            f"{name} is a random step, and a density by the change of variables needs a deterministic one: take "
            "steps.jump, steps.euler or steps.heun"
        )
    return found


def refuse_untrained(flow: Any, times: Sequence[float], step: Step) -> None:
    """Refuse jumps that a map was never trained on, in the direction of the times."""
    if step is not jump:
        return
    if isinstance(flow, nn.Module) and type(flow).forward is nn.Module.forward:
        raise TypeError(
            f"a {type(flow).__name__} has a velocity but no jumps: take likelihood.ode(), or steps of the velocity, "
            "step='heun'"
        )
    for s, t in pairwise(times):
        knows = getattr(flow, "knows", None)
        if knows is not None and not knows(s, t):
            raise ValueError(f"this partial flow map has no jump from s = {s:g} to t = {t:g}{OWN if t > s else ''}")
        trained = getattr(flow, "trained", None)
        if trained is not None and (reason := trained.warning_of_times(s, t)) is not None:
            raise ValueError(f"{reason}{OWN if t > s else ''}")


def warn_of_folds(folded: Tensor, way: str) -> None:
    """Say in how many rows jumps fold space."""
    rows = int((folded > 0).sum())
    if rows:
        warn(
            f"the jumps {way} have a determinant that is not positive in {rows} of {len(folded)} rows: they fold space "
            "there, so these rows have no density, and their value is NaN. Take more steps, or train the map to be "
            "invertible (fm.methods.falcon)"
        )


def jumps(
    steps: int | None = None, *, times: Sequence[float] | None = None, step: Step | str = jump, chunk: int = 16
) -> Jumps:
    """Estimator: jumps from data to noise as a normalising flow, with the log-determinant of each.

        log p_N(x_0) = log N(z) + sum log |det dF/dx|

    The density is the one of the law that the *inverse* of these jumps makes from noise, and it is exact for that law:
    E over its samples of p/p_N is 1. A sum of divergences would not have this property. On a manifold the determinants
    are the ones of maps of tangent spaces.

    Args:
        steps: Number of equal jumps. None: 1.
        times: Times of the states instead, from data to noise, 0 to 1.
        step: Deterministic step, or its name: a jump, or `steps.heun` of a velocity.
        chunk: Number of derivatives at a time; each jump has one for each value of a row. 1 for networks that
            `torch.func` cannot follow.

    Returns:
        The estimator. FALCON: Rehman et al. 2025, arXiv 2512.09914.

    Raises:
        ValueError: The times go from noise to data, lie outside [0, 1] or do not end at 1, or the step is random.
    """
    return Jumps(tuple(ascending(steps, times)), deterministic(step), chunk)
