"""Mixtures of von Mises-Fisher laws around the axis of the globe: velocity, density and flow map."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..arguments import at_least
from ..manifolds import Sphere
from ..path import Time
from ..path.time_shapes import at_time
from .base import Numbers, beside, check_state, floating, wide
from .curved import LOG_2_PI, OnManifold, gauss_legendre, increasing_root, log_mean, mixture_weights

LARGEST = 1000.0
SMALL = 1e-2
"""Square of the argument of a Bessel function below which its power series is summed."""


class Zonal(OnManifold):
    """A mixture of von Mises-Fisher laws on `fm.manifolds.Sphere(2)` with their poles on the last axis.

    A component has density c exp(k pole z) over z, the last coordinate. On the geodesic path the angle between x_0 and
    x_t is t u, where u has density sin(u)/2 on (0, pi). The azimuth keeps its law, so p_t depends on z alone, and with
    rho^2 = 1 - z^2 and Bessel functions I

        p_t(z) = E_u c exp(k pole z cos(t u)) I_0(a),     a = k rho sin(t u),
        v(x, t) = -E[u pole k sin(t u) I_1(a)/(a I_0(a)) | z] (e_z - z x).

    These are quadratures of positive terms, right also where the density is small. (The flux through a parallel gives
    the same: v_z = -(dC_t/dt)/p_t.) The Legendre coefficients of p_t are the ones of p_0 times E P_l(cos(t u)). They
    give the distribution function C_t(z), and F = C_t^-1(C_s) moves z, with the azimuth fixed.

    Args:
        weights: Weights of the components, (K,), positive with sum 1.
        poles: +1 or -1 for each component: its mode at (0, 0, +1) or (0, 0, -1).
        concentrations: Concentrations k, (K,) or one number, in (0, 1000].

    Attributes:
        entropy: Entropy of x_0 in nats, with respect to area.

    Raises:
        TypeError: An argument holds no numbers.
        ValueError: Shapes differ, a weight is not positive, their sum is not 1, a pole is not +1 or -1, or a
            concentration is out of range.
    """

    def __init__(self, weights: Numbers, poles: Numbers, concentrations: Numbers) -> None:
        self.manifold = Sphere(2)
        self.shape = torch.Size([3])
        self.poles = floating(poles, "poles").double()
        count = len(self.poles) if self.poles.ndim == 1 else 0
        if not bool((self.poles.abs() == 1).all()):
            raise ValueError(f"poles are +1 or -1, the end of the last axis where the component is, got {poles}")
        self.weights = mixture_weights(weights, count)
        k = floating(concentrations, "concentrations").double()
        if k.shape not in ((), (count,)) or not bool(((k > 0) & (k <= LARGEST)).all()):
            raise ValueError(
                f"concentrations lie in (0, {LARGEST:g}], one number or {count} of them, got {concentrations}"
            )
        self.concentrations = k.expand(count)
        root = math.sqrt(float(k.max()))
        degrees = 8 + math.ceil(9 * root)  # the Legendre coefficients of p_0 are below 1e-17 after
        self._constants = self.weights.log() + self.concentrations.log() - k - torch.log(-torch.expm1(-2 * k))
        z, weights = gauss_legendre(2 * degrees + 64)
        log_density = (self._constants + self.poles * self.concentrations * z[:, None]).logsumexp(1)
        masses = weights * log_density.exp()
        self.entropy = LOG_2_PI - float((masses * log_density).sum())
        self._coefficients = torch.stack([(masses * p).sum() for p in _legendre(z, degrees)])
        nodes, weights = gauss_legendre(64 + math.ceil(8 * root))
        self._nodes = math.pi / 2 * (1 + nodes)
        self._quadrature = math.pi / 4 * weights * torch.sin(self._nodes)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n independent points, (n, 3), in float64; see `Exact.sample`."""
        at_least(0, n=n)
        which = torch.multinomial(self.weights, max(n, 1), replacement=True, generator=generator)[:n]
        u, azimuth = torch.rand(2, n, generator=generator, dtype=torch.float64)
        k, azimuth = self.concentrations[which], 2 * math.pi * azimuth
        short = (-torch.log(u + (1 - u) * torch.exp(-2 * k)) / k).clamp(0, 2)  # 1 - z at the pole +1
        rho = (short * (2 - short)).sqrt()
        return torch.stack([rho * azimuth.cos(), rho * azimuth.sin(), self.poles[which] * (1 - short)], 1)

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Compute log p_t(x) with respect to area, (B,); see `Exact.log_prob`."""
        return (self._log_joint(x, at_time(t, x)).flatten(1).logsumexp(1) - LOG_2_PI).to(x.dtype)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Compute v(x, t), a tangent vector; see `Exact.velocity`."""
        t = at_time(t, x)
        joint = self._log_joint(x, t)
        poles, k, nodes = (beside(one, x) for one in (self.poles, self.concentrations, self._nodes))
        sine = torch.sin(t * nodes)[:, None]
        ratio = _bessel_ratio(_squared_argument(wide(x), k, sine))
        rate = -log_mean(joint, nodes * (poles * k)[:, None] * sine * ratio)[:, None]
        north = torch.tensor([0.0, 0.0, 1.0], dtype=x.dtype, device=x.device)
        return (rate * (north - x[:, 2:] * x)).to(x.dtype)

    def flow_map(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Compute F(x, s, t): z by distribution functions, with the azimuth fixed; see `Exact.flow_map`.

        Args:
            x: Points (B, 3) at time s.
            s: Source time.
            t: Target time.

        Returns:
            Points (B, 3) at time t, to about 1e-6 or better; where the density of z is below 1e-9, by the ODE.
        """
        check_state(self, x)
        return self.transported(x, s, t, self._move)

    def _move(self, x: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        end, mass = self._at(t), _mass(x[:, 2], self._at(s))
        z, density = increasing_root(lambda z: _mass(z, end), lambda z: _density(z, end), mass, -1.0, 1.0)
        tiny = torch.finfo(z.dtype).tiny
        rho = x[:, :2].square().sum(1).clamp(min=tiny).sqrt()
        ratio = (1 - z**2).clamp(min=tiny).sqrt() / rho
        return self.manifold.point(torch.cat([ratio[:, None] * x[:, :2], z[:, None]], 1)), density

    def _at(self, t: Tensor) -> Tensor:
        """Legendre coefficients of p_t, (degrees, B), of times (B, 1); (degrees, 1) if all times are one."""
        if bool((t == t[:1]).all()):
            t = t[:1]
        nodes, weights = self._nodes.to(t.device), self._quadrature.to(t.device)
        polynomials = _legendre(torch.cos(t * nodes), len(self._coefficients))
        return torch.stack([a * (weights * p).sum(1) for a, p in zip(self._coefficients, polynomials, strict=True)])

    def _log_joint(self, x: Tensor, t: Tensor) -> Tensor:
        """Logarithms of the terms of the density of z at time t, (B, K, nodes)."""
        check_state(self, x)
        x = wide(x)
        constants, poles, k, nodes, quadrature = (
            beside(one, x) for one in (self._constants, self.poles, self.concentrations, self._nodes, self._quadrature)
        )
        along = (poles * k * x[:, 2:])[:, :, None] * torch.cos(t * nodes)[:, None]
        across = _squared_argument(x, k, torch.sin(t * nodes)[:, None])
        return constants[:, None] + along + _log_bessel(across) + quadrature.log()

    def __repr__(self) -> str:
        return f"Zonal(components={len(self.weights)})"


def _squared_argument(x: Tensor, k: Tensor, sine: Tensor) -> Tensor:
    """Square of k rho sin(t u) of points (B, 3), concentrations (K,) and sines (B, 1, nodes): (B, K, nodes)."""
    return x[:, :2].square().sum(1)[:, None, None] * (k[:, None] * sine) ** 2


def _log_bessel(q: Tensor) -> Tensor:
    """Logarithm of I_0(a) of q = a^2 >= 0; smooth at 0."""
    small = q < SMALL
    a = torch.where(small, torch.ones_like(q), q).sqrt()
    return torch.where(small, torch.log1p(_series(q, 1) - 1), torch.special.i0e(a).log() + a)


def _bessel_ratio(q: Tensor) -> Tensor:
    """I_1(a)/(a I_0(a)) of q = a^2 >= 0; smooth at 0."""
    small = q < SMALL
    a = torch.where(small, torch.ones_like(q), q).sqrt()
    return torch.where(small, _series(q, 2) / (2 * _series(q, 1)), torch.special.i1e(a) / (a * torch.special.i0e(a)))


def _series(q: Tensor, first: int) -> Tensor:
    """Power series of I_0(a) for first = 1, and of 2 I_1(a)/a for first = 2, in q = a^2 < 0.01, to 1e-17."""
    total = torch.ones_like(q)
    for j in (5, 4, 3, 2, 1):
        total = 1 + q / (4 * j * (j + first - 1)) * total
    return total


def _legendre(z: Tensor, count: int) -> Iterator[Tensor]:
    """The first Legendre polynomials at z, one after the other."""
    before, now = torch.zeros_like(z), torch.ones_like(z)
    for degree in range(count):
        yield now
        before, now = now, ((2 * degree + 1) * z * now - degree * before) / (degree + 1)


def _density(z: Tensor, coefficients: Tensor) -> Tensor:
    """Density of z (B,), sum_l (2l + 1)/2 a_l P_l(z)."""
    terms = zip(range(len(coefficients)), coefficients, _legendre(z, len(coefficients)), strict=True)
    return sum(((2 * degree + 1) / 2 * a * p for degree, a, p in terms), torch.zeros_like(z))


def _mass(z: Tensor, coefficients: Tensor) -> Tensor:
    """Distribution function of z (B,), (1 + z)/2 + sum_{l > 0} a_l (P_{l+1}(z) - P_{l-1}(z))/2."""
    polynomials = list(_legendre(z, len(coefficients) + 1))
    total = (1 + z) / 2
    for a, before, after in zip(coefficients[1:], polynomials, polynomials[2:], strict=False):
        total = total + a * (after - before) / 2
    return total
