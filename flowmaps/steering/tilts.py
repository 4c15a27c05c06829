"""Steered velocities: a velocity made of a velocity, as guidance is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from .. import path as paths
from ..arguments import finite, positive, shown
from ..flow_map import check_velocity
from ..path import Time, expand
from ..steps import Step
from ..velocity import constant
from ..velocity.around import AroundFlow
from .reward import Reward
from .shared import Shared
from .values import Gradient, Value, Valued, full


class SteeredVelocity(AroundFlow):
    """Velocity of a flow, steered; the base class of all steered velocities.

    It has velocity(x, t), denoise(x, t), given(**condition) and path. It has no jumps: sample it by ODE steps, or
    train a flow map on it as a teacher. Guidance goes inside: `tilt(guidance.classifier_free(flow, ...), value)`.

    Args:
        flow: Any object with velocity(x, t).

    Raises:
        TypeError: The flow has no velocity.
        ValueError: The flow is a partial map.
    """

    def __init__(self, flow: Any) -> None:
        super().__init__(flow)
        check_velocity(flow, "steering changes a velocity", "use fm.steering.best_of or fm.steering.corrected for it")

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
        """The same steered velocity without units: samplers take and return standardised states."""
        raise NotImplementedError

    @property
    def condition(self) -> dict[str, Any]:
        """Conditions of the flow."""
        return getattr(self.flow, "condition", None) or {}


class Tilt(SteeredVelocity):
    """Velocity of the tilted law p(x0) e^{r(x0)} / Z; made by `tilt`."""

    def __init__(self, flow: Any, value: Valued, scale: float, gradient: Gradient, limit: float) -> None:
        super().__init__(flow)
        self.value, self.scale, self.gradient, self.limit = value, scale, gradient, limit

    def around(self, flow: Any) -> Tilt:
        """The same tilt of another flow."""
        return Tilt(flow, self.value, self.scale, self.gradient, self.limit)

    def standardised(self) -> Tilt:
        """The same tilt without units; the reward still sees data in the units of the flow."""
        if self.units is None:
            return self
        if not isinstance(self.value, Value):
            raise TypeError("a value of your own is tied to the units of the flow: make it by fm.steering.value")
        value = replace(self.value, reward=self.value.in_units_of(self.flow))
        return Tilt(self.flow.standardised(), value, self.scale, self.gradient, self.limit)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """v(x, t) - scale b(t) grad V(x, t)."""
        if self.scale == 0:
            return self.flow.velocity(x, t)
        shared = Shared(self.flow)
        _, gradient = self.gradient(self.value, shared, x, t)
        b = self.path.noising_rate(expand(t, x), self.limit)
        return (shared.velocity(x, t) - self.scale * b * gradient).to(x.dtype)


def tilt(flow: Any, value: Valued, *, scale: float = 1.0, gradient: Gradient = full, limit: float = 25.0) -> Tilt:
    """Steer the velocity of a flow towards a reward: v* = v - scale b grad V, b = sigma sigma' - sigma^2 alpha'/alpha.

    Args:
        flow: Any object with velocity(x, t): a flow map, a guided velocity, a teacher, an exact distribution.
        value: The value V, `fm.steering.value(reward, look)`.
        scale: Strength. 1 is the tilted law, and exact for the exact value; 0 is the flow.
        gradient: `full`, `stopped`, `free`, `clipped(c)` or `normalised(c)`.
        limit: Largest b(t) on the linear path, where it is infinite at t = 1. On another path b is bounded from the
            same noise level on, see `Path.noising_rate`.

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


def tilted(step: Step, value: Valued, *, scale: float = 1.0, gradient: Gradient = full, limit: float = 25.0) -> Step:
    """Step of the tilted velocity, for `fm.sample(flow, noise, 50, step=tilted(steps.heun, value))`.

    Args:
        step: A step that follows the velocity or the denoiser, such as `steps.heun` or `steps.ancestral`.
        value: The value.
        scale: Strength, as in `tilt`.
        gradient: Gradient, as in `tilt`.
        limit: Bound of b(t), as in `tilt`.

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
