"""A high-accuracy ODE solver in plain torch, for flow maps without a closed form; for sampling, see `steps.ode`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..path import Time
from ..path.time_shapes import at_time

# Dormand and Prince 1980: nodes, stages, fifth-order weights (the last stage row) and the difference to the embedded
# fourth order.
_NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_STAGES: tuple[tuple[float, ...], ...] = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def solve(
    velocity: Callable[[Tensor, Tensor], Tensor], x: Tensor, s: Time, t: Time, *, tolerance: float = 1e-8
) -> Tensor:
    """Solve dx/dt = velocity(x, t) from x(s) = x to time t, in float64.

    Dormand-Prince 5(4) with one adaptive step for all rows on u in [0, 1], at time s + u (t - s). The step error is a
    hundred times below `tolerance`, so that the sum over the steps stays below it. Differentiable with respect to x.

    Args:
        velocity: v(x, t) with t of shape (B, 1, ..., 1).
        x: states (B, *shape) at time s.
        s: source time, one for each row or one for all.
        t: target time, likewise.
        tolerance: absolute error, in x's units.

    Returns:
        x(t), in x's dtype.

    Raises:
        RuntimeError: if the step becomes too small, because the velocity is singular on the way.
    """
    y = x.double()
    s, t = at_time(s, y), at_time(t, y)
    gap = t - s

    def rate(u: float, y: Tensor) -> Tensor:
        return gap * velocity(y, s + u * gap)

    u, h, first = 0.0, 0.02, rate(0.0, y)
    while u < 1 - 1e-14:
        if h < 1e-10:
            raise RuntimeError(
                f"the ODE solve needs steps below 1e-10 at fraction {u:.6f} of the interval: the velocity is singular "
                f"there"
            )
        h = min(h, 1 - u)
        slopes = [first]
        for node, row in zip(_NODES[1:], _STAGES[1:], strict=True):
            slopes.append(rate(u + node * h, y + h * _combine(row, slopes)))
        with torch.no_grad():
            error = float((h * _combine(_ERROR, slopes)).abs().max()) / (tolerance / 100)
        if error <= 1:
            y, u, first = y + h * _combine(_STAGES[-1], slopes), u + h, slopes[-1]
        h *= min(5.0, max(0.2, 0.9 * (error + 1e-12) ** -0.2))
    return y.to(x.dtype)


def _combine(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    return torch.stack([w * k for w, k in zip(weights, slopes, strict=False) if w]).sum(0)
