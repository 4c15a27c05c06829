"""Steered velocities without a value: exact tilts, and backward universal guidance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import path as paths
from ..arguments import at_least, positive, shown
from ..path import Time, expand
from ..units import Units, units_of
from .reward import Reward, Rewards, rewarded
from .shared import is_data
from .tilts import SteeredVelocity
from .values import Value


class ExactTilt(SteeredVelocity):
    """Exact tilt by a change of state and time; made by `exact_tilt`."""

    def __init__(self, flow: Any, reward: Reward) -> None:
        super().__init__(flow)
        self.reward = reward

    def standardised(self) -> ExactTilt:
        """The same tilt without units; the reward still sees data in the units of the flow."""
        return self if self.units is None else ExactTilt(self.flow.standardised(), self.reward)

    def around(self, flow: Any) -> ExactTilt:
        """The same tilt of another flow."""
        return ExactTilt(flow, self.reward)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """f(x*, t*) with the state and time of the denoiser that has seen the reward too."""
        path, time = self.path, expand(t, x)
        sigma2, alpha = path.sigma(time) ** 2, path.alpha(time).clamp(min=1e-4)
        direction, q = self.reward.isotropic(x)
        precision = alpha**2 + q * sigma2  # times sigma^2
        there = path.time_of(precision.sqrt(), sigma2.sqrt()).clamp(0, 1) if q else time
        state = path.alpha(there).clamp(min=1e-4) * (alpha * x + sigma2 * direction) / precision
        return self.flow.denoise(state.to(x.dtype), there)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Velocity of the tilted law."""
        time = expand(t, x)
        still = self.path.sigma(time) == 0  # no noise is left, and all laws have the velocity of the flow
        if bool(still.all()):
            return self.flow.velocity(x, t)
        safe = torch.where(still, 0.5, time)
        found = self.path.convert(self.denoise(x, safe), x, safe, paths.data, paths.velocity)
        return torch.where(still, self.flow.velocity(x, time), found) if bool(still.any()) else found


def exact_tilt(flow: Any, reward: Reward) -> ExactTilt:
    """Tilt a flow exactly, without a gradient or a further pass: linear rewards and likelihoods of a x0.

    Args:
        flow: Any object with denoise(x, t) and a path.
        reward: `fm.rewards.Linear(c)`, `fm.rewards.Likelihood(a, y, std)` with a number a, their sums and multiples.

    Returns:
        The steered velocity.

    Raises:
        TypeError: The reward has another form.
        ValueError: The flow is a partial map. In calls: a likelihood of standardised data whose features have
            different standard deviations, so that it is no longer one of a x0.

    For r = l . x0 - q |x0|^2/2 the denoiser is f*(x, t) = f(alpha* y, t*), with the precision p = alpha^2/sigma^2 + q,
    y = (alpha x/sigma^2 + l)/p and snr(t*) = p. For a linear reward t* = t and x is shifted by (sigma^2/alpha) l: near
    t = 1 the shift leaves the states that a network was trained on.
    """
    if not isinstance(reward, Reward):
        raise TypeError(f"an exact tilt needs a reward of fm.rewards, Linear or Likelihood, got {shown(reward)}")
    units = units_of(flow)
    return ExactTilt(flow, reward if units is None else _Standardised(reward, units))


@dataclass(frozen=True)
class _Standardised(Reward):
    """A reward of data as one of standardised data, x0 = mean + std z, in its isotropic form."""

    reward: Reward
    units: Units

    def isotropic(self, x: Tensor) -> tuple[Tensor, float]:
        """The vector std (l - q mean) and the number q std^2."""
        linear, q = self.reward.isotropic(x)
        zero = torch.zeros_like(x[:1])
        mean = self.units.restored(zero)
        std = self.units.restored(zero + 1) - mean
        if q and len(set(self.units.std)) > 1:
            raise ValueError(
                "the data are standardised by different standard deviations, so the likelihood of a measurement a x0 "
                "tilts them in a form that is not exact: use fm.steering.tilt with fm.look.widened()"
            )
        return (std * (linear - q * mean)).to(linear.dtype), q * self.units.std[0] ** 2


class Descended(SteeredVelocity):
    """Velocity towards denoised states that a reward has moved; made by `descended`."""

    def __init__(self, flow: Any, reward: Rewards, iterations: int, rate: float, bound: float | None) -> None:
        super().__init__(flow)
        self.reward, self.iterations, self.rate, self.bound = reward, iterations, rate, bound

    def standardised(self) -> Descended:
        """The same steering without units; the reward still sees data in the units of the flow."""
        if self.units is None:
            return self
        reward = Value(self.reward).in_units_of(self.flow)
        return Descended(self.flow.standardised(), reward, self.iterations, self.rate, self.bound)

    def around(self, flow: Any) -> Descended:
        """The same steering of another flow."""
        return Descended(flow, self.reward, self.iterations, self.rate, self.bound)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """f(x, t), moved by gradient ascent of the reward."""
        moved = self.flow.denoise(x, t).detach()
        reward = Value(self.reward).in_units_of(self.flow)
        average, square = torch.zeros_like(moved), torch.zeros_like(moved)
        for k in range(1, self.iterations + 1):  # Adam for each row by itself
            with torch.enable_grad():
                leaf = moved.requires_grad_()
                (ascent,) = torch.autograd.grad(rewarded(reward, leaf).sum(), leaf)
            average, square = 0.9 * average + 0.1 * ascent, 0.999 * square + 0.001 * ascent**2
            step = average / (1 - 0.9**k) / ((square / (1 - 0.999**k)).sqrt() + 1e-8)
            moved = (moved + self.rate * step).detach()
            moved = moved if self.bound is None else moved.clamp(-self.bound, self.bound)
        return moved

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Velocity towards the moved state; the flow's at t = 0, where no noise is left to change."""
        if is_data(t):
            return self.flow.velocity(x, t)
        return super().velocity(x, t)


def descended(
    flow: Any, reward: Rewards, iterations: int = 10, rate: float = 0.02, bound: float | None = 1.0
) -> Descended:
    """Move denoised states by gradient ascent of the reward in x0 itself: backward universal guidance.

    Args:
        flow: Any object with velocity(x, t).
        reward: The reward; its gradient alone is used, and no gradient of the network.
        iterations: Steps of Adam, in each row by itself.
        rate: Learning rate, in units of the states.
        bound: Largest size of a coordinate, 1 for images in [-1, 1]. None: none.

    Returns:
        The steered velocity. It maximises the reward near f(x, t), and samples no tilted law.

    Raises:
        ValueError: A number is out of its range.

    Bansal et al. 2023, arXiv 2302.07121. Their code computes the clamp of x0 and does not use it.
    """
    at_least(1, iterations=iterations)
    positive(rate=rate, **({} if bound is None else {"bound": bound}))
    return Descended(flow, reward, iterations, rate, bound)
