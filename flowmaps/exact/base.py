"""The interface of exact distributions, and the tensor helpers that they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..arguments import expect_tensor, shown
from ..path import Path, Time
from ..path.time_shapes import at_time

Numbers = float | Sequence[Any] | Tensor


class Exact(ABC):
    """A distribution of x_0 with its exact velocity, denoiser, score, likelihood and flow map on a path.

    Attributes:
        shape: shape of one draw.
        path: the path from data to noise.
    """

    shape: torch.Size
    path: Path

    @abstractmethod
    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """Compute the denoiser E[x_0 | x_t = x].

        Args:
            x: states (B, *shape) at time t.
            t: time.

        Returns:
            (B, *shape).
        """

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n independent rows of x_0.

        Args:
            n: number of rows.
            generator: source of random numbers. None: torch's global one.

        Returns:
            (n, *shape).
        """

    @abstractmethod
    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Compute log p_t(x), the log density of x_t.

        Args:
            x: states (B, *shape).
            t: time; 0 is the data.

        Returns:
            Nats, (B,).
        """

    @abstractmethod
    def flow_map(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Compute F(x, s, t), the solution at time t of dx/dt = v(x, t) that passes through x at time s.

        Args:
            x: states (B, *shape) at time s.
            s: source time.
            t: target time.

        Returns:
            States (B, *shape) at time t.
        """

    @abstractmethod
    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Compute the velocity v(x, t) = E[alpha' x_0 + sigma' eps | x_t = x].

        Args:
            x: states (B, *shape) at time t.
            t: time.

        Returns:
            (B, *shape).
        """

    @abstractmethod
    def score(self, x: Tensor, t: Time) -> Tensor:
        """Compute the score grad log p_t(x), which for t > 0 is E[-eps / sigma(t) | x_t = x].

        Args:
            x: states (B, *shape) at time t.
            t: time.

        Returns:
            (B, *shape).
        """

    def average_velocity(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Compute V(x, s, t) = (F(x, s, t) - x) / (t - s), on a manifold log_x(F)/(t - s), and v(x, t) where s = t.

        Args:
            x: states (B, *shape) at time s.
            s: source time.
            t: target time.

        Returns:
            (B, *shape).
        """
        s, t = at_time(s, x), at_time(t, x)
        same = s == t
        gap = torch.where(same, torch.ones_like(t), t - s)
        return torch.where(same, self.velocity(x, t), (self.path.between(x, self.flow_map(x, s, t)) / gap).to(x.dtype))

    def __call__(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Compute F(x, s, t), so that an exact distribution can be used as a FlowMap."""
        return self.flow_map(x, s, t)


def flat(t: Tensor) -> Tensor:
    """Reshape times (B, 1, ..., 1) to (B, 1), and times of coordinates (B, *shape) to (B, D)."""
    return t.flatten(1) if t.ndim > 1 else t.reshape(-1, 1)


def marginal_variance(path: Path, t: Tensor, variances: Tensor) -> Tensor:
    """Compute the marginal variance g(t)^2 = alpha(t)^2 variance + sigma(t)^2.

    Args:
        path: the path.
        t: times (B, 1, ..., 1).
        variances: variances of the data (K,).

    Returns:
        (B, K).
    """
    return flat(path.alpha(t)) ** 2 * variances + flat(path.sigma(t)) ** 2


def check_state(distribution: Exact, x: Tensor) -> None:
    """Check that x is a floating-point batch (B, *shape) of a distribution.

    Args:
        distribution: the distribution, with the shape of one draw.
        x: the batch.

    Raises:
        ValueError: for any other shape or dtype.
    """
    expect_tensor("x", x)
    if x.shape[1:] != distribution.shape or not x.is_floating_point():
        raise ValueError(
            f"{distribution} takes floating-point x of shape (B, {', '.join(map(str, distribution.shape))}), got "
            f"{x.dtype} of shape {tuple(x.shape)}"
        )


def floating(value: Numbers, name: str = "a parameter") -> Tensor:
    """Convert to a tensor: floating-point tensors keep their dtype, everything else becomes float64.

    Args:
        value: The numbers.
        name: Their name in messages.

    Returns:
        The tensor.

    Raises:
        TypeError: They are no numbers.
        ValueError: One is NaN or infinite.
    """
    own = value.dtype if isinstance(value, Tensor) and value.is_floating_point() else torch.float64
    try:
        found = torch.as_tensor(value, dtype=own)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be numbers, got {shown(value)}") from None
    if not bool(found.isfinite().all()):
        raise ValueError(f"{name} must be finite, got {shown(value)}")
    return found


def check_path(path: Any) -> None:
    """Raise TypeError unless a value is a path."""
    if not isinstance(path, Path):
        raise TypeError(f"a path is one of flowmaps.path, such as path.linear, got {shown(path)}")


def wide(x: Tensor) -> Tensor:
    """Cast x to float32 at least, the dtype of its times."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def beside(parameter: Tensor, x: Tensor) -> Tensor:
    """Move a parameter to x's device and to the dtype of `wide(x)`."""
    return parameter.to(device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))
