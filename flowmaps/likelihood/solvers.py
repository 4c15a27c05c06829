"""Solvers of the ODE of a state and its log-density: equal steps in plain torch, or any solver of torchdiffeq."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..arguments import at_least, install, positive

Rate = Callable[[Tensor, float], Tensor]
"""(state, time) -> its derivative in time."""
Rule = Callable[[Rate, Tensor, float, float], Tensor]
"""(rate, state, s, t) -> the state after one step from s to t."""


def euler(rate: Rate, y: Tensor, s: float, t: float) -> Tensor:
    """Euler step: one evaluation."""
    return y + (t - s) * rate(y, s)


def heun(rate: Rate, y: Tensor, s: float, t: float) -> Tensor:
    """Heun step, of second order: two evaluations."""
    first = rate(y, s)
    return y + (t - s) / 2 * (first + rate(y + (t - s) * first, t))


def rk4(rate: Rate, y: Tensor, s: float, t: float) -> Tensor:
    """The classical Runge-Kutta step, of fourth order: four evaluations."""
    h, middle = t - s, (s + t) / 2
    a = rate(y, s)
    b = rate(y + h / 2 * a, middle)
    c = rate(y + h / 2 * b, middle)
    return y + h / 6 * (a + 2 * b + 2 * c + rate(y + h * c, t))


@dataclass(frozen=True)
class Grid:
    """Given steps in plain torch, by default equal ones.

    Args:
        steps: Number of steps.
        rule: The step: `euler`, `heun` or `rk4`.
        power: The times are (k/steps)^power of the way. Above 1 they are dense near the data, as the variance-exploding
            path needs them.

    Raises:
        ValueError: There is less than one step, or the power is not positive.
    """

    steps: int = 50
    rule: Rule = rk4
    power: float = 1.0
    adaptive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        positive(power=self.power)

    def __call__(self, rate: Rate, y: Tensor, s: float, t: float) -> Tensor:
        """The state at time t."""
        for a, b in pairwise(s + (t - s) * (k / self.steps) ** self.power for k in range(self.steps + 1)):
            y = self.rule(rate, y, a, b)
        return y


@dataclass(frozen=True)
class Adaptive:
    """A solver of torchdiffeq, to a tolerance. It chooses its steps for a whole batch.

    Args:
        method: Solver of `torchdiffeq.odeint`.
        rtol: Relative tolerance.
        atol: Absolute tolerance.

    Raises:
        ValueError: A tolerance is not positive.
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    adaptive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive(rtol=self.rtol, atol=self.atol)

    def __call__(self, rate: Rate, y: Tensor, s: float, t: float) -> Tensor:
        """The state at time t. Raises ImportError without torchdiffeq."""
        try:
            from torchdiffeq import odeint
            from torchdiffeq._impl.odeint import SOLVERS
            from torchdiffeq._impl.solvers import FixedGridODESolver
        except ImportError:
            raise ImportError(f"likelihood.adaptive needs torchdiffeq: {install('ode')}") from None
        found = SOLVERS.get(self.method)
        if isinstance(found, type) and issubclass(found, FixedGridODESolver):
            raise ValueError(
                f"{self.method} has no tolerance: torchdiffeq would take the whole way in one step. Take "
                "likelihood.grid(steps, rule), or a solver with adaptive steps such as dopri5"
            )
        ends = torch.tensor([s, t], dtype=y.dtype, device=y.device)

        def within(u: Tensor, y: Tensor) -> Tensor:
            return rate(y, min(max(float(u), min(s, t)), max(s, t)))  # rounding takes solvers past the ends

        return odeint(within, y, ends, rtol=self.rtol, atol=self.atol, method=self.method)[-1]


Solver = Callable[[Rate, Tensor, float, float], Tensor]


def grid(steps: int = 50, rule: Rule = rk4, power: float = 1.0) -> Grid:
    """Given steps in plain torch, see `Grid`."""
    return Grid(steps, rule, power)


def adaptive(method: str = "dopri5", rtol: float = 1e-5, atol: float = 1e-5) -> Adaptive:
    """A solver of torchdiffeq to a tolerance, see `Adaptive`."""
    return Adaptive(method, rtol, atol)


def keeps_probes(solver: Any) -> bool:
    """Whether a solver compares steps with each other, so that it must see one and the same function."""
    return bool(getattr(solver, "adaptive", True))
