"""What exact distributions share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..path import Path, Time, expand

Numbers = float | Sequence[Any] | Tensor


class Exact(ABC):
    """A distribution of x_0 with all that follows from it on a path."""

    shape: torch.Size
    path: Path

    @abstractmethod
    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """E[x_0 | x_t = x]."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n independent draws, (n, *shape)."""

    @abstractmethod
    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """log p_t(x), the density of x_t in nats, (B,)."""

    @abstractmethod
    def flow_map(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """F(x, s, t): the solution at time t of dx/dt = v(x, t) that passes through x at time s."""

    @abstractmethod
    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """v(x, t) = E[alpha' x_0 + sigma' eps | x_t = x]."""

    @abstractmethod
    def score(self, x: Tensor, t: Time) -> Tensor:
        """grad log p_t(x), which for t > 0 is E[-eps / sigma(t) | x_t = x]."""

    def average_velocity(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """V(x, s, t) = (F(x, s, t) - x) / (t - s), and v(x, t) where s = t."""
        s, t = expand(s, x), expand(t, x)
        same = s == t
        gap = torch.where(same, torch.ones_like(t), t - s)
        return torch.where(same, self.velocity(x, t), ((self.flow_map(x, s, t) - x) / gap).to(x.dtype))

    def __call__(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """F(x, s, t), so that an exact distribution can stand where a FlowMap is asked for."""
        return self.flow_map(x, s, t)


def flat(t: Tensor) -> Tensor:
    """(B, 1, ..., 1) -> (B, 1)."""
    return t.reshape(-1, 1)


def marginal_variance(path: Path, t: Tensor, variances: Tensor) -> Tensor:
    """g(t)^2 = alpha(t)^2 variance + sigma(t)^2, (B, K): the variance at time t of data of `variances` (K,)."""
    return flat(path.alpha(t)) ** 2 * variances + flat(path.sigma(t)) ** 2


def check_state(distribution: Exact, x: Tensor) -> None:
    if x.shape[1:] != distribution.shape or not x.is_floating_point():
        raise ValueError(
            f"{distribution} takes floating-point x of shape (B, {', '.join(map(str, distribution.shape))}), got "
            f"{x.dtype} of shape {tuple(x.shape)}"
        )


def floating(value: Numbers) -> Tensor:
    """A tensor of its own floating-point dtype; float64 for anything else."""
    own = value.dtype if isinstance(value, Tensor) and value.is_floating_point() else torch.float64
    return torch.as_tensor(value, dtype=own)


def wide(x: Tensor) -> Tensor:
    """x in the dtype that times have beside it: its own, but never below float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def beside(parameter: Tensor, x: Tensor) -> Tensor:
    """A parameter on x's device, in the dtype of `wide(x)`."""
    return parameter.to(device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))
