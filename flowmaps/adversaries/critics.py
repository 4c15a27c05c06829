"""Critics, called as critic(x, t, **condition) -> logits that are larger for data: their losses and slopes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..flow_map import FlowMap

Judge = Callable[[Tensor], Tensor]
"""States (B, ...) -> logits (B, n)."""


@dataclass(frozen=True)
class Game:
    """The two losses of logits, each (B, n).

    Attributes:
        critic: Function (logits of data, logits of samples) -> loss of the critic.
        flow: Function of the logits of samples -> loss of the flow.
    """

    critic: Callable[[Tensor, Tensor], Tensor]
    flow: Callable[[Tensor], Tensor]


hinge = Game(lambda real, fake: F.relu(1 - real) + F.relu(1 + fake), lambda fake: -fake)
"""The losses max(0, 1 - D(x_0)) + max(0, 1 + D(x)) and -D(x)."""

logistic = Game(lambda real, fake: F.softplus(-real) + F.softplus(fake), lambda fake: F.softplus(-fake))
"""The losses softplus(-D(x_0)) + softplus(D(x)) and softplus(-D(x)), whose best D is log p/q."""


def judge(network: Any, condition: dict[str, Any], *times: Tensor) -> Judge:
    """A critic of states alone, with its condition and times (B, 1, ...) bound."""
    return lambda x: rows(network(x, *(time.reshape(-1) for time in times), **condition), x)


def with_constant_weights(network: Any) -> Any:
    """A network with constant weights; gradients pass through its input."""
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    return lambda *inputs, **condition: torch.func.functional_call(network, weights, inputs, condition)


def slope_by_noise(D: Judge, x: Tensor, logits: Tensor, noise: Tensor, spread: float) -> Tensor:
    """The square of a slope along noise, (D(x + spread n) - D(x))^2 / spread^2, with mean |grad D|^2 to first order.

    Args:
        D: The critic.
        x: States, (B, ...).
        logits: D(x), (B, n).
        noise: Normal numbers n of x's shape.
        spread: Size of the noise.

    Returns:
        The square, (B, n).

    Raises:
        TypeError: The states have half precision, in which the difference has no digits.
    """
    if x.dtype.itemsize < 4:
        raise TypeError(f"the penalty of a critic's slope needs float32 or float64 states, got {x.dtype}")
    return ((D(x + spread * noise) - logits) / spread).square()


def logits_and_slope(D: Judge, x: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate a critic and its squared gradient, with gradients to the weights.

    Args:
        D: The critic.
        x: States, (B, ...).

    Returns:
        D(x) of shape (B, n), and |grad D(x)|^2 of shape (B, 1).
    """
    logits, pull = torch.func.vjp(lambda x: D(x.view_as(x)), x)  # type: ignore[misc]
    (slope,) = pull(torch.ones_like(logits))
    return logits, slope.flatten(1).square().sum(1, keepdim=True)


def logits_and_slopes(network: Any, condition: dict[str, Any], x: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Evaluate a critic D(x, s) and its gradients in x and in s, with gradients to the weights.

    Args:
        network: The critic.
        condition: Its keyword arguments.
        x: States, (B, ...).
        s: Times, (B, 1, ...).

    Returns:
        D of shape (B, 1), and its gradients of the shapes of x and s.

    Raises:
        ValueError: The critic has several logits, whose sum would be differentiated.
    """

    def critic(x: Tensor, s: Tensor) -> Tensor:
        return judge(network, condition, s)(x.view_as(x))  # hooks of modules want no leaf

    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
        logits, pull = torch.func.vjp(critic, x, s)  # type: ignore[misc]
        if logits.shape[1] != 1:
            raise ValueError(f"a critic of velocities returns one logit for each row, got {logits.shape[1]}")
        return logits, *pull(torch.ones_like(logits))


def rate(along_x: Tensor, along_s: Tensor, w: Tensor) -> Tensor:
    """The rate of change of a critic along (w, 1), dD/dx . w + dD/ds, (B, 1)."""
    return (along_x * w).flatten(1).sum(1, keepdim=True) + along_s.reshape(-1, 1)


def rows(logits: Tensor, x: Tensor) -> Tensor:
    """Reshape logits of any shape to one row for each state.

    Args:
        logits: The logits, (B,) or (B, ...).
        x: The states, (B, ...).

    Raises:
        ValueError: The logits have no row for each state.
    """
    if not isinstance(logits, Tensor) or not logits.ndim or len(logits) != len(x):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"a critic returns logits ({len(x)},) or ({len(x)}, n) for {len(x)} states, got {got}")
    return logits.reshape(len(logits), -1)


def shown_alone(first: Any, this: Any, flow: FlowMap) -> float:
    """Balance of a number that is shown in training and adds nothing to the loss."""
    return 0.0
