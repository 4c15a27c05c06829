"""Predictions of a network, as average velocities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from ..arguments import positive, shown, within
from ..links import Link, identity
from ..path import Path
from ..serialise import ADDED

Output = Callable[[Tensor, Tensor, Tensor, Tensor, Path], Tensor]


def average_velocity(value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
    """The network predicts V itself (Geng et al. 2025, arXiv 2505.13447)."""
    return value


average_velocity.elementwise = True  # type: ignore[attr-defined]  # takes times per frame


@dataclass(frozen=True)
class Endpoint:
    """The network predicts the denoised field D: F is the exact step for constant data D.

    Args:
        min_time: Smallest source time in the formula. V has a pole at s = 0, where x is the data already; smaller times
            count as `min_time`.
        link: Function from the network's value to D, see `fm.links`. By default the value is D. With `links.softmax` D
            is a distribution over classes at all times, so F(x, s, 0) = D is one too if s is at least `min_time`, and
            lies between x and D below. If the link has weights, a `FlowMap` owns them.

    Raises:
        TypeError: The link is no function.
        ValueError: `min_time` is not in (0, 1].

    The formula is

        F = (sigma_t/sigma_s) x + (alpha_t - alpha_s sigma_t/sigma_s) D,
        on the linear path (t/s) x + (1 - t/s) D, so that V = (x - D)/s

    (Kim et al. 2023, arXiv 2310.02279; Lu et al. 2026, arXiv 2601.22158). At the true flow map D is a weighted mean of
    the denoiser along the path.
    """

    elementwise: ClassVar[bool] = True
    min_time: float = 0.02
    link: Link = field(default=identity, metadata=ADDED)

    def __post_init__(self) -> None:
        positive(min_time=self.min_time)
        within(0, 1, min_time=self.min_time)
        if not callable(self.link) or isinstance(self.link, type):
            raise TypeError(f"a link is a function value -> D, such as fm.links.softmax, got {shown(self.link)}")

    def __call__(self, value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        """Average velocity V from the network's value."""
        on_x, on_field = self.coefficients(s, t, path)
        return on_x * x + on_field * self.linked(value, x)

    def linked(self, value: Tensor, x: Tensor) -> Tensor:
        """Denoised field D of the network's value.

        Args:
            value: The value, of the shape that the link takes.
            x: State, (B, ...).

        Returns:
            D, of x's shape.

        Raises:
            ValueError: The link gives another shape.
        """
        found = self.link(value)
        if found.shape != x.shape:
            raise ValueError(
                f"the link must give a field of the shape of x, {tuple(x.shape)}, but for a value of shape "
                f"{tuple(value.shape)} it gave {tuple(found.shape)}"
            )
        return found

    @property
    def reshapes(self) -> bool:
        """Whether the network's value may have another shape than x."""
        return bool(getattr(self.link, "reshapes", False))

    def __repr__(self) -> str:
        name = getattr(self.link, "__name__", repr(self.link))
        return f"Endpoint(min_time={self.min_time}{'' if self.link is identity else f', link={name}'})"

    def field(self, V: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        """Denoised field D of an average velocity: the inverse of the call.

        Args:
            V: Average velocity, (B, ...).
            x: State x_s, of the same shape.
            s: Source time, (B, 1, ..., 1).
            t: Target time, likewise.
            path: The path.

        Returns:
            D, of x's shape; x - s V on the linear path.
        """
        on_x, on_field = self.coefficients(s, t, path)
        return (V - on_x * x) / on_field

    def coefficients(self, s: Tensor, t: Tensor, path: Path) -> tuple[Tensor, Tensor]:
        """Coefficients (a, b) of V = a x + b D, each (B, 1, ..., 1)."""
        s = s.clamp(min=self.min_time)
        ratio = path.sigma_slope(s, t) / path.sigma(s)
        return ratio, path.alpha_slope(s, t) - path.alpha(s) * ratio


@dataclass(frozen=True)
class Position:
    """The network predicts the target position, with a skip that makes F(x, t, t) = x:  F = c_skip x + c_out N.

    Args:
        data_std: Standard deviation d of the data.

    With the gap g = t - s in the place of the noise level of a consistency model (Song et al. 2023, arXiv 2303.01469,
    eq. 5), c_skip = d^2/(d^2 + g^2) and c_out = g d/sqrt(d^2 + g^2), so

        V = -g/(d^2 + g^2) x + d/sqrt(d^2 + g^2) N,    smooth at g = 0.

    As a map to t = 0 on the linear path the gap is the noise level, g = -sigma(s), and this is the output of a
    consistency model; its sigma_min > 0, below which x counts as data, is the time 0 here. See `Rotation` for other
    paths.
    """

    elementwise: ClassVar[bool] = True
    data_std: float = 0.5

    def __post_init__(self) -> None:
        positive(data_std=self.data_std)

    def __call__(self, value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        """Average velocity V from the network's value."""
        gap, variance = t - s, self.data_std**2
        scale = variance + gap**2
        return self.data_std / scale.sqrt() * value - gap / scale * x


@dataclass(frozen=True)
class Rotation:
    """The network predicts the velocity N of a rotation: TrigFlow's output, on any path (arXiv 2410.11081).

    Args:
        data_std: Standard deviation d of the data.
        min_time: Smallest source time in the formula, for paths whose sigma has no slope at 0; smaller times count as
            `min_time`.

    The formula (Lu and Song 2024) is

        F/rho_t = cos(delta) x/rho_s - sin(delta) N,    delta = tau_s - tau_t,
        rho = sqrt((d alpha)^2 + sigma^2),  tau = atan2(sigma, d alpha),  d = data_std.

    x/rho has unit variance at every time and turns from the data (tau = 0) to the noise (tau = pi/2); on the diagonal
    N is the mean of cos(tau) eps - sin(tau) x_0/d, and it too has about unit variance. With path.trigonometric and
    d = 1 this is the formula of the paper. As a map to t = 0 on `path.VarianceExploding` it is the c_skip and c_out of
    EDM and of consistency models (Song et al. 2023, arXiv 2303.01469), with their sigma_min at t = 0 and -N for N.

    Both coefficients of V have t - s as a factor of their numerator, which the path's divided differences cancel:

        V = (d^2 alpha_s alpha[s, t] + sigma_s sigma[s, t])/rho_s^2 x
            + d (alpha_s sigma[s, t] - sigma_s alpha[s, t])/rho_s N,

    so V is smooth at s = t.
    """

    elementwise: ClassVar[bool] = True
    data_std: float = 1.0
    min_time: float = 1e-6

    def __post_init__(self) -> None:
        positive(data_std=self.data_std)
        within(0, 1, min_time=self.min_time)

    def __call__(self, value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        """Average velocity V from the network's value."""
        s, d = s.clamp(min=self.min_time), self.data_std
        alpha, sigma = d * path.alpha(s), path.sigma(s)
        alpha_slope, sigma_slope = d * path.alpha_slope(s, t), path.sigma_slope(s, t)
        squared = alpha**2 + sigma**2
        outwards = (alpha * alpha_slope + sigma * sigma_slope) / squared
        around = (alpha * sigma_slope - sigma * alpha_slope) / squared.sqrt()
        return outwards * x + around * value
