"""Pretrained models as teachers: what a network predicts on its own schedule, read as a velocity on our path.

Two paths from data to noise differ in their clock and in their scale. Where the ratio of noise to data is the same,
their states are multiples of each other: with u the time of our noise level on the schedule (a, b),

    b(u)/a(u) = sigma(t)/alpha(t),        x' = c x,        c = a(u)/alpha(t) = b(u)/sigma(t),

a network that was trained on a(u) x_0 + b(u) eps sees at (x', u) what it knows. Its answer and x' are two linear forms
of x_0 and eps, and they fix a third, the velocity alpha'(t) x_0 + sigma'(t) eps on our path.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .path import Form, Path, Time, data, determinant, expand, linear, velocity
from .serialise import describable

Predicts = Callable[[Path, Tensor], Form]

CLEANEST = 1e-3
"""The ratio sigma/alpha from which on an answer is read that does not fix the noise at the data."""


@dataclass(frozen=True)
class Affine:
    """The network's own clock, scale u + shift: DDPM's steps k = 0, ..., N-1 on `path.Discrete` are Affine(N, -1)."""

    scale: float = 1.0
    shift: float = 0.0

    def __call__(self, u: Tensor) -> Tensor:
        return self.scale * u + self.shift


class _Place(NamedTuple):
    """Where a question about (x, t) lies on the network's schedule."""

    u: Tensor
    state: Form  # of the schedule at u
    scale: Tensor  # c of x' = c x
    slope: Form  # the velocity of our path at t
    more_data: Tensor  # m and n: our x_0 is x_0 + m eps and our eps is eps + n x_0 of what the network sees;
    more_noise: Tensor  # m > 0 past its clean end only, n > 0 past its noisy end


