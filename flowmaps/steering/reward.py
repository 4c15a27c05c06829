"""The base class of rewards, their algebra, and checks of their results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..arguments import expect_finite, finite, shown
from ..exact.quadratic import Quadratic
from .spread import Spread

Rewards = Callable[[Tensor], Tensor]
"""x0 (B, ...) -> (B,)."""


class Reward:
    """Base class of the rewards of this module."""

    def __call__(self, x0: Tensor) -> Tensor:
        """The reward of data, (B,)."""
        raise NotImplementedError

    def widened(self, x0: Tensor, spread: Spread, k: float = 1.0) -> Tensor:
        """Logarithm of E e^{k r(X)} for X ~ N(x0, spread), (B,).

        Raises:
            TypeError: It has no closed form.
        """
        raise TypeError(
            f"look.widened and look.moments need a reward with a Gaussian mean, fm.rewards.Likelihood or Linear, and "
            f"{type(self).__name__} has none: look by look.denoise, or by draws such as look.glass"
        )

    def isotropic(self, x: Tensor) -> tuple[Tensor, float]:
        """The vector l, of the shape of a row or of x, and the number q of r = l . x0 - q |x0|^2/2 + constant.

        Raises:
            TypeError: The reward has another form.
        """
        raise TypeError(
            f"only a linear reward and the likelihood of a measurement a x0 tilt a flow exactly, and "
            f"{type(self).__name__} is neither: use fm.steering.tilt with a value"
        )

    def quadratic(self, shape: torch.Size) -> Quadratic:
        """The reward as a polynomial of degree two, for `fm.exact.GaussianMixture.tilted`.

        Raises:
            ValueError: It is none.
        """
        raise ValueError(f"{type(self).__name__} is no quadratic reward")

    def decoded(self, decode: Callable[[Tensor], Tensor]) -> Reward:
        """The reward of decoded data, r(decode(z))."""
        return Decoded(decode, self)

    def __add__(self, other: Rewards) -> Sum:
        return Sum((self, other))

    def __radd__(self, other: Rewards) -> Sum:
        return Sum((other, self))

    def __mul__(self, k: float) -> Scaled:
        return Scaled(self, k)

    __rmul__ = __mul__


@dataclass(frozen=True)
class Decoded(Reward):
    """Reward of decoded data; made by `decoded`."""

    decode: Callable[[Tensor], Tensor]
    reward: Rewards

    def __call__(self, x0: Tensor) -> Tensor:
        """The reward of the decoded data, (B,)."""
        return self.reward(self.decode(x0))


def decoded(decode: Callable[[Tensor], Tensor], reward: Rewards) -> Reward:
    """Reward of decoded data, such as images behind latents: r(decode(z)).

    Args:
        decode: Differentiable function from the states of the flow to data, such as the decoder of a VAE.
        reward: The reward of data.

    Returns:
        The reward; a likelihood stays one, of the nonlinear measurement A(decode(z)).

    Raises:
        TypeError: One of the two is no function.
    """
    if not callable(decode):
        raise TypeError(f"decode must be a function from states to data, got {shown(decode)}")
    expect_reward(reward)
    return reward.decoded(decode) if isinstance(reward, Reward) else Decoded(decode, reward)


@dataclass(frozen=True)
class Scaled(Reward):
    """Reward times a number; made by `scaled`."""

    reward: Rewards
    k: float

    def __post_init__(self) -> None:
        expect_reward(self.reward)
        finite(k=self.k)

    def __call__(self, x0: Tensor) -> Tensor:
        """K times the reward, (B,)."""
        return self.k * self.reward(x0)

    def widened(self, x0: Tensor, spread: Spread, k: float = 1.0) -> Tensor:
        """The widened reward at another temperature."""
        return _known(self.reward).widened(x0, spread, k * self.k)

    def decoded(self, decode: Callable[[Tensor], Tensor]) -> Scaled:
        """The multiple of the decoded reward."""
        return Scaled(decoded(decode, self.reward), self.k)

    def isotropic(self, x: Tensor) -> tuple[Tensor, float]:
        """Both parts of the reward, times k."""
        linear, q = _known(self.reward).isotropic(x)
        return self.k * linear, self.k * q

    def quadratic(self, shape: torch.Size) -> Quadratic:
        """The polynomial of the reward, times k."""
        return _known(self.reward).quadratic(shape).scaled(self.k)


def scaled(reward: Rewards, k: float) -> Scaled:
    """Reward times a number, k r(x0); k is an inverse temperature.

    Args:
        reward: The reward.
        k: The factor.

    Returns:
        The reward.

    Raises:
        TypeError: The reward is no function, or k no number.
        ValueError: k is not finite.
    """
    return Scaled(reward, k)


@dataclass(frozen=True)
class Sum(Reward):
    """Sum of rewards, such as `fm.rewards.label(classifier, 7) + likelihood`.

    Args:
        parts: The rewards.
    """

    parts: tuple[Rewards, ...]

    def __post_init__(self) -> None:
        for part in self.parts:
            expect_reward(part)

    def __call__(self, x0: Tensor) -> Tensor:
        """The sum of the rewards, (B,)."""
        first, *others = (rewarded(part, x0) for part in self.parts)
        return sum(others, first)

    def decoded(self, decode: Callable[[Tensor], Tensor]) -> Sum:
        """The sum of the decoded rewards."""
        return Sum(tuple(decoded(decode, part) for part in self.parts))

    def isotropic(self, x: Tensor) -> tuple[Tensor, float]:
        """The sums of both parts."""
        found = [_known(part).isotropic(x) for part in self.parts]
        return torch.stack([linear.expand(x.shape) for linear, _ in found]).sum(0), sum(q for _, q in found)

    def quadratic(self, shape: torch.Size) -> Quadratic:
        """The sum of the polynomials."""
        first, *others = (_known(part).quadratic(shape) for part in self.parts)
        return sum(others, first)


@dataclass(frozen=True)
class _Plain(Reward):
    """A plain function as a reward, without a form."""

    function: Rewards

    def __call__(self, x0: Tensor) -> Tensor:
        return self.function(x0)


def _known(reward: Rewards) -> Reward:
    """A reward of this module, or a plain function as one."""
    return reward if isinstance(reward, Reward) else _Plain(reward)


def expect_reward(reward: Any) -> None:
    """Raise TypeError unless a value can be a reward."""
    if not callable(reward) or isinstance(reward, type):
        raise TypeError(f"a reward is a function from data x0 (B, ...) to one number for each row, got {shown(reward)}")


def rewarded(reward: Rewards, x0: Tensor) -> Tensor:
    """Evaluate a reward, and check the result.

    Args:
        reward: The reward.
        x0: Data, (B, ...).

    Returns:
        The reward of each row, (B,), at least in float32.

    Raises:
        TypeError: The reward returns no tensor of real numbers.
        ValueError: It returns another shape, or NaN or infinite values.
    """
    found = reward(x0)
    if not isinstance(found, Tensor) or found.is_complex():
        raise TypeError(f"a reward must return a tensor of real numbers, ({len(x0)},), got {shown(found)}")
    if found.shape != (len(x0),):
        advice = ": sum or average over the other axes" if found.ndim and len(found) == len(x0) else ""
        raise ValueError(
            f"a reward must return one number for each row, ({len(x0)},), got the shape {tuple(found.shape)}{advice}"
        )
    expect_finite("a reward", found)
    return found.to(torch.promote_types(found.dtype, torch.float32))
