"""Deterministic steps: jumps, and solvers of the ODE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..arguments import install, positive
from ..derivative import jvp
from ..flow_map import check_jump, check_velocity
from ..path import Path, data, expand, linear, noise, velocity

Step = Callable[[Any, Tensor, float, float], Tensor]
"""(flow, x, s, t) -> x_t."""

NEEDS_VELOCITY = "this step follows the velocity"


def jump(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
    """Jump by the flow map, F(x, s, t). One network call."""
    check_jump(flow, s, t)
    return flow(x, s, t)


def euler(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
    """Euler step of the ODE, x + (t - s) v(x, s), or exp_x((t - s) v) on a manifold.

    One network call; the error of a whole solve falls like 1/steps.
    """
    check_velocity(flow, NEEDS_VELOCITY)
    return _path(flow).move(x, (t - s) * flow.velocity(x, s))


def heun(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
    """Heun step of the ODE, x + (t - s) (v(x, s) + v(x', t)) / 2 with x' the Euler step.

    Two network calls; the error of a whole solve falls like 1/steps^2. On a manifold x' = exp_x((t - s) v), and the
    correction half of (t - s) v(x', t) less the velocity with which the geodesic arrives, is made at x'.
    """
    check_velocity(flow, NEEDS_VELOCITY)
    v, path = flow.velocity(x, s), _path(flow)
    if not path.curved:
        return x + (t - s) * (v + flow.velocity(x + (t - s) * v, t)) / 2
    # Euler's geodesic with its own velocity at the end, which the velocity there corrects
    end, arriving = _geodesic(path, x, (t - s) * v)
    return path.move(end, ((t - s) * flow.velocity(end, t) - arriving) / 2)


def _path(flow: Any) -> Path:
    return getattr(flow, "path", None) or linear


def _geodesic(path: Path, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """End of the geodesic from x along u, and its velocity there."""
    along = torch.ones_like(x[:, :1])
    return jvp(lambda z, r: path.move(z, r * u), (x, along), (0, 1))


def heun_in_sigma(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
    """Heun step of the ODE in EDM's time, the noise level q = sigma/alpha. Two network calls.

    With e(x, s) the noise that the velocity predicts, and x' the Euler step in q, which is DDIM's step:

        x_t = alpha_t (x/alpha_s + (q_t - q_s) (e(x, s) + e(x', t))/2)

    The solver of EDM and of consistency distillation (Karras et al. 2022, arXiv 2206.00364; Song et al. 2023, arXiv
    2303.01469). It is the Euler step to t = 0, as there, and from pure noise, where q_s is infinite.
    """
    check_velocity(flow, NEEDS_VELOCITY)
    path, start, end = flow.path, expand(s, x), expand(t, x)
    v = flow.velocity(x, s)
    x0, eps = (path.convert(v, x, s, velocity, kind) for kind in (data, noise))
    first = path.alpha(end) * x0 + path.sigma(end) * eps
    eps_end = path.convert(flow.velocity(first.to(x.dtype), t), first, t, velocity, noise)
    has_data = path.alpha(start) > 1e-6
    alpha = torch.where(has_data, path.alpha(start), 1.0)
    change = path.sigma(end) - path.sigma(start) * path.alpha(end) / alpha  # alpha_t (q_t - q_s)
    second = first + change * (eps_end - eps) / 2
    return torch.where(has_data & (path.sigma(end) > 0), second, first).to(x.dtype)


def ode(rtol: float = 1e-5, atol: float = 1e-5, method: str = "dopri5") -> Step:
    """Solve the ODE from s to t by torchdiffeq.

    Args:
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        method: Solver of `torchdiffeq.odeint`.

    Returns:
        The step.

    Raises:
        ImportError: torchdiffeq is not installed.
    """
    positive(rtol=rtol, atol=atol)
    try:
        from torchdiffeq import odeint
    except ImportError:
        raise ImportError(f"steps.ode needs torchdiffeq: {install('ode')}") from None

    def step(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
        check_velocity(flow, NEEDS_VELOCITY)
        times = torch.tensor([s, t], dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        # rounding takes solvers past the ends, and the velocity ends there
        point = _path(flow).point  # the solver adds in ambient coordinates

        def rate(u: Tensor, y: Tensor) -> Tensor:
            return flow.velocity(point(y), u.clamp(0, 1))

        return point(odeint(rate, x, times, rtol=rtol, atol=atol, method=method)[-1])

    return step
