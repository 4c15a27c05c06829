"""Paths from data to noise: x_t = alpha(t) x_0 + sigma(t) eps, with t = 0 data and t = 1 noise.

A path is two functions of time and their *divided differences*

    alpha[s, t] = (alpha(t) - alpha(s)) / (t - s),        sigma[s, t] = (sigma(t) - sigma(s)) / (t - s).

These are written to be smooth at s = t, where they equal the derivatives alpha'(t), sigma'(t). They remove the pole of
every formula with a factor 1/(t - s). Everything else (conversions, re-noising, the ancestral kernel) follows from the
two functions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

Time = float | Tensor
Form = tuple[Tensor, Tensor]  # the pair (a, b) of a linear form a x_0 + b eps


def expand(t: Any, x: Tensor) -> Tensor:
    """Reshape a time to (B, 1, ..., 1), to broadcast against x of shape (B, ...).

    Args:
        t: A number, a 0-d tensor, or a tensor of shape (B,), (B, 1) or (B, 1, ..., 1).
        x: The batch, which also gives the device and the dtype. The dtype is never below float32.

    Returns:
        The time, (B, 1, ..., 1).

    Raises:
        ValueError: The shape does not fit the batch.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    rows = (x.shape[0],) + (1,) * (x.ndim - 1)
    if not hasattr(t, "to"):  # a number, or one of numpy's
        t = torch.as_tensor(t, dtype=dtype, device=x.device)
    if tuple(t.shape) == rows:
        return t if t.dtype == dtype else t.to(dtype)
    if t.ndim == 0 or t.numel() == 1:
        return t.to(dtype=dtype, device=x.device).reshape((1,) * x.ndim).expand(rows)
    if t.shape[0] == t.numel() == x.shape[0]:
        return t.to(dtype=dtype, device=x.device).reshape(rows)
    raise ValueError(
        f"a time must be a number, a 0-d tensor, ({x.shape[0]},) or {rows} beside x of shape {tuple(x.shape)}, got "
        f"{tuple(t.shape)}"
    )


