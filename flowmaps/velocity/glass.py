"""GLASS: the velocity of the data given a noisy state, made of any velocity without training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import path as paths
from ..arguments import at_least, within
from ..flow_map import check_velocity
from ..path import Path, Time, expand
from .around import AroundFlow
from .sources import constant


class Glass(AroundFlow):
    """Velocity whose samples are draws of x_r given x_t, a teacher of posterior maps.

    The inner flow runs on the path of the model, from noise at s = 1 to a draw X at s = 0:

        X ~ p(x_r | x_t),      xb_s = alpha(s) X + sigma(s) e.

    With r = 0 (the default) X is the data given the state, and the observations x_t and xb_s of it are independent.
    With 0 < r < t it is the ancestral transition, and both observations share noise. Each needs one call of the model:
    two Gaussian observations of x_0 are one observation of a smaller noise level t*, so

        E[x_0 | x_t, xb_s] = f(y, t*),      snr(t*) = snr(t) + snr_e(s),

    where y is their weighted mean. It is exact for the exact denoiser, on every path that can find the time of a noise
    level (`Path.time_of`). Holderrieth et al. 2025, GLASS flows, arXiv 2509.25170.

    Args:
        flow: Any object with velocity(x, t).
        to: Time r of the draw, below the time of the state. 0 is data.

    Raises:
        TypeError: The flow has no velocity.
        ValueError: The flow is a partial map, or `to` is no time. In calls: no state is bound.

    Bind the state with `given(state=x_t, at=t)`; other conditions go to the flow. `fm.data.WithState` makes data with
    conditions of these names, so a method with `teacher=Glass(flow)` trains a posterior map. `draw` makes samples.
    """

    def __init__(self, flow: Any, *, to: float = 0.0) -> None:
        super().__init__(flow)
        check_velocity(flow, "a posterior velocity is made of a velocity")
        within(0, 1, to=to)
        self.to_time = to
        self.state: Tensor | None = None
        self.at: Time | None = None

    def given(self, *, state: Tensor | None = None, at: Time | None = None, **condition: Any) -> Glass:
        """Bind the state x_t and its time, and conditions of the flow.

        Args:
            state: Noisy states (B, ...), one for each row. None: the bound ones stay.
            at: Their time t, in any shape that `expand` takes. None: the bound one stays.
            **condition: Conditions of the flow.

        Returns:
            The posterior velocity of these states.
        """
        bound = Glass(self.flow.given(**condition) if condition else self.flow, to=self.to_time)
        bound.state, bound.at = self.state if state is None else state, self.at if at is None else at
        return bound

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Velocity of the inner flow at the state xb = x and the inner time t, of x's shape."""
        s = _regular(self.path, expand(t, x))
        clean, noise = self._predictions(x, s)
        return self.path.velocity(clean, noise, s)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """Mean of the draw, E[X | x_t, xb_s = x], of x's shape."""
        return self._predictions(x, expand(t, x))[0]

    def draw(self, noise: Tensor, steps: int) -> Tensor:
        """Draw X ~ p(x_r | x_t) by a few steps of the inner flow, one call of the model each.

        Each step holds the noise and the mean of the draw, extrapolated to the middle of the step from the last two
        calls. The error falls with the square of the number of steps; four are about as good as twenty DDIM steps.

        Args:
            noise: Standard normal noise, (B, ...).
            steps: Number of equal steps of the inner time.

        Returns:
            The draws, differentiable with respect to the state.

        Raises:
            ValueError: There is less than one step.
        """
        at_least(1, steps=steps)
        path, one = self.path, expand(1.0, noise)
        x, before = (path.sigma(one) * noise).to(noise.dtype), None
        for k in range(steps):
            s, t = (torch.full_like(one, 1 - (k + j) / steps) for j in (0, 1))
            now = self.denoise(x, s)
            clean = now if before is None else now + (now - before) / 2
            e = (x - path.alpha(s) * clean) / path.sigma(s)
            x, before = (path.alpha(t) * clean + path.sigma(t) * e).to(noise.dtype), now
        return x

    def _predictions(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Means of the draw X and of the inner noise e, given both observations."""
        path, state, at = self.path, *self._bound(x)
        zero, one = torch.zeros_like(at), torch.ones_like(at)
        # X = shared x_t + kept x_0 + std e', so xb - alpha_s shared x_t observes x_0 with the noise of e' and e
        shared, kept, std = zero, one, zero
        if self.to_time > 0:
            shared, std = path.posterior(one, zero, at, self.to_time)
            kept = path.posterior(zero, one, at, self.to_time)[0]
        alpha, sigma = path.alpha(s), path.sigma(s)
        level = (alpha**2 * std**2 + sigma**2).sqrt()
        rest = x - alpha * shared * state
        x0, noise = self._both(state, at, rest, alpha * kept, level)
        still = level == 0  # no noise is left: xb is the draw
        share = torch.where(still, one, sigma) / torch.where(still, one, level)
        spread = alpha * std**2 / torch.where(still, one, level)
        return (shared * state + kept * x0 + spread * noise).to(x.dtype), (share * noise).to(x.dtype)

    def _both(self, first: Tensor, t: Tensor, second: Tensor, beta: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of x_0 and of the second noise, given x_t = alpha x_0 + sigma eps and second = beta x_0 + tau eps_2.

        With q = alpha^2 tau^2 + beta^2 sigma^2, a = alpha tau / sqrt(q) and b = beta sigma / sqrt(q): the joint noise
        level is tau sigma / sqrt(q), and the mean of eps_2 is b eps* + a (alpha second - beta first) / sqrt(q). No term
        has a pole.
        """
        path = self.path
        alpha, sigma = path.alpha(t), path.sigma(t)
        root = (alpha**2 * tau**2 + beta**2 * sigma**2).sqrt()
        empty = root == 0  # both are noise alone, or both are data
        safe = torch.where(empty, torch.ones_like(root), root)
        a = alpha * tau / safe
        b = torch.where(empty, torch.ones_like(root), beta * sigma / safe)
        star = torch.where(tau * sigma == 0, torch.zeros_like(t), path.time_of(root, tau * sigma)).clamp(0, 1)
        star = _regular(path, star)
        total = (root**2 + (tau * sigma) ** 2).sqrt()
        scale = (path.alpha(star) ** 2 + path.sigma(star) ** 2).sqrt() / torch.where(total == 0, 1.0, total)
        y = torch.where(total == 0, second, scale * (a * tau * first + b * sigma * second)).to(first.dtype)
        v = self.flow.velocity(y, star)
        x0 = path.convert(v, y, star, paths.velocity, paths.data)
        noise = path.convert(v, y, star, paths.velocity, paths.noise)
        return x0, b * noise + a * (alpha * second - beta * first) / safe

    def _bound(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The state, and its time (B, 1, ..., 1)."""
        if self.state is None or self.at is None:
            raise ValueError(
                "a posterior velocity needs its state: bind it with given(state=x_t, at=t), or train on "
                "fm.data.with_state(data), whose rows have one"
            )
        if self.state.shape != x.shape:
            raise ValueError(
                f"the state of a posterior velocity has a row for each of x, of shape {tuple(x.shape)}, got "
                f"{tuple(self.state.shape)}"
            )
        at = expand(self.at, x)
        if self.to_time > 0 and not torch.compiler.is_compiling() and not bool((at > self.to_time).all()):
            raise ValueError(f"a transition goes from the state's time down to {self.to_time:g}, got states below it")
        return self.state.to(x.dtype), at

    def with_constant_weights(self) -> Glass:
        """Make the weights of the flow constants: gradients still pass through x and t."""
        frozen = Glass(constant(self.flow), to=self.to_time)
        frozen.state, frozen.at = self.state, self.at
        return frozen

    def __repr__(self) -> str:
        return f"Glass({type(self.flow).__name__}, to={self.to_time:g})"


def _regular(path: Path, t: Tensor) -> Tensor:
    """Move times at which sigma' is infinite (t = 0 of a variance-preserving path) to 1e-6."""
    return torch.where(path.sigma_slope(t, t).isfinite(), t, torch.full_like(t, 1e-6))
