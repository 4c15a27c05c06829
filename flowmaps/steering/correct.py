"""Steps with a correction: a sampling step, followed by gradient steps on a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, finite, truth, within
from ..steps import Step
from .shared import Shared
from .tilts import expect_value
from .values import Gradient, Value, Valued, full


def corrected(
    step: Step,
    value: Valued,
    strength: float | Callable[[float, float], float] = 1.0,
    inner: int = 1,
    gradient: Gradient = full,
    until: float = 0.0,
    *,
    at_start: bool = False,
) -> Step:
    """Add a correction to a step: x_t + strength (s - t) grad V.

    Args:
        step: The step, such as `steps.jump` (FMRG) or `steps.ancestral` (DPS).
        value: The value. Its default annealing is left out, because no b(t) multiplies its gradient here.
        strength: Rate of the correction; a function (s, t) gives the factor of the gradient itself.
        inner: Gradient steps in each step; each has an equal share of the strength.
        gradient: The gradient, as in `tilt`.
        until: Time below which steps are not corrected.
        at_start: Whether the gradient is taken at the state x_s that the step starts from, as in DPS, with whose
            network pass it shares one. Otherwise it is taken at x_t.

    Returns:
        The step.

    Raises:
        TypeError: The value is no function.
        ValueError: A number is out of its range, or several inner steps start at x_s.

    A correction maximises: the result is no draw of the tilted law (`tilt` and `particles` draw from it).
    """
    expect_value(value)
    at_least(1, inner=inner)
    within(0, 1, until=until)
    truth(at_start=at_start)
    if not callable(strength):
        finite(strength=strength)
    if at_start and inner > 1:
        raise ValueError("with at_start=True the gradient is taken once, at x_s: inner must be 1")
    V = value.whole() if isinstance(value, Value) else value

    def corrected_step(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
        size = strength(s, t) if callable(strength) else strength * (s - t)
        if s < until or size == 0 or (not at_start and t < until):
            return step(flow, x, s, t)
        if at_start:
            shared = Shared(flow)
            _, slope = gradient(V, shared, x, s)
            return (step(shared, x, s, t) + size * slope).to(x.dtype)
        x = step(flow, x, s, t)
        for _ in range(inner):
            x = (x + size / inner * gradient(V, flow, x, t)[1]).to(x.dtype)
        return x

    return corrected_step


def recurred(step: Step, times: int) -> Step:
    """Repeat a step: after the step to t, re-noise the state to s and take the step again (universal guidance).

    Args:
        step: The step.
        times: How often the step is taken; 1 is the step itself.

    Returns:
        The step.

    Raises:
        ValueError: `times` is below 1.

    Bansal et al. 2023, arXiv 2302.07121, with the re-noising of the path, p(x_s | x_t).
    """
    at_least(1, times=times)

    def recurred_step(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
        for k in range(times):
            if k:
                x = flow.path.renoise(x, t, s, torch.randn_like(x))
            x = step(flow, x, s, t)
        return x

    return recurred_step
