"""Steered velocities: a velocity made of a velocity, as guidance is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import path as paths
from ..arguments import at_least, finite, positive, shown
from ..flow_map import check_velocity
from ..path import Path, Time, expand, linear
from ..steps import Step
from ..units import Units, units_of
from ..velocity import constant
from .rewards import Reward, Rewards, rewarded
from .shared import Shared, is_data, slope
from .values import Gradient, Value, Valued, full


class SteeredVelocity(nn.Module):
    """Velocity of a flow, steered; the base class of `Tilt`, `ExactTilt` and `Descended`.

    It has velocity(x, t), denoise(x, t), given(**condition) and path. It has no jumps: sample it by ODE steps, or
    train a flow map on it as a teacher. Guidance goes inside: `tilt(guidance.classifier_free(flow, ...), value)`.

    Args:
        flow: Any object with velocity(x, t).

    Raises:
        TypeError: The flow has no velocity.
        ValueError: The flow is a partial map.
    """

    def __init__(self, flow: Any) -> None:
        super().__init__()
        check_velocity(flow, "steering changes a velocity", "use fm.steering.best_of or fm.steering.corrected for it")
        self.flow = flow

    def around(self, flow: Any) -> SteeredVelocity:
        """The same steering of another flow."""
        raise NotImplementedError

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Steered velocity v*(x, t), of x's shape."""
        return self.path.convert(self.denoise(x, t), x, t, paths.data, paths.velocity)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """Steered denoised state f*(x, t)."""
        return self.path.convert(self.velocity(x, t), x, t, paths.velocity, paths.data)

    def forward(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Refuse a jump."""
        raise ValueError(
            "a steered velocity has no jumps: a flow map's jump is not a jump of the steered flow. Follow the velocity "
            "(steps=50, step=fm.steps.heun), or train a flow map on it as a teacher"
        )

    def given(self, **condition: Any) -> SteeredVelocity:
        """Bind conditions of the flow."""
        return self.around(self.flow.given(**condition))

    def with_constant_weights(self) -> SteeredVelocity:
        """Make the weights of the flow constants: gradients still pass through x."""
        return self.around(constant(self.flow))

    def standardised(self) -> SteeredVelocity:
        """Not possible: a reward is a function of data in their units."""
        raise ValueError("a steered velocity needs the units of its flow, in which the reward is computed")

    @property
    def condition(self) -> dict[str, Any]:
        """Conditions of the flow."""
        return getattr(self.flow, "condition", None) or {}

    @property
    def path(self) -> Path:
        """Path of the flow."""
        return getattr(self.flow, "path", linear)

    @property
    def units(self) -> Units | None:
        """Units of the data of the flow."""
        return units_of(self.flow)

    @property
    def like(self) -> Tensor:
        """Empty tensor with the device and dtype that the flow takes."""
        return getattr(self.flow, "like", torch.empty(0))

    @property
    def network(self) -> Any:
        """Network of the flow."""
        return getattr(self.flow, "network", None)


class Tilt(SteeredVelocity):
    """Velocity of the tilted law p(x0) e^{r(x0)} / Z; made by `tilt`."""

    def __init__(self, flow: Any, value: Valued, scale: float, gradient: Gradient, limit: float) -> None:
        super().__init__(flow)
        self.value, self.scale, self.gradient, self.limit = value, scale, gradient, limit

    def around(self, flow: Any) -> Tilt:
        """The same tilt of another flow."""
        return Tilt(flow, self.value, self.scale, self.gradient, self.limit)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """v(x, t) - scale b(t) grad V(x, t)."""
        if self.scale == 0:
            return self.flow.velocity(x, t)
        shared = Shared(self.flow)
        _, gradient = self.gradient(self.value, shared, x, t)
        b = slope(self.path, t, x, self.limit)
        return (shared.velocity(x, t) - self.scale * b * gradient).to(x.dtype)


def tilt(flow: Any, value: Valued, *, scale: float = 1.0, gradient: Gradient = full, limit: float = 25.0) -> Tilt:
    """Steer the velocity of a flow towards a reward: v* = v - scale b grad V, b = sigma sigma' - sigma^2 alpha'/alpha.

    Args:
        flow: Any object with velocity(x, t): a flow map, a guided velocity, a teacher, an exact distribution.
        value: The value V, `fm.steering.value(reward, look)`.
        scale: Strength. 1 is the tilted law, and exact for the exact value; 0 is the flow.
        gradient: `full`, `stopped`, `free`, `clipped(c)` or `normalised(c)`.
        limit: Largest b(t), which is infinite at t = 1.

    Returns:
        The steered velocity, for `fm.sample(..., step="heun")`, or as the teacher of a method of distillation.

    Raises:
        TypeError: The flow has no velocity, or the value is no function.
        ValueError: The flow is a partial map, or `limit` is not positive. In calls: the reward fails its checks.

    In terms of the denoiser, f* = f + (sigma^2/alpha) grad V. A step of the ODE costs one network pass and one backward
    pass with the default look-ahead.
    """
    expect_value(value)
    finite(scale=scale)
    positive(limit=limit)
    return Tilt(flow, value, scale, gradient, limit)


class ExactTilt(SteeredVelocity):
    """Exact tilt by a change of state and time; made by `exact_tilt`."""

    def __init__(self, flow: Any, reward: Reward) -> None:
        super().__init__(flow)
        self.reward = reward

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
        still = self.path.sigma(time) == 0  # no noise is left: the velocity of the flow is that of every law
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
        ValueError: The flow is a partial map, or has units.

    For r = l . x0 - q |x0|^2/2 the denoiser is f*(x, t) = f(alpha* y, t*), with the precision p = alpha^2/sigma^2 + q,
    y = (alpha x/sigma^2 + l)/p and snr(t*) = p. For a linear reward t* = t and x is shifted by (sigma^2/alpha) l: near
    t = 1 the shift leaves the states that a network was trained on.
    """
    if not isinstance(reward, Reward):
        raise TypeError(f"an exact tilt needs a reward of fm.rewards, Linear or Likelihood, got {shown(reward)}")
    if units_of(flow) is not None:
        raise ValueError("an exact tilt of a flow with units is not supported: use fm.steering.tilt with a value")
    return ExactTilt(flow, reward)


class Descended(SteeredVelocity):
    """Velocity towards denoised states that a reward has moved; made by `descended`."""

    def __init__(self, flow: Any, reward: Rewards, iterations: int, rate: float, bound: float | None) -> None:
        super().__init__(flow)
        self.reward, self.iterations, self.rate, self.bound = reward, iterations, rate, bound

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


def tilted(step: Step, value: Valued, *, scale: float = 1.0, gradient: Gradient = full, limit: float = 25.0) -> Step:
    """Step of the tilted velocity, for `fm.sample(flow, noise, 50, step=tilted(steps.heun, value))`.

    Args:
        step: A step that follows the velocity or the denoiser, such as `steps.heun` or `steps.ancestral`.
        value: The value.
        scale: Strength, as in `tilt`.
        gradient: Gradient, as in `tilt`.
        limit: Largest b(t), as in `tilt`.

    Returns:
        The step.
    """
    expect_value(value)
    return lambda flow, x, s, t: step(tilt(flow, value, scale=scale, gradient=gradient, limit=limit), x, s, t)


def expect_value(value: Any) -> None:
    """Raise TypeError unless a value is a function (flow, x, t)."""
    if not callable(value) or isinstance(value, type | Reward):
        advice = ": make one of it, fm.steering.value(reward)" if isinstance(value, Reward) else ""
        raise TypeError(f"a value is made by fm.steering.value(reward, look), got {shown(value)}{advice}")


__all__ = [
    "Descended", "ExactTilt", "SteeredVelocity", "Tilt", "descended", "exact_tilt", "expect_value", "tilt", "tilted",
]  # fmt: skip
