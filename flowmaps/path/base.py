"""The base class of paths, and the linear forms that a network may predict."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .time_shapes import Time, expand, expand_frames

Form = tuple[Tensor, Tensor]  # the pair (a, b) of a linear form a x_0 + b eps


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

    def field_slope(self, s: Tensor, t: Tensor) -> Tensor:
        """Coefficient b of D in sigma(s) V = sigma[s, t] x + b D, with divided differences; -1 on the linear path.

        V is the average velocity of a jump with denoised field D, so that b = alpha[s, t] sigma(s) - alpha(s)
        sigma[s, t].
        """
        return self.alpha_slope(s, t) * self.sigma(s) - self.alpha(s) * self.sigma_slope(s, t)

    def field(self, V: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Denoised field D of an average velocity, x - s V on the linear path. It has no pole at s = t or s = 0.

        Args:
            V: Average velocity V(x, s, t), (B, ...).
            x: State x_s, of the same shape.
            s: Source time, (B, 1, ..., 1).
            t: Target time, likewise.

        Returns:
            D, of x's shape and dtype.
        """
        return ((self.sigma(s) * V - self.sigma_slope(s, t) * x) / self.field_slope(s, t)).to(x.dtype)

    def jump(self, D: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """State at time t of the jump with denoised field D, (t/s) x + (1 - t/s) D on the linear path.

        Args:
            D: Denoised field, (B, ...).
            x: State x_s, of the same shape.
            s: Source time, (B, 1, ..., 1).
            t: Target time, likewise. At most s, or s > 0.

        Returns:
            F = (sigma_t/sigma_s) x + (alpha_t - alpha_s sigma_t/sigma_s) D, of x's shape and dtype; x at s = t = 0.
        """
        sigma = self.sigma(s)
        ratio = self.sigma(t) / sigma.clamp(min=torch.finfo(sigma.dtype).tiny)
        ratio = torch.where(s == t, torch.ones_like(ratio), ratio)
        return (ratio * x + (self.alpha(t) - self.alpha(s) * ratio) * D).to(x.dtype)

    def noising_rate(self, t: Tensor, limit: float = math.inf) -> Tensor:
        """Half the variance that the noising SDE adds per unit of time, b(t) = sigma sigma' - sigma^2 alpha'/alpha.

        Args:
            t: Time.
            limit: Noise level sigma/alpha above which b grows no longer in proportion to it. On the linear path, where
                b = t/(1 - t) is the noise level, it is the largest b. The same limit is the same on every path.

        Returns:
            b(t), of t's shape; finite if the limit is.

        A value's gradient, times b, is the change of the velocity: v* = v - b grad V. With the limit, b is

            (alpha (sigma^2)'/2 - sigma^2 alpha') / max(alpha, sigma/limit)
        """
        alpha, sigma = self.alpha(t), self.sigma(t)
        return (alpha * self.variance_slope(t, t) / 2 - sigma**2 * self.alpha_slope(t, t)) / torch.maximum(
            alpha, sigma / limit
        )

    def interpolate(self, x0: Tensor, eps: Tensor, t: Time) -> Tensor:
        """State at time t, x_t = alpha(t) x_0 + sigma(t) eps.

        Args:
            x0: Data, (B, ...).
            eps: Noise of the same shape.
            t: Time, in any shape that `expand` takes.

        Returns:
            The state, of the shape and dtype of x0.
        """
        t = expand_frames(t, x0)
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
        t = expand_frames(t, x0)
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
        t = expand_frames(t, x)
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
        mean, std = self.renoising(x, t, s)
        return (mean + std * noise).to(x.dtype)

    def renoising(self, x: Tensor, t: Time, s: Time) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of p(x_s | x_t), the law that `renoise` draws from.

        Args:
            x: State x_t, (B, ...).
            t: Time of the state.
            s: Noisier time to go to.

        Returns:
            The mean, of x's shape and at least in float32, and the standard deviation, (B, 1, ..., 1).
        """
        ratio, variance = self._kernel(expand(t, x), expand(s, x))
        return ratio * x, variance.sqrt()

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

    @property
    def curved(self) -> bool:
        """Whether states lie on a manifold, so that they have no sums: a `Geodesic` path of another space than R^n."""
        return False

    @property
    def isometric(self) -> bool:
        """Whether the divergence of a velocity is the trace of its projected derivative; see `manifolds.Manifold`."""
        return True

    def noise(self, normal: Tensor) -> Tensor:
        """States at t = 1 of standard normal numbers: sigma(1) times the numbers."""
        return self.sigma(torch.ones((), dtype=normal.dtype, device=normal.device)) * normal

    def move(self, x: Tensor, u: Tensor) -> Tensor:
        """End of the straightest line from x along u: x + u, or exp_x(u) on a manifold."""
        return x + u

    def expect(self, name: str, x: Tensor) -> None:  # noqa: B027  # flat space has nothing to check
        """Check that x can be a state: everything can in flat space.

        Args:
            name: Its name in the message.
            x: The state, (B, ...).

        Raises:
            ValueError: The path is on a manifold, and x has another number of coordinates or is off it.
        """

    def point(self, x: Tensor) -> Tensor:
        """State without the rounding of sums: x itself, or the nearest point of a manifold."""
        return x

    def log_prior(self, x: Tensor) -> Tensor:
        """Log-density N(x; 0, sigma(1)^2 I) of states at t = 1, or of a manifold's prior; nats, (B,)."""
        std = float(self.sigma(torch.ones((), dtype=torch.float64)))
        flat = x.flatten(1).to(torch.promote_types(x.dtype, torch.float32))
        return -0.5 * (flat / std).square().sum(1) - flat.shape[1] * (math.log(std) + 0.5 * math.log(2 * math.pi))

    def to_cut(self, x: Tensor, u: Tensor) -> Tensor:
        """Length of u as a share of the distance of the cut locus, (B, ...) without the last axis; 0 in flat space."""
        return torch.zeros_like(u[..., 0])

    def to_pole(self, x: Tensor, u: Tensor) -> Tensor:
        """The same share for the derivative of `between`; 0 where that is constant."""
        return torch.zeros_like(u[..., 0])

    def between(self, x: Tensor, y: Tensor) -> Tensor:
        """Displacement of the shortest line from x to y: y - x, or log_x(y) on a manifold."""
        return y - x

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """Part of u that is a velocity at x: u itself, or its projection to the tangent space of a manifold."""
        return u

    def scale(self, x: Tensor, u: Tensor) -> Tensor:
        """Coordinates of a velocity at x whose sum of squares is its squared length: u itself in flat space."""
        return u

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
