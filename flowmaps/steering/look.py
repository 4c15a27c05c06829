"""Look-aheads: the data x0 that are known from a state x_t.

A look-ahead is a function `look(flow, x, t) -> Outlook`. Points (`denoise`, `jump`, `field`) are cheap, and wrong for
sharp rewards. A Gaussian around the denoised state (`widened`, `moments`) is right for likelihoods of measurements.
Draws (`glass`, `posterior`, `renoise`) are right for any reward, in the limit of many draws.

    look-ahead     network passes    error
    denoise        1                 the reward of a mean is not the mean of the reward
    jump(L)        L                 one point of the posterior
    field(to)      1                 between the two
    widened(d)     1                 none for isotropic Gaussian data of standard deviation d
    moments        1                 none for Gaussian data
    glass(n, m)    n m               falls with n and m
    posterior(n)   n                 falls with n; the error of the map
    renoise(n)     n                 falls with n

The gradient of a value costs one more backward pass through them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import path as paths
from ..arguments import at_least, given, positive, shown
from ..path import Path, Time, expand
from ..steps import sde
from ..velocity.glass import Glass
from .shared import Shared, by_row, copies, gain, is_data, need_jump, need_velocity, repeated
from .spread import Spread, log_normal

_inner = sde(0.0)  # DDIM: the Euler step of the linear path, and well-behaved at both ends of every path


@dataclass(frozen=True)
class Outlook:
    """Knowledge of x0 given x_t: draws, or a point with a covariance around it.

    Attributes:
        draws: (n, B, ...); one draw is a point.
        log_weights: (n, B), up to a constant in each row; None for equal weights.
        spread: Covariance of x0 around a single point; None for draws.
    """

    draws: Tensor
    log_weights: Tensor | None = None
    spread: Spread | None = None


class Look(Protocol):
    """Look-ahead."""

    @property
    def from_map(self) -> bool:
        """Whether the draws are jumps of the flow map from x_t, whose reward does not vanish at t = 1."""
        ...

    def __call__(self, flow: Any, x: Tensor, t: Time) -> Outlook:
        """The data known from the state x at time t, differentiable in x."""
        ...


@dataclass(frozen=True)
class Denoise:
    """Look-ahead to the denoised state f(x, t). It is `look.denoise`."""

    from_map: bool = False

    def __call__(self, flow: Any, x: Tensor, t: Time) -> Outlook:
        """The point f(x, t)."""
        return Outlook(_denoised(flow, x, t, "look.denoise")[None])


denoise = Denoise()
"""The denoised state f(x, t) = E[x0 | x_t], in one pass: the look-ahead of DPS and of universal guidance."""


@dataclass(frozen=True)
class Jump:
    """Look-ahead by jumps of the flow map; made by `jump`."""

    steps: int = 1
    from_map: bool = True

    def __call__(self, flow: Any, x: Tensor, t: Time) -> Outlook:
        """The point F(x, t, 0)."""
        need_jump(flow, "look.jump")
        if is_data(t):
            return Outlook(x[None])
        for k in range(self.steps):
            last = k == self.steps - 1
            x = flow(x, t if k == 0 else t * (1 - k / self.steps), 0.0 if last else t * (1 - (k + 1) / self.steps))
        return Outlook(x[None])


def jump(steps: int = 1) -> Jump:
    """Look ahead by the flow map, F(x, t, 0): the look-ahead of FMTT, of consistency-model solvers and of FMRG.

    Args:
        steps: Number of equal jumps.

    Returns:
        The look-ahead. Its values are multiplied with alpha(t) unless they have another `anneal`.

    Raises:
        ValueError: There is less than one jump. In calls: the map only knows the source time 1.
    """
    at_least(1, steps=steps)
    return Jump(steps)


@dataclass(frozen=True)
class Field:
    """Look-ahead by the data that a jump points to; made by `field`."""

    to: Callable[[float], float]
    from_map: bool = True

    def __call__(self, flow: Any, x: Tensor, t: Time) -> Outlook:
        """The data of the jump from t to `to(t)`."""
        end = by_row(self.to, t)
        if not bool(((0 <= torch.as_tensor(end)) & (torch.as_tensor(end) <= torch.as_tensor(t))).all()):
            raise ValueError(f"look.field looks from the time t down to a time in [0, t], and to({t}) is {end}")
        if is_data(t) or (isinstance(end, float) and end == t):
            return denoise(flow, x, t)
        need_jump(flow, "look.field")
        if not hasattr(flow, "average_velocity"):
            raise TypeError("look.field needs a flow map with average_velocity(x, s, t)")

        def chord(path: Path, time: Tensor) -> tuple[Tensor, Tensor]:
            there = expand(end, x)
            return path.alpha_slope(time, there), path.sigma_slope(time, there)

        return Outlook(flow.path.convert(flow.average_velocity(x, t, end), x, t, chord, paths.data)[None])


def field(to: Callable[[float], float]) -> Field:
    """Look ahead to the data D that the jump from t to to(t) points to, D = x - t V(x, t, to(t)) on the linear path.

    Args:
        to: Function from the time of the state to the target time: to = t is the denoiser, to = 0 the jump to data.

    Returns:
        The look-ahead.

    Raises:
        TypeError: `to` is no function.

    It exchanges distortion for realism: the denoisers of flow maps (arXiv 2606.19802) have to(t) = max(t - k, 0).
    """
    if not callable(to):
        raise TypeError(f"look.field takes a function from a time to an earlier one, got {shown(to)}")
    return Field(to)


@dataclass(frozen=True)
class Widened:
    """Look-ahead to a Gaussian of known width; made by `widened`."""

    data_std: float = 1.0
    from_map: bool = False

    def __call__(self, flow: Any, x: Tensor, t: Time) -> Outlook:
        """N(f(x, t), rho I)."""
        point, time, d2 = _denoised(flow, x, t, "look.widened"), expand(t, x), self.data_std**2
        noise = flow.path.sigma(time) ** 2
        variance = noise * d2 / (flow.path.alpha(time) ** 2 * d2 + noise)
        return Outlook(point[None], spread=Spread(variance))


def widened(data_std: float = 1.0) -> Widened:
    """Look ahead to N(f(x, t), rho I) with rho = sigma^2 d^2/(alpha^2 d^2 + sigma^2), exact for N(0, d^2 I) data.

    Args:
        data_std: Width d of the data in a direction that a measurement leaves open: about 0.5 for images in [-1, 1].

    Returns:
        The look-ahead, for `fm.rewards.Likelihood` and `fm.rewards.Linear`. It costs no further pass.

    Raises:
        ValueError: The width is not positive.

    As in PiGDM (Song et al. 2023), where d = 1.
    """
    positive(data_std=data_std)
    return Widened(data_std)


@dataclass(frozen=True)
class Moments:
    """Look-ahead to the Gaussian with the moments of the posterior; made by `moments`."""

    probes: int = 1
    stopped: bool = False
    from_map: bool = False

    def __call__(self, flow: Any, x: Tensor, t: Time) -> Outlook:
        """N(f(x, t), (sigma^2/alpha) df/dx)."""
        if is_data(t):
            return Outlook(x[None], spread=Spread(torch.zeros_like(expand(t, x))))
        keep = torch.is_grad_enabled() and x.requires_grad
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            point = _denoised(flow, x, t, "look.moments")
        scale = gain(flow.path, t, x)

        def product(v: Tensor) -> Tensor:
            keep_graph = torch.is_grad_enabled() and not self.stopped
            (pulled,) = torch.autograd.grad(point, x, v.to(point.dtype), create_graph=keep_graph, retain_graph=True)
            return scale * pulled

        return Outlook((point if keep else point.detach())[None], spread=Spread(product=product, probes=self.probes))


def moments(probes: int | None = None, *, stopped: bool = False) -> Moments:
    """Look ahead to the Gaussian with the exact posterior mean f and covariance C = (sigma^2/alpha) df/dx.

    Args:
        probes: Random probes of the determinant for measurements of more than 64 values. None: 1.
        stopped: Whether the gradient leaves out the derivative of C, as MMPS does (Rozet et al. 2024), which saves
            second derivatives.

    Returns:
        The look-ahead, for `fm.rewards.Likelihood` and `fm.rewards.Linear`. It costs one backward pass for each
        measured value, up to 64 values, and one for each iteration of conjugate gradients beyond.

    Raises:
        ValueError: There is less than one probe.
    """
    at_least(1, **given(probes=probes))
    return Moments(probes or 1, stopped)


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
        y = _noise(flow, many)
        for k in range(self.steps):
            y = _inner(teacher, y, 1 - k / self.steps, 1 - (k + 1) / self.steps)
        return Outlook(y.reshape(self.n, *x.shape))


def glass(n: int, steps: int) -> GlassDraws:
    """Look ahead by draws of p(x0 | x_t) from the flow's own denoiser: the posterior flow of GLASS, solved in steps.

    Args:
        n: Number of draws.
        steps: Steps of each draw, one network pass each.

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


def _denoised(flow: Any, x: Tensor, t: Time, name: str) -> Tensor:
    """f(x, t), and x itself at t = 0."""
    need_velocity(flow, name)
    return x if is_data(t) else flow.denoise(x, t)


def _noise(flow: Any, x: Tensor) -> Tensor:
    """Noise at t = 1, of x's shape."""
    path = getattr(flow, "path", paths.linear)
    return (path.sigma(expand(1.0, x)) * torch.randn_like(x)).to(x.dtype)


def _plain(flow: Any) -> Any:
    """The flow itself, without its memory."""
    return flow.flow if isinstance(flow, Shared) else flow
