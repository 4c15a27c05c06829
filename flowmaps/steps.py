"""Sampling steps. Every sampler is a composition of functions  step(flow, x, s, t) -> x_t.

    jump          F(x, s, t): one pass of the flow map
    euler, heun   the ODE dx/dt = v(x, t), first and second order; one and two passes
    heun_in_sigma the ODE in EDM's time, the noise level sigma/alpha, second order; two passes
    ode(...)      the ODE to a tolerance (torchdiffeq)
    ancestral     x_t ~ p(x_t | x_s, x_0 = f(x_s, s)): DDPM's step for any path
    sde(level)    the reverse SDE with the same marginals as the ODE; level 0 is DDIM, level 1 is `ancestral`
    restart       denoise to t = 0 by a jump, then re-noise to t: the sampler of consistency models
    gamma(g)      jump below t and re-noise up to it (CTM); g = 0 is `jump`, g = 1 is `restart`

`flow` is a FlowMap, an exact distribution or any object with the methods that the step calls. x is the state (B, ...)
at time s. s and t are numbers with t < s; deterministic steps also take t > s. A step returns the state at t, of x's
shape. Random steps draw from torch's global generator.

A partial map takes the steps that are valid for it and refuses the others (ValueError, on every device). With
only_target=0 it takes one `jump`, or several `restart`s; with only_source=1 exactly one jump. The other steps follow
the velocity V(x, t, t), which a partial map knows at one end of time at most. `default(flow, steps)` chooses for a map.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .arguments import at_least, did_you_mean, install, positive, refuse_factory, shown, within
from .flow_map import check_jump, check_velocity
from .path import data, expand, noise, velocity

Step = Callable[[Any, Tensor, float, float], Tensor]

NAMES = ("jump", "euler", "heun", "ode", "ancestral", "sde", "restart")
"""Steps that a name stands for."""
NEEDS_VELOCITY = "this step follows the velocity"


def named(step: Any) -> Step:
    """Return a step by its name, or a step itself.

    Args:
        step: A step; a name such as "euler"; or one of the functions `sde` and `ode` that make a step, which then has
            its defaults.

    Returns:
        The step.

    Raises:
        TypeError: It is neither a step nor a name, or another function that makes one.
        ValueError: There is no such step.
    """
    if isinstance(step, str):
        if step not in NAMES:
            raise ValueError(f"unknown step {step!r}{did_you_mean(step, NAMES)}; known are {', '.join(NAMES)}")
        step = globals()[step]
    if step is sde or step is ode:
        return step()
    refuse_factory("a step", step, "Step")
    if not callable(step):
        raise TypeError(f"a step is a function such as steps.euler or its name, got {shown(step)}")
    return step


def default(flow: Any, steps: int) -> Step:
    """Choose the step that samples a map in a number of equal steps from t = 1 to t = 0.

    Args:
        flow: The flow map.
        steps: Number of steps.

    Returns:
        `jump` if the map knows all jumps on the way, `restart` for several steps of a map to t = 0 alone, `euler` for a
        map that was trained on its velocity alone.

    Raises:
        ValueError: The map does not take this number of steps: a map from s = 1 alone takes one.
    """
    at_least(1, steps=steps)
    check_jump(flow, 1.0, 0.0)
    trained = getattr(flow, "trained", None)
    if trained is not None and not trained.jumps:
        return euler
    if steps == 1 or not (getattr(flow, "is_partial", False) or (trained is not None and trained.target == 0)):
        return jump
    check_jump(flow, 1 - 1 / steps, 0.0)
    return restart


def jump(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
    """Jump by the flow map, F(x, s, t). One network call."""
    check_jump(flow, s, t)
    return flow(x, s, t)


def euler(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
    """Euler step of the ODE, x + (t - s) v(x, s). One network call; the error of a whole solve falls like 1/steps."""
    check_velocity(flow, NEEDS_VELOCITY)
    return x + (t - s) * flow.velocity(x, s)


def heun(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
    """Heun step of the ODE, x + (t - s) (v(x, s) + v(x', t)) / 2 with x' the Euler step.

    Two network calls; the error of a whole solve falls like 1/steps^2.
    """
    check_velocity(flow, NEEDS_VELOCITY)
    v = flow.velocity(x, s)
    return x + (t - s) * (v + flow.velocity(x + (t - s) * v, t)) / 2


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
        # solvers step past the ends by rounding, where there is no velocity
        return odeint(lambda u, y: flow.velocity(y, u.clamp(0, 1)), x, times, rtol=rtol, atol=atol, method=method)[-1]

    return step


def ancestral(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
    """Ancestral step x_t ~ p(x_t | x_s, x_0) with x_0 = f(x_s, s), the denoised state. One network call.

    It is exact in the limit of small steps. At t = 0 it returns f(x_s, s). Ho et al. 2020, arXiv 2006.11239.
    """
    _down(s, t)
    check_velocity(flow, NEEDS_VELOCITY)
    mean, std = flow.path.posterior(x, flow.denoise(x, s), s, t)
    return mean + (std * torch.randn_like(x)).to(x.dtype)


def sde(level: float = 1.0) -> Step:
    """Stochastic step with the marginals of the ODE. One network call.

    Args:
        level: Rate at which the noise is renewed, in units of the noising SDE. 0 is DDIM, which on the linear path is
            `euler`; 1 is `ancestral`; larger levels are noisier.

    Returns:
        The step.

    Raises:
        ValueError: The level is negative.

    With x_0 = f(x, s), eps = (x - alpha_s x_0)/sigma_s and a fresh z, and r = (sigma_t alpha_s / (sigma_s
    alpha_t))^level:

        x_t = alpha_t x_0 + sigma_t (r eps + sqrt(1 - r^2) z)

    integrates dx = (v - level g^2/2 score) dt + sqrt(level) g dw backwards (Song et al. 2021, arXiv 2011.13456),
    exactly if f is constant over the step. From s = 1 of the linear path, where no data is left, every level above 0
    starts from fresh noise.
    """
    within(0, math.inf, level=level)

    def step(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
        _down(s, t)
        check_velocity(flow, NEEDS_VELOCITY)
        if s == t:
            return x  # r is 0/0 where there is no data or no noise
        path, x0, start, end = flow.path, flow.denoise(x, s), expand(s, x), expand(t, x)
        eps = (x - path.alpha(start) * x0) / path.sigma(start)
        r = path.sigma(end) * path.alpha(start) / (path.sigma(start) * path.alpha(end))
        r = r.clamp(min=0) ** level  # a cosine at t = 1 rounds to less than no data
        noise = r * eps + (1 - r**2).clamp(min=0).sqrt() * torch.randn_like(x)
        return (path.alpha(end) * x0 + path.sigma(end) * noise).to(x.dtype)

    return step


def restart(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
    """Jump to the data, F(x, s, 0), and re-noise to t. One network call.

    This is the multi-step sampler of consistency models, which only know t = 0 (Song et al. 2023, arXiv 2303.01469).
    """
    _down(s, t)
    check_jump(flow, s, 0.0)
    x0 = flow(x, s, 0.0)
    return flow.path.renoise(x0, 0.0, t, torch.randn_like(x0))


def gamma(g: float) -> Step:
    """Jump to t sqrt(1 - g^2) and re-noise to t. One network call.

    Args:
        g: Share of fresh noise, in [0, 1]. 0 is `jump`, 1 is `restart`.

    Returns:
        The step.

    Raises:
        ValueError: g is outside [0, 1].

    Consistency trajectory models, Kim et al. 2023, arXiv 2310.02279.
    """
    within(0, 1, g=g)

    def step(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
        _down(s, t)
        below = t * math.sqrt(1 - g**2)
        check_jump(flow, s, below)
        y = flow(x, s, below)
        return flow.path.renoise(y, below, t, torch.randn_like(y))

    return step


def _down(s: float, t: float) -> None:
    if t > s:
        raise ValueError(f"this step goes from noise to data, s >= t, but it was asked to go from {s:g} to {t:g}")
