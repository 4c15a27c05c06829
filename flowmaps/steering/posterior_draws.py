"""Look-aheads by draws of x0 given x_t."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, positive, shown
from ..path import Time, expand, linear
from ..velocity import Glass
from .outlook import Outlook
from .shared import Shared, copies, is_data, need_jump, need_velocity, repeated
from .spread import log_normal


@dataclass(frozen=True)
class GlassDraws:
    """Look-ahead by draws of the posterior, from the denoiser alone; made by `glass`."""

    n: int
    steps: int
    from_map: bool = False

    def __call__(self, flow: Any, x: Tensor, t: Time) -> Outlook:
        """N draws of p(x0 | x_t), with one pass of each draw for a step."""
        need_velocity(flow, "look.glass")
        if is_data(t):
            return Outlook(x.expand(self.n, *x.shape))
        many = x.repeat(self.n, *[1] * (x.ndim - 1))
        teacher = Glass(repeated(_plain(flow), self.n)).given(state=many, at=expand(copies(t, self.n), many))
        return Outlook(teacher.draw(torch.randn_like(many), self.steps).reshape(self.n, *x.shape))


def glass(n: int, steps: int) -> GlassDraws:
    """Look ahead by draws of p(x0 | x_t) from the flow's own denoiser: `fm.velocity.Glass.draw`.

    Args:
        n: Number of draws.
        steps: Steps of each draw, one network pass each; four are usually enough.

    Returns:
        The look-ahead.

    Raises:
        ValueError: One of the numbers is below 1.

    Holderrieth et al. 2025, arXiv 2509.25170.
    """
    at_least(1, n=n, steps=steps)
    return GlassDraws(n, steps)


@dataclass(frozen=True)
class PosteriorDraws:
    """Look-ahead by draws of a posterior map; made by `posterior`."""

    map: Any
    n: int
    from_map: bool = False

    def __call__(self, flow: Any, x: Tensor, t: Time) -> Outlook:
        """N draws of p(x0 | x_t), with one jump each."""
        if is_data(t):
            return Outlook(x.expand(self.n, *x.shape))
        many = x.repeat(self.n, *[1] * (x.ndim - 1))
        own = getattr(repeated(_plain(flow), self.n), "condition", None) or {}
        condition = {**own, "state": many, "at": expand(copies(t, self.n), many).reshape(-1)}
        return Outlook(self.map.given(**condition)(_noise(self.map, many), 1.0, 0.0).reshape(self.n, *x.shape))


def posterior(map: Any, n: int) -> PosteriorDraws:
    """Look ahead by draws of a posterior map, such as a meta flow map or a posterior diamond map, one jump each.

    Args:
        map: Flow map from noise to p(x0 | x_t), which takes the conditions `state` (x_t) and `at` (t).
        n: Number of draws.

    Returns:
        The look-ahead.

    Raises:
        TypeError: The map takes no conditions.
        ValueError: There is less than one draw.

    Meta flow maps: arXiv 2601.14430.
    """
    at_least(1, n=n)
    if not callable(getattr(map, "given", None)) or isinstance(map, type):
        raise TypeError(f"look.posterior needs a map with given(state=, at=), got {shown(map)}")
    return PosteriorDraws(map, n)


@dataclass(frozen=True)
class RenoisedDraws:
    """Look-ahead by jumps from re-noised states; made by `renoise`."""

    n: int
    snr: float
    log_prob: Callable[[Tensor, Tensor], Tensor] | None = None
    from_map: bool = False

    def __call__(self, flow: Any, x: Tensor, t: Time) -> Outlook:
        """N jumps F(z, t', 0) with z ~ p(x_t' | x_t)."""
        need_jump(flow, "look.renoise")
        if is_data(t):
            return Outlook(x.expand(self.n, *x.shape))
        path, many = flow.path, x.repeat(self.n, *[1] * (x.ndim - 1))
        at = expand(copies(t, self.n), many)
        there = path.time_of(path.alpha(at).clamp(min=0), path.sigma(at) * self.snr**0.5).clamp(max=1)
        mean, std = path.renoising(many, at, there)
        z = (mean + std * torch.randn_like(many)).to(x.dtype)
        X = repeated(_plain(flow), self.n)(z, there, 0.0)
        weights = None
        if self.log_prob is not None:
            likelihood = log_normal((many - path.alpha(at) * X).flatten(1), (path.sigma(at) ** 2).flatten(1))
            proposal = log_normal((z - mean).flatten(1), (std**2).flatten(1))
            weights = (likelihood + self.log_prob(z, there) - proposal).reshape(self.n, len(x))
        return Outlook(X.reshape(self.n, *x.shape), weights)


def renoise(n: int, snr: float, log_prob: Callable[[Tensor, Tensor], Tensor] | None = None) -> RenoisedDraws:
    """Look ahead by jumps from states that are re-noised to a later time, F(z, t', 0) with z ~ p(x_t' | x_t).

    Args:
        n: Number of draws.
        snr: Factor by which the signal-to-noise ratio falls, above 1: 1.1 to 1.5 for FLUX, 20 for SANA.
        log_prob: The function (z, t') -> log p_t'(z), (B,), such as of an exact distribution. With it the draws have
            importance weights and are right in the limit of many. None: equal weights, which is cheap and biased.

    Returns:
        The look-ahead.

    Raises:
        ValueError: There is less than one draw, or the factor is not above 1.

    Weighted Diamond, arXiv 2602.05993. With X = F(z, t', 0) the log-weight is log N(x; alpha_t X, sigma_t^2) + log
    p_t'(z) - log p(z | x). The published code has the denoised state in the place of X and an approximation of log
    p_t'(z), which are both biased.
    """
    at_least(1, n=n)
    positive(snr=snr)
    if snr <= 1:
        raise ValueError(f"snr is the factor by which re-noising lowers the signal-to-noise ratio, above 1, got {snr}")
    return RenoisedDraws(n, snr, log_prob)


def _noise(flow: Any, x: Tensor) -> Tensor:
    """Noise at t = 1, of x's shape."""
    path = getattr(flow, "path", linear)
    return (path.sigma(expand(1.0, x)) * torch.randn_like(x)).to(x.dtype)


def _plain(flow: Any) -> Any:
    """The flow itself, without its memory."""
    return flow.flow if isinstance(flow, Shared) else flow
