"""Look-aheads to a point, and to a Gaussian around the denoised state."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import path as paths
from ..arguments import at_least, given, positive, shown
from ..path import Path, Time, expand
from .operators import differentiable_twice
from .outlook import Outlook
from .shared import by_row, gain, is_data, need_jump, need_velocity
from .spread import Spread


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
    stopped: bool = True
    from_map: bool = False

    def __call__(self, flow: Any, x: Tensor, t: Time) -> Outlook:
        """N(f(x, t), (sigma^2/alpha) df/dx)."""
        if is_data(t):
            return Outlook(x[None], spread=Spread(torch.zeros_like(expand(t, x))))
        keep = torch.is_grad_enabled() and x.requires_grad
        with torch.enable_grad(), nullcontext() if self.stopped else differentiable_twice():
            x = x if x.requires_grad else x.detach().requires_grad_()
            point = _denoised(flow, x, t, "look.moments")
        scale = gain(flow.path, t, x)

        def product(v: Tensor) -> Tensor:
            keep_graph = torch.is_grad_enabled() and not self.stopped
            (pulled,) = torch.autograd.grad(point, x, v.to(point.dtype), create_graph=keep_graph, retain_graph=True)
            return scale * pulled

        return Outlook((point if keep else point.detach())[None], spread=Spread(product=product, probes=self.probes))


def moments(probes: int | None = None, *, stopped: bool = True) -> Moments:
    """Look ahead to the Gaussian with the exact posterior mean f and covariance C = (sigma^2/alpha) df/dx.

    Args:
        probes: Random probes of the determinant for measurements of more than 64 values. None: 1.
        stopped: Whether the gradient leaves out the derivative of C, as MMPS does (Rozet et al. 2024). If it keeps it,
            the gradient is exact for the exact denoiser; but second derivatives of a learned network may be so large
            that samples leave the data.

    Returns:
        The look-ahead, for `fm.rewards.Likelihood` and `fm.rewards.Linear`. It costs one backward pass for each
        measured value, up to 64 values, and one for each iteration of conjugate gradients beyond.

    Raises:
        ValueError: There is less than one probe.
    """
    at_least(1, **given(probes=probes))
    return Moments(probes or 1, stopped)


def _denoised(flow: Any, x: Tensor, t: Time, name: str) -> Tensor:
    """f(x, t), and x itself at t = 0."""
    need_velocity(flow, name)
    return x if is_data(t) else flow.denoise(x, t)