@dataclass(frozen=True)
class Path(ABC):
    """Base class of the paths x_t = alpha(t) x_0 + sigma(t) eps.

    A subclass gives the two functions and their divided differences.
    """

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Share of the data at time t."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""

    @abstractmethod
    def alpha_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference (alpha(t) - alpha(s)) / (t - s), and alpha'(t) at s = t."""

    @abstractmethod
    def sigma_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference (sigma(t) - sigma(s)) / (t - s), and sigma'(t) at s = t."""

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Invert the path: the time t of the noise level sigma(t)/alpha(t) = sigma/alpha.

        Args:
            alpha: Coefficient of the data. 0 is pure noise.
            sigma: Coefficient of the noise. 0 is data. Only the ratio sigma/alpha counts.

        Returns:
            The time, of the shape of the arguments. A ratio past the end of the path gives a time past 1, or 1.

        Raises:
            NotImplementedError: The path has no inverse.
        """
        raise NotImplementedError(
            f"{type(self).__name__} needs a method time_of(alpha, sigma), the time of a noise level, for this"
        )

    def variance_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of sigma^2, and (sigma^2)'(t) at s = t. It is finite even where sigma' is not."""
        return (self.sigma(s) + self.sigma(t)) * self.sigma_slope(s, t)

    def interpolate(self, x0: Tensor, eps: Tensor, t: Time) -> Tensor:
        """State at time t, x_t = alpha(t) x_0 + sigma(t) eps.

        Args:
            x0: Data, (B, ...).
            eps: Noise of the same shape.
            t: Time, in any shape that `expand` takes.

        Returns:
            The state, of the shape and dtype of x0.
        """
        t = expand(t, x0)
        return (self.alpha(t) * x0 + self.sigma(t) * eps).to(x0.dtype)

    def velocity(self, x0: Tensor, eps: Tensor, t: Time) -> Tensor:
        """Conditional velocity dx_t/dt = alpha'(t) x_0 + sigma'(t) eps, which is eps - x_0 on the linear path.

        Args:
            x0: Data, (B, ...).
            eps: Noise of the same shape.
            t: Time, in any shape that `expand` takes.

        Returns:
            The velocity, of the shape and dtype of x0.
        """
        t = expand(t, x0)
        return (self.alpha_slope(t, t) * x0 + self.sigma_slope(t, t) * eps).to(x0.dtype)

    def convert(
        self,
        prediction: Tensor,
        x: Tensor,
        t: Time,
        source: Callable[[Path, Tensor], Form],
        target: Callable[[Path, Tensor], Form],
    ) -> Tensor:
        """Convert a prediction of one kind into another kind, at the state x = x_t.

        Args:
            prediction: Prediction of the `source` kind, of x's shape.
            x: State x_t, (B, ...).
            t: Time of the state, in any shape that `expand` takes.
            source: Kind of the prediction: `data`, `noise`, `velocity`, `v_prediction`, `score`, or another function
                (path, t) -> (a, b) for a prediction a x_0 + b eps.
            target: Kind of the result, likewise.

        Returns:
            The prediction of the `target` kind, of x's shape and dtype. It is not finite where the state does not
            determine it (the noise at t = 0, for example).

        All kinds are linear forms a x_0 + b eps of the same two unknowns, and so is x_t. Two forms fix a third: with
        the determinants |p, q| = p_a q_b - p_b q_a,

            target = (|source, target| x + |target, x_t| source) / |source, x_t|.

        Example: `linear.convert(v, x, t, velocity, data)` is x - t v.
        """
        t = expand(t, x)
        here, known, wanted = state(self, t), source(self, t), target(self, t)
        on_x, on_prediction = determinant(known, wanted), determinant(wanted, here)
        return ((on_x * x + on_prediction * prediction) / determinant(known, here)).to(x.dtype)

    def renoise(self, x: Tensor, t: Time, s: Time, noise: Tensor) -> Tensor:
        """Re-noise a state: draw x_s ~ p(x_s | x_t) for s >= t.

        Args:
            x: State x_t, (B, ...).
            t: Time of the state.
            s: Noisier time to go to.
            noise: Standard normal noise of x's shape.

        Returns:
            The state x_s, of x's shape and dtype.

        The formula is x_s = (alpha_s/alpha_t) x_t + sqrt(sigma_s^2 - (alpha_s/alpha_t)^2 sigma_t^2) eps.
        """
        ratio, variance = self._kernel(expand(t, x), expand(s, x))
        return (ratio * x + variance.sqrt() * noise).to(x.dtype)

    def posterior(self, x_s: Tensor, x0: Tensor, s: Time, t: Time) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the exact ancestral kernel p(x_t | x_s, x_0), for t <= s.

        Args:
            x_s: State at time s, (B, ...).
            x0: Data, or its prediction, of the same shape.
            s: Time of the state, with sigma(s) > 0.
            t: Time to go to, at most s.

        Returns:
            The mean, of the shape of x_s, and the standard deviation, (B, 1, ..., 1).

        With a = alpha_s/alpha_t and r = sigma_s^2 - a^2 sigma_t^2,

            mean = (a sigma_t^2 x_s + alpha_t r x_0) / sigma_s^2,        variance = r sigma_t^2 / sigma_s^2

        (Ho et al. 2020, arXiv 2006.11239, eq. 6-7, for any alpha and sigma).
        """
        s, t = expand(s, x_s), expand(t, x_s)
        (a, r), var_s, var_t = self._kernel(t, s), self.sigma(s) ** 2, self.sigma(t) ** 2
        return ((a * var_t / var_s) * x_s + (self.alpha(t) * r / var_s) * x0).to(x_s.dtype), (r * var_t / var_s).sqrt()

    def _kernel(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Ratio alpha_s/alpha_t and variance of p(x_s | x_t), with round-off below zero cut."""
        # 1 where s = t, also at t = 1, where alpha_s = alpha_t = 0 on some paths
        ratio = torch.where(s == t, torch.ones_like(s), self.alpha(s) / self.alpha(t))
        return ratio, (self.sigma(s) ** 2 - (ratio * self.sigma(t)) ** 2).clamp(min=0)


def state(path: Path, t: Tensor) -> Form:
    """Linear form of the state, x_t = alpha x_0 + sigma eps."""
    return path.alpha(t), path.sigma(t)


def data(path: Path, t: Tensor) -> Form:
    """Linear form of the data, x_0 = 1 x_0 + 0 eps."""
    return torch.ones_like(t), torch.zeros_like(t)


