"""Conversion of a network's predictions on its own schedule to velocities on another path.

Two paths from data to noise differ in their clock and in their scale. At equal noise-to-data ratios their states are
multiples of each other. Let u be the time on the schedule (a, b) with the same noise-to-data ratio as t:

    b(u)/a(u) = sigma(t)/alpha(t),        x' = c x,        c = a(u)/alpha(t) = b(u)/sigma(t).

A network trained on a(u) x_0 + b(u) eps is evaluated at (x', u). Its prediction and x' are two linear forms of x_0 and
eps. They determine x_0 and eps, and so the velocity alpha'(t) x_0 + sigma'(t) eps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ..arguments import finite, numbered, shown
from ..path import Form, Path, Time, data, determinant, linear, velocity
from ..path.time_shapes import at_frames, frame_axis

Predicts = Callable[[Path, Tensor], Form]
"""Kind of prediction: function (path, u) -> (p, q), for the prediction p x_0 + q eps."""

CLEANEST = 1e-3
"""Smallest ratio sigma/alpha for predictions that do not determine the noise at the data."""


@dataclass(frozen=True)
class Affine:
    """Affine clock of a network, scale u + shift.

    Args:
        scale: Time of the network per unit of u.
        shift: Time of the network at u = 0.

    DDPM's steps k = 0, ..., N-1 on `path.Discrete` are Affine(N, -1).
    """

    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        finite(scale=self.scale, shift=self.shift)
        if not self.scale:
            raise ValueError("the scale of a clock must not be 0")

    def __call__(self, u: Tensor) -> Tensor:
        """Time of the network at the time u of its schedule."""
        return self.scale * u + self.shift


class _Point(NamedTuple):
    """Point on the network's schedule for a state x at time t.

    In terms of the network's x_0 and eps, the path's data are x_0 + m eps and its noise is eps + n x_0; m and n are
    zero between the ends of the schedule.
    """

    u: Tensor  # time on the schedule
    state: Form  # (a, b) of the schedule at u
    scale: Tensor  # c in x' = c x
    slope: Form  # (alpha', sigma') of the path at t
    more_data: Tensor  # m, positive past the clean end, 0 elsewhere
    more_noise: Tensor  # n, positive past the noisy end, 0 elsewhere


@dataclass(frozen=True)
class Reading:
    """Conversion of a network's predictions on its schedule to velocities on a path.

    Args:
        predicts: Kind of prediction, a linear form of x_0 and eps on the schedule: path.velocity, path.noise,
            path.data, path.v_prediction, path.score, or a function (path, u) -> (a, b).
        schedule: Path that the network was trained on, with time u.
        path: Path of the velocity, with time t.
        known: Interval of the times u that the network was trained on.
        time: Function from u in [0, 1] to the network's clock.

    Raises:
        TypeError: A path, a clock or `predicts` is of another kind, or `predicts` returns no linear form.
        ValueError: `known` is no interval of [0, 1], or the prediction does not determine the data (a multiple of the
            state; a prediction of the noise on a schedule that ends in pure noise).

    Inside `known` the conversion is exact. Past the noisy end, the network is evaluated at that end with noise of the
    right size, and its prediction of the data is kept. Past the clean end, its prediction of the noise is kept. So the
    velocity has no pole at either end of the path. If the prediction does not determine the noise at the data (a
    prediction of the data, for example), the clean end is at sigma/alpha = CLEANEST.

    All formulas treat numbers of x apart, so times may differ from frame to frame (`elementwise`). A reading is also an
    output of `FlowMap`: reading(value, x, s, t, path) is the velocity at s.
    """

    elementwise: ClassVar[bool] = True
    predicts: Predicts = velocity
    schedule: Path = linear
    path: Path = linear
    known: tuple[float, float] = (0.0, 1.0)
    time: Callable[[Tensor], Tensor] = Affine()
    _ends: tuple[tuple[float, float, float], ...] = field(
        init=False, repr=False, compare=False
    )  # (u, a, b) at both ends of the known times, with a^2 + b^2 = 1
    _start: float = field(init=False, repr=False, compare=False)  # earliest t at which sigma'(t) is finite
    _same: bool = field(init=False, repr=False, compare=False)  # whether schedule and path are equal at all times

    def __post_init__(self) -> None:
        for name, schedule in (("schedule", self.schedule), ("path", self.path)):
            if not isinstance(schedule, Path):
                raise TypeError(f"{name} must be a path of flowmaps.path, such as path.linear, got {shown(schedule)}")
        for name, function in (("predicts", self.predicts), ("time", self.time)):
            if not callable(function) or isinstance(function, type):
                raise TypeError(f"{name} must be a function, got {shown(function)}")
        finite(**numbered(known=self.known))
        object.__setattr__(self, "known", tuple(float(u) for u in self.known))
        low, high = _checked(self)
        object.__setattr__(self, "_ends", tuple(_end(self.schedule, u) for u in (low, high)))
        zero = torch.zeros((), dtype=torch.float64)
        object.__setattr__(self, "_start", 0.0 if bool(self.path.sigma_slope(zero, zero).isfinite()) else 1e-6)
        object.__setattr__(self, "_same", self.schedule == self.path and (low, high) == (0, 1) and not self._start)

    def asked(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """Network inputs for a state.

        Args:
            x: State, (B, ...).
            t: Its time on the path, in any shape that `path.expand_frames` takes.

        Returns:
            The rescaled state x', of x's shape and dtype, and the time on the network's clock, (B,), or (B, F) for
            times per frame.
        """
        t = at_frames(t, x)
        point, axis = self._point(t), frame_axis(t, x)
        rows = (x.shape[0],) if axis is None else (x.shape[0], x.shape[axis])
        return (point.scale * x).to(x.dtype), self.time(point.u).reshape(rows)

    def velocity(self, value: Tensor, x: Tensor, t: Time) -> Tensor:
        """Velocity v(x, t) on the path.

        Args:
            value: The network's prediction at `asked(x, t)`.
            x: State, (B, ...).
            t: Its time on the path.

        Returns:
            The velocity, of x's shape and dtype.
        """
        if self._same and self.predicts is velocity:
            return value.to(x.dtype)
        point = self._point(at_frames(t, x))
        return self._read(value, x, point, point.slope)

    def denoise(self, value: Tensor, x: Tensor, t: Time) -> Tensor:
        """Denoised state E[x_0 | x_t = x].

        Args:
            value: The network's prediction at `asked(x, t)`.
            x: State, (B, ...).
            t: Its time on the path.

        Returns:
            The denoised state, of x's shape and dtype.
        """
        point = self._point(at_frames(t, x))
        return self._read(value, x, point, data(self.path, point.u))

    def __call__(self, value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        """Velocity at s, as an output of `FlowMap`. Raises ValueError if the flow map is on another path."""
        if path != self.path:
            raise ValueError(
                f"this network's predictions are converted to the path {self.path}, but its flow map is on {path}: "
                "give both the same path"
            )
        return self.velocity(value, x, s)

    def _read(self, value: Tensor, x: Tensor, point: _Point, wanted: Form) -> Tensor:
        """Solve for the wanted linear form of x_0 and eps, from the prediction and x'."""
        known = self.predicts(self.schedule, point.u)
        target = wanted[0] + point.more_noise * wanted[1], wanted[1] + point.more_data * wanted[0]
        on_x, on_value = determinant(known, target) * point.scale, determinant(target, point.state)
        return ((on_x * x + on_value * value) / determinant(known, point.state)).to(x.dtype)

    def _point(self, t: Tensor) -> _Point:
        """Point on the schedule with the noise-to-data ratio of time t."""
        t = t.clamp(min=self._start) if self._start else t
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        slope, zero = (self.path.alpha_slope(t, t), self.path.sigma_slope(t, t)), torch.zeros_like(alpha)
        if self._same:
            return _Point(t, (alpha, sigma), torch.ones_like(alpha), slope, zero, zero)
        (low, a_low, b_low), (high, a_high, b_high) = self._ends
        # Ratios are compared as products, because alpha or sigma may be zero. The tolerance keeps the derivative of
        # times that only rounding puts past an end.
        rounding = 4 * torch.finfo(alpha.dtype).eps * (alpha + sigma)
        clean, noisy = alpha * b_low > sigma * a_low + rounding, sigma * a_high > alpha * b_high + rounding
        u = self.schedule.time_of(
            torch.where(noisy, a_high, torch.where(clean, a_low, alpha)),
            torch.where(noisy, b_high, torch.where(clean, b_low, sigma)),
        )
        u = u + (u.clamp(low, high) - u).detach()
        a, b = self.schedule.alpha(u), self.schedule.sigma(u)
        by_data, by_noise = torch.where(noisy, 0.0, torch.ones_like(a)), torch.where(clean, 0.0, torch.ones_like(b))
        scale = (by_data * a + by_noise * b) / (by_data * alpha + by_noise * sigma)
        more_data = torch.where(clean, b_low / a_low - sigma / torch.where(clean, alpha, 1.0), zero)
        more_noise = torch.where(noisy, a_high / b_high - alpha / torch.where(noisy, sigma, 1.0), zero)
        return _Point(u, (a, b), scale, slope, more_data, more_noise)


