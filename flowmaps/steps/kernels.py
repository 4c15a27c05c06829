"""Random steps. A kernel is a step that can tell the mean and the standard deviation of its Gaussian."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from ..arguments import within
from ..flow_map import check_jump, check_velocity
from ..path import expand
from .deterministic import NEEDS_VELOCITY, Step

Moments = Callable[[Any, Tensor, float, float], tuple[Tensor, Tensor]]
"""(flow, x, s, t) -> (mean, standard deviation) of x_t."""


class Kernel(Protocol):
    """Random step: a draw from N(mean, std^2 I), with the two given by its `moments(flow, x, s, t)`.

    The weights of particles and the probability ratios of policy gradients need the moments alone.
    """

    __name__: str
    moments: Moments
    """Mean, of x's shape, and standard deviation, (B, 1, ..., 1), of x_t. The standard deviation is 0 at t = 0."""

    def __call__(self, flow: Any, x: Tensor, s: float, t: float, /) -> Tensor:
        """Draw x_t."""
        ...


def _kernel(moments: Moments) -> Callable[[Step], Kernel]:
    """Give a step its moments (decorator)."""

    def bound(step: Step) -> Kernel:
        step.moments = moments  # type: ignore[attr-defined]
        return cast(Kernel, step)

    return bound


def _ancestral_moments(flow: Any, x: Tensor, s: float, t: float) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of p(x_t | x_s, x_0 = f(x_s, s))."""
    _down(s, t)
    check_velocity(flow, NEEDS_VELOCITY)
    return flow.path.posterior(x, flow.denoise(x, s), s, t)


@_kernel(_ancestral_moments)
def ancestral(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
    """Ancestral step x_t ~ p(x_t | x_s, x_0) with x_0 = f(x_s, s), the denoised state. One network call.

    It is exact in the limit of small steps. At t = 0 it returns f(x_s, s). Ho et al. 2020, arXiv 2006.11239.
    """
    mean, std = _ancestral_moments(flow, x, s, t)
    return mean + (std * torch.randn_like(x)).to(x.dtype)


def sde(level: float = 1.0) -> Kernel:
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

    def parts(flow: Any, x: Tensor, s: float, t: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The terms alpha_t x_0, sigma_t, r eps and sqrt(1 - r^2)."""
        path, x0, start, end = flow.path, flow.denoise(x, s), expand(s, x), expand(t, x)
        eps = (x - path.alpha(start) * x0) / path.sigma(start)
        r = path.sigma(end) * path.alpha(start) / (path.sigma(start) * path.alpha(end))
        r = r.clamp(min=0) ** level  # a cosine at t = 1 rounds to less than no data
        return path.alpha(end) * x0, path.sigma(end), r * eps, (1 - r**2).clamp(min=0).sqrt()

    def check(flow: Any, s: float, t: float) -> None:
        _down(s, t)
        check_velocity(flow, NEEDS_VELOCITY)

    def moments(flow: Any, x: Tensor, s: float, t: float) -> tuple[Tensor, Tensor]:
        check(flow, s, t)
        if s == t:
            return x, torch.zeros_like(expand(t, x))
        known, sigma, kept, fresh = parts(flow, x, s, t)
        return known + sigma * kept, sigma * fresh

    @_kernel(moments)
    def step(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
        check(flow, s, t)
        if s == t:
            return x  # without data or without noise r is 0/0
        known, sigma, kept, fresh = parts(flow, x, s, t)
        return (known + sigma * (kept + fresh * torch.randn_like(x))).to(x.dtype)  # mean + std z, rounded as it was

    return step


def _restart_moments(flow: Any, x: Tensor, s: float, t: float) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a state that is re-noised from F(x, s, 0) to t."""
    _down(s, t)
    check_jump(flow, s, 0.0)
    return flow.path.renoising(flow(x, s, 0.0), 0.0, t)


@_kernel(_restart_moments)
def restart(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
    """Jump to the data, F(x, s, 0), and re-noise to t. One network call.

    This is the multi-step sampler of consistency models, which only know t = 0 (Song et al. 2023, arXiv 2303.01469).
    """
    _down(s, t)
    check_jump(flow, s, 0.0)
    return flow.path.renoise(flow(x, s, 0.0), 0.0, t, torch.randn_like(x))


def gamma(g: float) -> Kernel:
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

    def moments(flow: Any, x: Tensor, s: float, t: float) -> tuple[Tensor, Tensor]:
        _down(s, t)
        below = t * math.sqrt(1 - g**2)
        check_jump(flow, s, below)
        return flow.path.renoising(flow(x, s, below), below, t)

    @_kernel(moments)
    def step(flow: Any, x: Tensor, s: float, t: float) -> Tensor:
        mean, std = moments(flow, x, s, t)
        return (mean + std * torch.randn_like(x)).to(x.dtype)

    return step


def _down(s: float, t: float) -> None:
    if t > s:
        raise ValueError(f"this step goes from noise to data, s >= t, but it was asked to go from {s:g} to {t:g}")