def noise(path: Path, t: Tensor) -> Form:
    """Linear form of the noise, eps = 0 x_0 + 1 eps."""
    return torch.zeros_like(t), torch.ones_like(t)


def velocity(path: Path, t: Tensor) -> Form:
    """Linear form of the velocity, v = alpha' x_0 + sigma' eps."""
    return path.alpha_slope(t, t), path.sigma_slope(t, t)


def v_prediction(path: Path, t: Tensor) -> Form:
    """Linear form of the v-prediction, alpha eps - sigma x_0 (Salimans and Ho 2022, arXiv 2202.00512)."""
    return -path.sigma(t), path.alpha(t)


def score(path: Path, t: Tensor) -> Form:
    """Linear form of the score, grad log p(x_t | x_0) = 0 x_0 - eps / sigma."""
    return torch.zeros_like(t), -1 / path.sigma(t)


def determinant(p: Form, q: Form) -> Tensor:
    """Determinant |p, q| = p_a q_b - p_b q_a of two linear forms; zero where one is a multiple of the other."""
    return p[0] * q[1] - p[1] * q[0]


@dataclass(frozen=True)
class Linear(Path):
    """Path of flow matching, alpha = 1 - t, sigma = t (Lipman et al. 2023, arXiv 2210.02747). It is the default."""

    def alpha(self, t: Tensor) -> Tensor:
        """Share of the data at time t."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""
        return t

    def alpha_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of alpha."""
        return -torch.ones_like(t)

    def sigma_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of sigma."""
        return torch.ones_like(t)

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Time of the noise level sigma/alpha."""
        return sigma / (alpha + sigma)


