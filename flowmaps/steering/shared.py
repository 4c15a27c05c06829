"""One network call for a look-ahead and for the step of its caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import path as paths
from ..flow_map import check_velocity
from ..path import Path, Time, expand, linear


class Shared:
    """A flow that answers a question about the same state once: v, f and F of one network call are made from it.

    The state must be the same tensor. Answers are kept as long as this object.

    Args:
        flow: The flow map, or another object with a velocity.
    """

    def __init__(self, flow: Any) -> None:
        self.flow: Any = flow.flow if isinstance(flow, Shared) else flow
        self._answers: dict[tuple[Any, ...], tuple[Tensor, tuple[Time, ...], Tensor]]
        self._answers = flow._answers if isinstance(flow, Shared) else {}

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """v(x, t)."""
        return self._once("velocity", self.flow.velocity, x, t)

    def average_velocity(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """V(x, s, t)."""
        return self._once("average_velocity", self.flow.average_velocity, x, s, t)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """f(x, t), from v(x, t)."""
        return self.path.convert(self.velocity(x, t), x, t, paths.velocity, paths.data)

    def __call__(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """F(x, s, t)."""
        return self._once("jump", self.flow, x, s, t)

    @property
    def path(self) -> Path:
        """Path of the flow."""
        return getattr(self.flow, "path", linear)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.flow, name)

    def renamed(self, x: Tensor, y: Tensor) -> None:
        """Give the answers about x, cut off from their graph, for y, a tensor of the same values."""
        for key, (state, times, answer) in list(self._answers.items()):
            if state is x:
                self._answers[(key[0], id(y), *key[2:])] = (y, times, answer.detach())

    def _once(self, name: str, ask: Callable[..., Tensor], x: Tensor, *times: Time) -> Tensor:
        key = (name, id(x), *(id(t) if isinstance(t, Tensor) else t for t in times))
        if key not in self._answers:
            self._answers[key] = (x, times, ask(x, *times))  # x and times are kept, so that their ids stay theirs
        return self._answers[key][2]


def gain(path: Path, t: Time, x: Tensor, least: float = 1e-3) -> Tensor:
    """sigma^2/alpha, with an alpha of at least `least`. (B, 1, ..., 1).

    It relates a denoiser to the gradient of a value, f* = f + (sigma^2/alpha) grad V, and its derivative to the
    covariance of x0 given x_t, C = (sigma^2/alpha) df/dx.
    """
    t = expand(t, x)
    return path.sigma(t) ** 2 / path.alpha(t).clamp(min=least)


def precision(path: Path, t: Time, x: Tensor) -> Tensor:
    """alpha/sigma^2, and 0 where no noise is left. (B, 1, ..., 1)."""
    t = expand(t, x)
    noise = path.sigma(t) ** 2
    return torch.where(noise > 0, path.alpha(t) / torch.where(noise > 0, noise, 1.0), 0.0)


def is_data(t: Time) -> bool:
    """Whether a time, given as a number, is 0."""
    return isinstance(t, int | float) and t == 0


def by_row(function: Callable[[float], float], t: Time) -> Time:
    """Apply a function of a number to the time of each row."""
    if isinstance(t, int | float):
        return float(function(t))
    return torch.tensor([float(function(float(one))) for one in t.flatten()], dtype=t.dtype).reshape(t.shape).to(t)


def repeated(flow: Any, n: int) -> Any:
    """The flow for n copies of its rows, one after another: its conditions are repeated."""
    condition = getattr(flow, "condition", None) or {}
    rows = {name: more for name, value in condition.items() if (more := copies(value, n)) is not value}
    return flow.given(**rows) if rows and n > 1 else flow


def copies(value: Any, n: int) -> Any:
    """A condition for n copies of all rows; one without rows, or with one row for all, is returned unchanged."""
    has_rows = isinstance(value, Tensor) and value.ndim > 0 and len(value) > 1
    return value.repeat(n, *[1] * (value.ndim - 1)) if has_rows else value


def need_velocity(flow: Any, name: str) -> None:
    """Refuse a partial map, for a look-ahead that needs its velocity."""
    check_velocity(flow, f"{name} needs the velocity", "look by fm.look.jump(), which needs jumps to t = 0 alone")


def need_jump(flow: Any, name: str) -> None:
    """Refuse a map from s = 1 alone, for a look-ahead that jumps to the data from the state on the way."""
    if (only := getattr(flow, "only_source", None)) is not None:
        raise ValueError(
            f"{name} jumps from each state on the way to t = 0, and this partial flow map only knows the source time "
            f"{only:g}: steer its noise instead, by fm.steering.best_of or fm.steering.langevin"
        )
    if not callable(flow):
        raise TypeError(f"{name} needs a flow map with jumps, flow(x, s, t), got {type(flow).__name__}")
