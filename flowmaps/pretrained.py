"""Pretrained models as teachers: a prediction on the network's own schedule, converted to a velocity on our path.

Two paths from data to noise differ in their clock and in their scale. At equal noise-to-data ratio their states are
multiples of each other. Let u be the time of our noise level on the schedule (a, b):

    b(u)/a(u) = sigma(t)/alpha(t),        x' = c x,        c = a(u)/alpha(t) = b(u)/sigma(t).

A network trained on a(u) x_0 + b(u) eps is evaluated at (x', u). Its prediction and x' are two linear forms of x_0 and
eps, and they fix a third, the velocity alpha'(t) x_0 + sigma'(t) eps on our path.
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
"""Least noise level sigma/alpha for predictions that do not determine the noise at the data."""


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

    def __call__(self, u: Tensor) -> Tensor:
        """Time of the network at the time u of its schedule."""
        return self.scale * u + self.shift


class _Place(NamedTuple):
    """Position of a query (x, t) on the network's schedule."""

    u: Tensor
    state: Form  # of the schedule at u
    scale: Tensor  # c of x' = c x
    slope: Form  # the velocity of our path at t
    # m and n: our x_0 is x_0 + m eps and our eps is eps + n x_0, in terms of the network's x_0 and eps
    more_data: Tensor  # m > 0 past the clean end only
    more_noise: Tensor  # n > 0 past the noisy end only


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
        TypeError: `predicts` gives no linear form.
        ValueError: `known` is no interval of [0, 1], or the prediction does not determine the data (a multiple of the
            state; a prediction of the noise on a schedule that ends in pure noise).

    Inside `known` the conversion is exact. Past the noisy end the network is evaluated at that end, with noise of that
    size, and its prediction of the data is kept; past the clean end its prediction of the noise is kept. So neither end
    of our path has a pole. If the prediction does not determine the noise at the data, as a prediction of the data,
    the clean end is at sigma/alpha = CLEANEST.

    A reading is also an output of `FlowMap`: reading(value, x, s, t, path) is the velocity at s.
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
        """Inputs of the network for a state.

        Args:
            x: State, (B, ...).
            t: Its time on our path, in any shape that `path.expand` takes.

        Returns:
            The rescaled state x', of x's shape and dtype, and the time on the network's clock, (B,).
        """
        place = self._place(expand(t, x))
        return (place.scale * x).to(x.dtype), self.time(place.u).reshape(x.shape[0])

    def velocity(self, value: Tensor, x: Tensor, t: Time) -> Tensor:
        """Velocity v(x, t) on our path.

        Args:
            value: The network's prediction at `asked(x, t)`.
            x: State, (B, ...).
            t: Its time on our path.

        Returns:
            The velocity, of x's shape and dtype.
        """
        if self._same and self.predicts is velocity:
            return value.to(x.dtype)
        place = self._place(expand(t, x))
        return self._read(value, x, place, place.slope)

    def denoise(self, value: Tensor, x: Tensor, t: Time) -> Tensor:
        """Denoised state E[x_0 | x_t = x].

        Args:
            value: The network's prediction at `asked(x, t)`.
            x: State, (B, ...).
            t: Its time on our path.

        Returns:
            The denoised state, of x's shape and dtype.
        """
        place = self._place(expand(t, x))
        return self._read(value, x, place, data(self.path, place.u))

    def __call__(self, value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        """Velocity at s, as an output of `FlowMap`. Raises ValueError on another path than the reading's."""
        if path != self.path:
            raise ValueError(f"this network is read on the path {self.path}, but its flow map is on {path}")
        return self.velocity(value, x, s)

    def _read(self, value: Tensor, x: Tensor, place: _Place, wanted: Form) -> Tensor:
        """Solve for the wanted form of our x_0 and eps, from the prediction and x'."""
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
        # ratios are compared as products, for either part of the state may be zero; a time that only rounding puts past
        # an end keeps its derivative
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
    """Pretrained network as a teacher, with the `Reading` that converts its predictions to velocities.

    Args:
        network: Called as network(x', time, **condition). It is frozen in place and stays in evaluation mode.
        reading: The conversion.

    It serves wherever a teacher does: as teacher= of a method, in velocity.fixed, in `sample` with steps.euler.
    """

    def __init__(self, network: nn.Module, reading: Reading) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.reading = reading
        self.condition: dict[str, Any] = {}
        self.eval()

    @property
    def path(self) -> Path:
        """Path of the velocity."""
        return self.reading.path

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Velocity v(x, t) on our path.

        Args:
            x: State, (B, ...).
            t: Time: a number, 0-d, (B,) or (B, 1, ..., 1).

        Returns:
            The velocity, of x's shape.

        Raises:
            ValueError: The network's prediction does not have x's shape.
        """
        return self.reading.velocity(self._answer(x, t), x, t)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """Denoised state f(x, t) = E[x_0 | x_t = x], of x's shape; arguments and errors as for `velocity`."""
        return self.reading.denoise(self._answer(x, t), x, t)

    def given(self, **condition: Any) -> Pretrained:
        """Bind a condition, which is passed to the network by name. Returns another teacher with the same network."""
        bound = Pretrained(self.network, self.reading)
        bound.condition = {**self.condition, **condition}
        return bound

    def train(self, mode: bool = True) -> Pretrained:
        """Stay in evaluation mode; `mode` is ignored."""
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
    """Module around a function."""

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
    """Make a teacher on our path of any pretrained model.

    Args:
        predict: A module or a function, called as predict(x, time, **condition) -> tensor of x's shape. A module is
            frozen in place.
        predicts: Kind of prediction: path.velocity, path.noise, path.data, path.v_prediction, path.score, or a function
            (path, u) -> (a, b).
        schedule: Path that the model was trained on, with time u.
        path: Path of the teacher's velocity.
        known: Interval of the times u that the model was trained on.
        time: Function from u in [0, 1] to the model's clock.

    Returns:
        The teacher.

    Raises:
        TypeError: `predicts` gives no linear form.
        ValueError: `known` is no interval of [0, 1], or the prediction does not determine the data; see `Reading`.

    Examples:
        DDPM's noise prediction: `teacher(net, path.noise, path.Discrete(alphas_cumprod), known=(1/1000, 1),
        time=Affine(1000, -1))`.

        A flow model with t = 1 at the data: `teacher(lambda x, t: -net(x, 1 - t))`.

        A denoiser of EDM: `teacher(lambda x, sigma: net(x, sigma), path.data, path.VarianceExploding(80),
        known=(0.002/80, 1), time=Affine(80))`.
    """
    network = predict if isinstance(predict, nn.Module) else _Called(predict)
    return Pretrained(network, Reading(predicts, schedule, path, known, time))


def _checked(reading: Reading) -> tuple[float, float]:
    """Interval of times in which the predictions determine data and noise."""
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
            "pure noise (zero terminal SNR): give the times that the network knows, such as known=(0., 0.999)"
        )
    start = torch.tensor(low, dtype=torch.float64)
    if not (_fixes(reading, low) and bool(reading.schedule.sigma_slope(start, start).isfinite())):
        one = torch.ones((), dtype=torch.float64)
        low = max(low, float(reading.schedule.time_of(one, CLEANEST * one)))
    return low, high


def _fixes(reading: Reading, u: float) -> bool:
    """Whether a prediction and the state at u determine x_0 and eps. Raises TypeError for no linear form."""
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
    """Time u and the direction (a, b) of the state there."""
    time = torch.tensor(u, dtype=torch.float64)
    a, b = float(schedule.alpha(time)), float(schedule.sigma(time))
    return u, a / math.hypot(a, b), b / math.hypot(a, b)
