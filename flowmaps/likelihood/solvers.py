"""Solvers of the ODE of a state and its log-density: equal steps in plain torch, or any solver of torchdiffeq."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..arguments import at_least, install, positive, shown

Rate = Callable[[Tensor, float], Tensor]
"""(state, time) -> its derivative in time."""
Rule = Callable[[Rate, Tensor, float, float], Tensor]
"""(rate, state, s, t) -> the state after one step from s to t."""

TOLERANT = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
"""The solvers of torchdiffeq that choose their steps by a tolerance."""


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
        options: Options of the solver. Solvers of fixed steps need some, such as {"step_size": 0.02}.

    Raises:
        ValueError: A tolerance is not positive, or the solver has none and no options.
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    options: Mapping[str, Any] | None = None
    adaptive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive(rtol=self.rtol, atol=self.atol)
        if self.method not in TOLERANT and not self.options:
            raise ValueError(
                f"{shown(self.method)} is no solver of torchdiffeq with a tolerance, such as {', '.join(TOLERANT)}: "
                "without options, such as {'step_size': 0.02}, torchdiffeq takes the whole way in one step. For fixed "
                "steps there is likelihood.grid(steps, rule) too"
            )

    def __call__(self, rate: Rate, y: Tensor, s: float, t: float) -> Tensor:
        """The state at time t. Raises ImportError without torchdiffeq."""
        try:
            from torchdiffeq import odeint
        except ImportError:
            raise ImportError(f"likelihood.adaptive needs torchdiffeq: {install('ode')}") from None
        ends = torch.tensor([s, t], dtype=y.dtype, device=y.device)

        def within(u: Tensor, y: Tensor) -> Tensor:
            return rate(y, min(max(float(u), min(s, t)), max(s, t)))  # rounding takes solvers past the ends

        options = None if self.options is None else dict(self.options)
        return odeint(within, y, ends, rtol=self.rtol, atol=self.atol, method=self.method, options=options)[-1]


Solver = Callable[[Rate, Tensor, float, float], Tensor]


def grid(steps: int = 50, rule: Rule = rk4, power: float = 1.0) -> Grid:
    """Given steps in plain torch, see `Grid`."""
    return Grid(steps, rule, power)


def adaptive(
    method: str = "dopri5", rtol: float = 1e-5, atol: float = 1e-5, options: Mapping[str, Any] | None = None
) -> Adaptive:
    """A solver of torchdiffeq to a tolerance, see `Adaptive`."""
    return Adaptive(method, rtol, atol, options)


def keeps_probes(solver: Any) -> bool:
    """Whether a solver compares steps with each other, so that it must see one and the same function."""
    return bool(getattr(solver, "adaptive", True))