@dataclass(frozen=True)
class Trigonometric(Path):
    """Path of TrigFlow, alpha = cos(pi t / 2), sigma = sin(pi t / 2) (arXiv 2410.11081, its angle scaled to [0, 1])."""

    def alpha(self, t: Tensor) -> Tensor:
        """Share of the data at time t."""
        return torch.cos(t * (math.pi / 2))

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""
        return torch.sin(t * (math.pi / 2))

    def alpha_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of alpha."""
        return -(math.pi / 2) * self.sigma((s + t) / 2) * torch.sinc((t - s) / 4)

    def sigma_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of sigma."""
        return (math.pi / 2) * self.alpha((s + t) / 2) * torch.sinc((t - s) / 4)

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Time of the noise level sigma/alpha."""
        return torch.atan2(sigma, alpha) * (2 / math.pi)


@dataclass(frozen=True)
class VariancePreserving(Path):
    """Variance-preserving path of continuous diffusion (Song et al. 2021, arXiv 2011.13456).

    Args:
        beta_min: Rate of the noising SDE at t = 0.
        beta_max: Rate of the noising SDE at t = 1.

    The formula is alpha = exp(-B(t)/2), sigma^2 = 1 - alpha^2, B(t) = beta_min t + (beta_max - beta_min) t^2 / 2.
    alpha(1) is small but not zero: pure noise is an approximation at t = 1, as in the paper.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def _exponent(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference (B(t) - B(s)) / (t - s)."""
        return self.beta_min + (self.beta_max - self.beta_min) * (s + t) / 2

    def alpha(self, t: Tensor) -> Tensor:
        """Share of the data at time t."""
        return torch.exp(-0.5 * t * self._exponent(torch.zeros_like(t), t))

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""
        return (-torch.expm1(-t * self._exponent(torch.zeros_like(t), t))).sqrt()

    def alpha_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of alpha."""
        rate = -0.5 * self._exponent(s, t)
        return self.alpha(s) * rate * _expm1_over((t - s) * rate)

    def sigma_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of sigma; infinite at s = t = 0, where sigma grows like sqrt(t)."""
        return self.variance_slope(s, t) / (self.sigma(s) + self.sigma(t))

    def variance_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of sigma^2, which is -(alpha^2)[s, t]."""
        rate = -self._exponent(s, t)
        return -(self.alpha(s) ** 2) * rate * _expm1_over((t - s) * rate)

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Root of B(t) = log(1 + sigma^2/alpha^2), in the form without cancellation."""
        exponent = torch.log1p(sigma**2 / (alpha**2).clamp(min=torch.finfo(alpha.dtype).tiny))
        steepest = (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * exponent).sqrt()
        return 2 * exponent / (self.beta_min + steepest)


@dataclass(frozen=True)
class VarianceExploding(Path):
    """Path of EDM, alpha = 1, sigma = sigma_max t (Karras et al. 2022, arXiv 2206.00364).

    Args:
        sigma_max: Noise level at t = 1, in units of the data.

    The state at t = 1 is data plus noise of scale sigma_max: start sampling from `sigma_max * torch.randn(...)`.
    """

    sigma_max: float = 80.0

    def alpha(self, t: Tensor) -> Tensor:
        """Share of the data at time t."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""
        return self.sigma_max * t

    def alpha_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of alpha."""
        return torch.zeros_like(t)

    def sigma_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of sigma."""
        return self.sigma_max * torch.ones_like(t)

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Time of the noise level sigma/alpha."""
        return sigma / (self.sigma_max * alpha).clamp(min=torch.finfo(alpha.dtype).tiny)


@dataclass(frozen=True, repr=False)
class Discrete(Path):
    """Discrete schedule of DDPM, with steps k = 0, ..., N-1, as a path (Ho et al. 2020, arXiv 2006.11239).

    Args:
        alphas_cumprod: alpha^2 at the N steps, at least three decreasing numbers in [0, 1).

    Raises:
        ValueError: There are fewer than three numbers, one is outside [0, 1), or they do not decrease.

    Step k is the time (k+1)/N, where alpha^2 = alphas_cumprod[k] and sigma^2 = 1 - alpha^2; time 0 is data. Between the
    steps log(sigma/alpha) is linear. It would be infinite in the first interval, and in the last one if no data is left
    at its end (zero terminal SNR, arXiv 2305.08891): there the angle atan2(sigma, alpha) is linear.
    """

    alphas_cumprod: tuple[float, ...]
    _clocks: dict[Any, tuple[Tensor, Tensor]] = field(init=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        kept = tuple(float(share) for share in self.alphas_cumprod)
        if len(kept) < 3 or not (1 > kept[0] and kept[-1] >= 0 and all(a > b for a, b in pairwise(kept))):
            raise ValueError("alphas_cumprod must be three numbers or more in [0, 1) that fall from each to the next")
        object.__setattr__(self, "alphas_cumprod", kept)

    def __deepcopy__(self, memo: dict[int, Any]) -> Discrete:
        return self  # immutable, so that all share its cached clocks

    def __repr__(self) -> str:
        return f"Discrete({len(self.alphas_cumprod)} steps, {self.alphas_cumprod[0]:g} to {self.alphas_cumprod[-1]:g})"

    def alpha(self, t: Tensor) -> Tensor:
        """Share of the data at time t."""
        inner, first, level, rate = self._at(t)
        outer = torch.where(first, torch.cos(t * rate), torch.sin((1 - t) * rate))
        return torch.where(inner, torch.sigmoid(-2 * level).sqrt(), outer)

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""
        inner, first, level, rate = self._at(t)
        outer = torch.where(first, torch.sin(t * rate), torch.cos((1 - t) * rate))
        return torch.where(inner, torch.sigmoid(2 * level).sqrt(), outer)

    def alpha_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of alpha."""
        return -(self.sigma(s) + self.sigma(t)) * self._half_turn(s, t)

    def sigma_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided difference of sigma."""
        return (self.alpha(s) + self.alpha(t)) * self._half_turn(s, t)

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Invert the path; 1 for more noise than at the last step."""
        (knots, rates), steps = self._clock(alpha), len(self.alphas_cumprod)
        noisiest = steps - 1 if self.alphas_cumprod[-1] == 0 else steps  # of the steps that have a level
        angle = torch.atan2(sigma, alpha)
        first, last = angle < knots[1, 1], angle > torch.atan(knots[0, noisiest].exp())
        outside = first | last
        level = torch.where(outside, 1.0, sigma).log() - torch.where(outside, 1.0, alpha).log()
        step = torch.searchsorted(knots[0, 1:noisiest], level.detach().contiguous(), right=True).clamp(min=1)
        inner = step.to(level.dtype) / steps + (level - knots[0, step]) / rates[0, step]
        end = torch.ones_like(angle) if noisiest == steps else 1 + (angle - math.pi / 2) / rates[1, -1]
        return torch.where(first, angle / rates[1, 0], torch.where(last, end, inner))

    def _at(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """At t: whether the level changes, whether t lies before the first step, the level, the rate of the angle."""
        knots, rates = self._clock(t)
        cell = self._cell(t)
        level = knots[0, cell] + rates[0, cell] * (t - cell.to(t.dtype) / len(self.alphas_cumprod))
        return rates[0, cell] > 0, cell == 0, level, rates[1, cell]

    def _half_turn(self, s: Tensor, t: Tensor) -> Tensor:
        """Divided tangent tan(h)/(t - s), h half the angle between the states at s and t; exact at any gap."""
        # the angle is atan(exp(level)), plus its increase over the outer cells
        (a, b), (level, outer) = (self._at(s)[2], self._at(t)[2]), self._slopes(s, t)
        gap, middle = (b - a) / 2, (a + b) / 2
        z = torch.sinh(gap) / torch.cosh(middle)  # tan(atan(e^b) - atan(e^a))
        inner = _over(torch.atan, z, -1 / 3, 1 / 5) * _over(torch.sinh, gap, 1 / 6, 1 / 120) / (2 * torch.cosh(middle))
        turn = inner * level + outer
        return turn / 2 * _over(torch.tan, (t - s) * turn / 2, 1 / 3, 2 / 15)

    def _slopes(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Divided differences of the two clocks."""
        # within a cell the rate; across knots the sum of the increases before, between and after them: no cancellation
        (knots, rates), steps = self._clock(t), len(self.alphas_cumprod)
        low, high = torch.minimum(s, t), torch.maximum(s, t)
        i, j = self._cell(low), self._cell(high)
        before, after = (i + 1).to(t.dtype) / steps - low, high - j.to(t.dtype) / steps
        across = rates[:, i] * before + (knots[:, j] - knots[:, i + 1]) + rates[:, j] * after
        level, angle = torch.where(i == j, rates[:, i], across / torch.where(i == j, 1.0, high - low))
        return level, angle

    def _cell(self, t: Tensor) -> Tensor:
        steps = len(self.alphas_cumprod)
        return (t.detach() * steps).long().clamp(0, steps - 1)

    def _clock(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Two piecewise linear functions of time: values at the knots k/N, (2, N + 1), and rates between, (2, N)."""
        # the level log(sigma/alpha), constant in the outer cells, and the angle, which changes in these alone
        key = like.device, like.dtype
        if key in self._clocks:
            return self._clocks[key]
        share = torch.tensor([share for share in self.alphas_cumprod if share > 0], dtype=torch.float64)
        level, steps = (torch.log1p(-share) - share.log()) / 2, len(self.alphas_cumprod)
        angle = torch.atan(level.exp())
        knots = torch.empty(2, steps + 1, dtype=torch.float64)
        knots[0] = torch.cat([level[:1], level, level[-1:]])[: steps + 1]
        knots[1, 0], knots[1, 1:], knots[1, steps] = 0, angle[0], angle[0] + (math.pi / 2 - angle[-1])
        if len(share) == steps:
            knots[1, steps] = angle[0]
        clock = knots.to(*key), (knots.diff(dim=1) * steps).to(*key)
        if type(clock[0]) is Tensor and not torch.compiler.is_compiling():  # not under a fake mode or a compiler
            self._clocks[key] = clock
        return clock


def _expm1_over(z: Tensor) -> Tensor:
    """Evaluate (exp(z) - 1) / z, and 1 at z = 0; smooth, also for its derivatives."""
    small = z.abs() < 1e-3
    safe = torch.where(small, torch.ones_like(z), z)
    return torch.where(small, 1 + z / 2 * (1 + z / 3 * (1 + z / 4)), torch.expm1(safe) / safe)


def _over(function: Callable[[Tensor], Tensor], z: Tensor, second: float, fourth: float) -> Tensor:
    """Evaluate function(z) / z of an odd function, near 0 by 1 + second z^2 + fourth z^4; smooth, as _expm1_over."""
    small = z.abs() < 1e-3
    safe = torch.where(small, 1.0, z)
    return torch.where(small, 1 + z**2 * (second + z**2 * fourth), function(safe) / safe)


linear = Linear()
trigonometric = Trigonometric()