def _checked(reading: Reading) -> tuple[float, float]:
    """Times between which the prediction determines data and noise. Raises ValueError if `known` is too wide."""
    low, high = reading.known if len(reading.known) == 2 else (1.0, 0.0)
    if not 0 <= low < high <= 1:
        raise ValueError(f"known must be two times 0 <= low < high <= 1, got {reading.known}")
    if not _is_solvable(reading, (low + high) / 2):
        raise ValueError(
            "this prediction is a multiple of the state, or not finite: it does not determine the data. Give "
            "predicts=path.velocity, path.noise, path.data, path.v_prediction or path.score"
        )
    if not _is_solvable(reading, high):
        raise ValueError(
            f"this prediction does not determine the data at the noisy end u = {high:g} of its schedule, where the "
            "state is pure noise (zero terminal SNR): end the known times before it, such as known=(0., 0.999)"
        )
    start = torch.tensor(low, dtype=torch.float64)
    if not (_is_solvable(reading, low) and bool(reading.schedule.sigma_slope(start, start).isfinite())):
        one = torch.ones((), dtype=torch.float64)
        low = max(low, float(reading.schedule.time_of(one, CLEANEST * one)))
    return low, high


def _is_solvable(reading: Reading, u: float) -> bool:
    """Whether a prediction and the state at u determine x_0 and eps. Raises TypeError for no linear form."""
    time = torch.tensor([u], dtype=torch.float64)
    form = reading.predicts(reading.schedule, time)
    if not (isinstance(form, tuple) and len(form) == 2 and all(isinstance(part, Tensor) for part in form)):
        raise TypeError(
            "predicts must be a function (path, u) -> (a, b) that returns two tensors of u's shape, for a prediction "
            f"a x_0 + b eps, such as path.noise; this one returned a {type(form).__name__}"
        )
    state = reading.schedule.alpha(time), reading.schedule.sigma(time)
    size = torch.hypot(*form) * torch.hypot(*state)
    return bool((determinant(form, state).abs() > 1e-6 * size) & size.isfinite())


def _end(schedule: Path, u: float) -> tuple[float, float, float]:
    """Time u and the normalised coefficients (a, b) of the state there."""
    time = torch.tensor(u, dtype=torch.float64)
    a, b = float(schedule.alpha(time)), float(schedule.sigma(time))
    return u, a / math.hypot(a, b), b / math.hypot(a, b)