@dataclass(frozen=True)
class Reading:
    """How a network that was trained on `schedule` is asked and read on `path`.

    predicts: what it predicts, a linear form of x_0 and eps on its schedule: path.velocity, path.noise, path.data,
    path.v_prediction, path.score, or a function (path, u) -> (a, b) of one's own. time: from u in [0, 1] to the
    network's clock. known: the times u that it knows.

    Inside `known` the reading is exact. Past the noisy end the network is asked at that end, with noise of its size,
    and its data are kept; past the clean end its noise is kept. So there is no pole at either end of our path. Where
    the answer does not fix the noise at the data, as a prediction of the data does not, the clean end is at
    sigma/alpha = CLEANEST.

    It is also an output of `FlowMap`: reading(value, x, s, t, path) is the velocity at s. Raises TypeError where
    `predicts` gives no form; ValueError where it does not fix the data (a multiple of the state; a prediction of the
    noise on a schedule that ends in nothing but noise) and for `known` that is no interval of [0, 1].
    """

    predicts: Predicts = velocity
    schedule: Path = linear
    path: Path = linear
    known: tuple[float, float] = (0.0, 1.0)
    time: Callable[[Tensor], Tensor] = Affine()
    _ends: tuple[tuple[float, float, float], ...] = field(
        init=False, repr=False, compare=False
    )  # (u, a, b), |a, b| = 1
    _start: float = field(init=False, repr=False, compare=False)  # of our path
    _same: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", tuple(float(u) for u in self.known))
        low, high = _checked(self)
        object.__setattr__(self, "_ends", tuple(_end(self.schedule, u) for u in (low, high)))
        zero = torch.zeros((), dtype=torch.float64)
        object.__setattr__(self, "_start", 0.0 if bool(self.path.sigma_slope(zero, zero).isfinite()) else 1e-6)
        object.__setattr__(self, "_same", self.schedule == self.path and (low, high) == (0, 1) and not self._start)

    def asked(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """What to ask the network about x (B, ...) at t: x' of x's shape and dtype, and the time (B,) on its clock."""
        place = self._place(expand(t, x))
        return (place.scale * x).to(x.dtype), self.time(place.u).reshape(x.shape[0])

    def velocity(self, value: Tensor, x: Tensor, t: Time) -> Tensor:
        """v(x, t) on our path from the network's answer to `asked(x, t)`."""
        if self._same and self.predicts is velocity:
            return value.to(x.dtype)
        place = self._place(expand(t, x))
        return self._read(value, x, place, place.slope)

    def denoise(self, value: Tensor, x: Tensor, t: Time) -> Tensor:
        """E[x_0 | x_t = x] from the network's answer to `asked(x, t)`."""
        place = self._place(expand(t, x))
        return self._read(value, x, place, data(self.path, place.u))

    def __call__(self, value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        if path != self.path:
            raise ValueError(f"this network is read on the path {self.path}, but its flow map is on {path}")
        return self.velocity(value, x, s)

    def _read(self, value: Tensor, x: Tensor, place: _Place, wanted: Form) -> Tensor:
        """The wanted form of our x_0 and eps, as one of those that the network sees, from its answer and x'."""
        known = self.predicts(self.schedule, place.u)
        target = wanted[0] + place.more_noise * wanted[1], wanted[1] + place.more_data * wanted[0]
        on_x, on_value = determinant(known, target) * place.scale, determinant(target, place.state)
        return ((on_x * x + on_value * value) / determinant(known, place.state)).to(x.dtype)

    def _place(self, t: Tensor) -> _Place:
        t = t.clamp(min=self._start) if self._start else t
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        slope, zero = (self.path.alpha_slope(t, t), self.path.sigma_slope(t, t)), torch.zeros_like(alpha)
        if self._same:
            return _Place(t, (alpha, sigma), torch.ones_like(alpha), slope, zero, zero)
        (low, a_low, b_low), (high, a_high, b_high) = self._ends
        # ratios are compared as products, for either part of the state may be zero; what rounding puts past an end
        # keeps its derivative
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
        return _Place(u, (a, b), scale, slope, more_data, more_noise)


@describable
class Pretrained(nn.Module):
    """A teacher: a network called as network(x', time, **condition), with the `Reading` that makes a velocity of it.

    The network is frozen, in place, and stays in evaluation mode. It takes every place that a teacher has: the
    teacher= of a method, velocity.fixed, `sample` with steps.euler.
    """

    def __init__(self, network: nn.Module, reading: Reading) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.reading = reading
        self.condition: dict[str, Any] = {}
        self.eval()

    @property
    def path(self) -> Path:
        """The path of the velocity."""
        return self.reading.path

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """v(x, t) on our path, of x's shape; t a number, 0-d, (B,) or (B, 1, ..., 1). Raises ValueError where the
        network's answer has not x's shape.
        """
        return self.reading.velocity(self._answer(x, t), x, t)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """f(x, t) = E[x_0 | x_t = x]."""
        return self.reading.denoise(self._answer(x, t), x, t)

    def given(self, **condition: Any) -> Pretrained:
        """The same network with a condition bound, passed to it by name."""
        bound = Pretrained(self.network, self.reading)
        bound.condition = {**self.condition, **condition}
        return bound

    def train(self, mode: bool = True) -> Pretrained:
        """A teacher stays in evaluation mode."""
        return super().train(False)

    def _answer(self, x: Tensor, t: Time) -> Tensor:
        state, time = self.reading.asked(x, t)
        value = self.network(state, time, **self.condition)
        if getattr(value, "shape", None) != x.shape:
            got = tuple(value.shape) if hasattr(value, "shape") else f"a {type(value).__name__}"
            raise ValueError(
                f"a pretrained network must return a tensor of the shape of x, {tuple(x.shape)}, but it returned "
                f"{got}: return the prediction alone, without a learned variance or a wrapper"
            )
        return value


class _Called(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, time: Tensor, **condition: Any) -> Tensor:
        return self.function(x, time, **condition)


def teacher(
    predict: Callable[..., Tensor],
    predicts: Predicts = velocity,
    schedule: Path = linear,
    *,
    path: Path = linear,
    known: tuple[float, float] = (0.0, 1.0),
    time: Callable[[Tensor], Tensor] = Affine(),  # noqa: B008
) -> Pretrained:
    """Any model as a teacher on our path: predict(x, time, **condition) -> tensor of x's shape, a module or a function.

    predicts, schedule, known and time say what it was trained to do: see `Reading`. A module is frozen in place.
    Examples: DDPM's noise prediction, `teacher(net, path.noise, path.Discrete(alphas_cumprod), known=(1/1000, 1),
    time=Affine(1000, -1))`; a flow model with t = 1 at the data, `teacher(lambda x, t: -net(x, 1 - t))`; a denoiser of
    EDM, `teacher(lambda x, sigma: net(x, sigma), path.data, path.VarianceExploding(80), known=(0.002/80, 1),
    time=Affine(80))`.
    """
    network = predict if isinstance(predict, nn.Module) else _Called(predict)
    return Pretrained(network, Reading(predicts, schedule, path, known, time))


def _checked(reading: Reading) -> tuple[float, float]:
    """The times between which the answers of the network fix data and noise."""
    low, high = reading.known if len(reading.known) == 2 else (1.0, 0.0)
    if not 0 <= low < high <= 1:
        raise ValueError(f"known must be two times 0 <= low < high <= 1, got {reading.known}")
    if not _fixes(reading, (low + high) / 2):
        raise ValueError(
            "this prediction is a multiple of the state, or not finite: it does not fix the data. Give "
            "predicts=path.velocity, path.noise, path.data, path.v_prediction or path.score"
        )
    if not _fixes(reading, high):
        raise ValueError(
            f"this prediction does not fix the data at the noisy end u = {high:g} of its schedule, where the state is "
            "nothing but noise (zero terminal SNR): give the times that the network knows, such as known=(0., 0.999)"
        )
    start = torch.tensor(low, dtype=torch.float64)
    if not (_fixes(reading, low) and bool(reading.schedule.sigma_slope(start, start).isfinite())):
        one = torch.ones((), dtype=torch.float64)
        low = max(low, float(reading.schedule.time_of(one, CLEANEST * one)))
    return low, high


def _fixes(reading: Reading, u: float) -> bool:
    """Whether a prediction and the state at u determine x_0 and eps. Raises TypeError for what is no linear form."""
    time = torch.tensor([u], dtype=torch.float64)
    form = reading.predicts(reading.schedule, time)
    if not (isinstance(form, tuple) and len(form) == 2 and all(isinstance(part, Tensor) for part in form)):
        raise TypeError(
            "predicts must be a function (path, u) -> (a, b) that gives two tensors of u's shape, for a prediction "
            f"a x_0 + b eps, such as path.noise; this one gave a {type(form).__name__}"
        )
    state = reading.schedule.alpha(time), reading.schedule.sigma(time)
    size = torch.hypot(*form) * torch.hypot(*state)
    return bool((determinant(form, state).abs() > 1e-6 * size) & size.isfinite())


def _end(schedule: Path, u: float) -> tuple[float, float, float]:
    """u and the direction (a, b) of the state there."""
    time = torch.tensor(u, dtype=torch.float64)
    a, b = float(schedule.alpha(time)), float(schedule.sigma(time))
    return u, a / math.hypot(a, b), b / math.hypot(a, b)
