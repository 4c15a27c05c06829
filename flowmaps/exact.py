"""Distributions whose velocity, denoiser, flow map and likelihood are known: the truth that everything is tested
against.

They also serve as data (`sample`), as teachers (`velocity`, `average_velocity`) and as targets of evaluation. Every
method takes x of shape (B, *shape) and times as a number, (B,) or (B, 1, ..., 1); results have x's dtype, whatever it
is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .path import Path, Time, expand, linear
from .solve import solve

Numbers = float | Sequence[Any] | Tensor


class Exact:
    """What a Gaussian and a mixture share: everything that follows from the denoiser E[x_0 | x_t] and the sampler."""

    shape: torch.Size
    path: Path

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """E[x_0 | x_t = x]."""
        raise NotImplementedError

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n independent draws, (n, *shape)."""
        raise NotImplementedError

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """log p_t(x), the density of x_t in nats, (B,)."""
        raise NotImplementedError

    def flow_map(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """F(x, s, t): the solution at time t of dx/dt = v(x, t) that passes through x at time s."""
        raise NotImplementedError

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """v(x, t) = E[alpha' x_0 + sigma' eps | x_t = x]."""
        raise NotImplementedError

    def score(self, x: Tensor, t: Time) -> Tensor:
        """grad log p_t(x), which for t > 0 is E[-eps / sigma(t) | x_t = x]."""
        raise NotImplementedError

    def average_velocity(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """V(x, s, t) = (F(x, s, t) - x) / (t - s), and v(x, t) where s = t."""
        s, t = expand(s, x), expand(t, x)
        same = s == t
        gap = torch.where(same, torch.ones_like(t), t - s)
        return torch.where(same, self.velocity(x, t), ((self.flow_map(x, s, t) - x) / gap).to(x.dtype))

    def __call__(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """F(x, s, t), so that an exact distribution can stand where a FlowMap is asked for."""
        return self.flow_map(x, s, t)


class Gaussian(Exact):
    """x_0 ~ N(mean, covariance). Give `std` (a number or per coordinate) or a full `covariance` over the flattened
    coordinates.

    In the eigenbasis of the covariance (variances l) the marginal at time t has scale g(t)^2 = alpha(t)^2 l +
    sigma(t)^2, and

        F(x, s, t) = alpha(t) mean + g(t)/g(s) (x - alpha(s) mean),
        V(x, s, t) = alpha[s,t] mean + g[s,t]/g(s) (x - alpha(s) mean),

    with divided differences [s, t], so V has no pole at s = t and v(x, t) = V(x, t, t).
    Shapes: mean any shape (the event), std a number or broadcastable to it, covariance (D, D) with D the number of
    coordinates.
    Raises ValueError for a covariance that is not square, not of that size, not symmetric or not positive.
    """

    def __init__(
        self, mean: Numbers = 0.0, std: Numbers = 1.0, *, covariance: Tensor | None = None, path: Path = linear
    ) -> None:
        self.path = path
        self.mean = _floating(mean).expand(_event(mean, std, covariance))
        self.shape = self.mean.shape
        size = self.mean.numel()
        if covariance is None:
            deviation = torch.as_tensor(std, dtype=self.mean.dtype).expand(self.shape).reshape(-1)
            if not bool((deviation > 0).all()):
                raise ValueError(f"a standard deviation must be positive, got {std}")
            self.variances, self.basis = deviation**2, None
        else:
            covariance = torch.as_tensor(covariance, dtype=self.mean.dtype)
            if tuple(covariance.shape) != (size, size):
                raise ValueError(
                    f"a Gaussian over {size} coordinates needs a covariance of shape ({size}, {size}), got "
                    f"{tuple(covariance.shape)}"
                )
            if not torch.allclose(covariance, covariance.T):
                raise ValueError("a covariance must be symmetric")
            self.variances, self.basis = torch.linalg.eigh(covariance)
            if not bool((self.variances > 0).all()):
                raise ValueError(
                    f"a covariance must be positive definite, got smallest eigenvalue {self.variances.min().item():.3g}"
                )

    @classmethod
    def fit(cls, x0: Tensor, *, floor: float = 1e-4, path: Path = linear) -> Gaussian:
        """The Gaussian with the mean and covariance of the rows of x0 (N, *shape); variances are raised to `floor` at
        least.
        """
        rows = x0.flatten(1).double()
        variances, basis = torch.linalg.eigh(torch.cov(rows.T).reshape(rows.shape[1], rows.shape[1]))
        covariance = basis * variances.clamp(min=floor) @ basis.T
        return cls(rows.mean(0).reshape(x0.shape[1:]), covariance=(covariance + covariance.T) / 2, path=path)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        z = torch.randn(n, self.variances.numel(), generator=generator, dtype=self.mean.dtype)
        rows = z * self.variances.sqrt()
        return self.mean + (rows if self.basis is None else rows @ self.basis.T).reshape(n, *self.shape)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        return self.average_velocity(x, t, t)

    def average_velocity(self, x: Tensor, s: Time, t: Time) -> Tensor:
        s, t = expand(s, x), expand(t, x)
        return gaussian_average_velocity(_wide(x), s, t, self.path, *self._like(x)).to(x.dtype)

    def flow_map(self, x: Tensor, s: Time, t: Time) -> Tensor:
        s, t = expand(s, x), expand(t, x)
        return x + ((t - s) * self.average_velocity(x, s, t)).to(x.dtype)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """mean + alpha l / g^2 (x - alpha mean) in the eigenbasis."""
        t = expand(t, x)
        mean, variances, basis = self._like(x)
        alpha = self.path.alpha(t)
        gain = _flat(alpha) * variances / self._marginal(t, variances)
        return (mean + _scale(_wide(x) - alpha * mean, gain, basis)).to(x.dtype)

    def score(self, x: Tensor, t: Time) -> Tensor:
        """-(x - alpha mean) / g^2 in the eigenbasis."""
        t = expand(t, x)
        mean, variances, basis = self._like(x)
        centred = _wide(x) - self.path.alpha(t) * mean
        return _scale(centred, -1 / self._marginal(t, variances), basis).to(x.dtype)

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        t = expand(t, x)
        mean, variances, basis = self._like(x)
        centred = (_wide(x) - self.path.alpha(t) * mean).flatten(1)
        rotated, marginal = centred if basis is None else centred @ basis, self._marginal(t, variances)
        return -0.5 * (rotated**2 / marginal + marginal.log() + math.log(2 * math.pi)).sum(1).to(x.dtype)

    def _marginal(self, t: Tensor, variances: Tensor) -> Tensor:
        """g(t)^2 per coordinate of the eigenbasis, (B, D)."""
        return _flat(self.path.alpha(t)) ** 2 * variances + _flat(self.path.sigma(t)) ** 2

    def _like(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        _fits(self, x)
        basis = None if self.basis is None else _beside(self.basis, x)
        return _beside(self.mean, x), _beside(self.variances, x), basis

    def __repr__(self) -> str:
        return f"Gaussian(shape={tuple(self.shape)}, path={self.path})"


def gaussian_average_velocity(
    x: Tensor, s: Tensor, t: Tensor, path: Path, mean: Tensor, variances: Tensor, basis: Tensor | None
) -> Tensor:
    """V(x, s, t) of N(mean, basis diag(variances) basis^T) on `path`; s, t as (B, 1, ..., 1). See `Gaussian` for the
    formula.

    g[s,t] = (g^2)[s,t] / (g(s) + g(t)) and (a^2)[s,t] = (a(s) + a(t)) a[s,t], so nothing is divided by t - s.
    """
    alpha, sigma, alpha_slope = path.alpha, path.sigma, path.alpha_slope(s, t)
    square_slope = _flat((alpha(s) + alpha(t)) * alpha_slope) * variances + _flat(path.variance_slope(s, t))
    g_s, g_t = ((_flat(alpha(u)) ** 2 * variances + _flat(sigma(u)) ** 2).sqrt() for u in (s, t))
    return alpha_slope * mean + _scale(x - alpha(s) * mean, square_slope / (g_s * (g_s + g_t)), basis)


def _flat(t: Tensor) -> Tensor:
    """(B, 1, ..., 1) -> (B, 1)."""
    return t.reshape(-1, 1)


def _scale(x: Tensor, factors: Tensor, basis: Tensor | None) -> Tensor:
    """Multiply the coordinates of x in the eigenbasis by `factors` (B, D)."""
    rows = x.flatten(1)
    scaled = rows * factors if basis is None else ((rows @ basis) * factors) @ basis.T
    return scaled.reshape(x.shape)


def _event(mean: Numbers, std: Numbers, covariance: Tensor | None) -> torch.Size:
    """The shape of one draw: from the mean, or from std or covariance where the mean is a number; a number alone means
    one coordinate.
    """
    shapes = [
        torch.as_tensor(mean).shape,
        torch.as_tensor(std).shape if covariance is None else torch.as_tensor(covariance).shape[:1],
    ]
    return next((shape for shape in shapes if shape), torch.Size([1]))


def _fits(distribution: Exact, x: Tensor) -> None:
    if x.shape[1:] != distribution.shape or not x.is_floating_point():
        raise ValueError(
            f"{distribution} takes floating-point x of shape (B, {', '.join(map(str, distribution.shape))}), got "
            f"{x.dtype} of shape {tuple(x.shape)}"
        )


def _floating(value: Numbers) -> Tensor:
    """A tensor of its own floating-point dtype; float64 for anything else."""
    own = value.dtype if isinstance(value, Tensor) and value.is_floating_point() else torch.float64
    return torch.as_tensor(value, dtype=own)


def _wide(x: Tensor) -> Tensor:
    """x in the dtype that times have beside it: its own, but never below float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _beside(parameter: Tensor, x: Tensor) -> Tensor:
    """A parameter on x's device, in the dtype of `_wide(x)`."""
    return parameter.to(device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))


class GaussianMixture(Exact):
    """x_0 ~ sum_k w_k N(mean_k, std_k^2 I). The smallest distribution on which the flow map is not linear.

    Velocity, denoiser, score and likelihood are closed forms: the posterior weights of the components are a softmax of
    log w_k + log N(x; alpha mean_k, g_k^2 I) with g_k^2 = alpha^2 std_k^2 + sigma^2, and E[x_0 | x_t] is the weighted
    sum of each component's own. The flow map has no closed form: it is `solve`d to a tolerance.
    Shapes: weights (K,), means (K, *shape) (a flat list of K numbers is K components in one dimension), stds a number
    or (K,).
    Raises ValueError for weights that are negative or do not sum to one, and for shapes that do not fit.
    """

    def __init__(self, weights: Numbers, means: Numbers, stds: Numbers, *, path: Path = linear) -> None:
        self.path = path
        self.means = _floating(means)
        self.means = self.means[:, None] if self.means.ndim == 1 else self.means
        self.weights = torch.as_tensor(weights, dtype=self.means.dtype)
        count = self.means.shape[0]
        if (
            self.weights.shape != (count,)
            or bool((self.weights < 0).any())
            or abs(float(self.weights.sum()) - 1) > 1e-5
        ):
            raise ValueError(
                f"a mixture of {count} means needs {count} weights that are not negative and sum to 1, got {weights}"
            )
        self.weights = self.weights / self.weights.sum()
        self.stds = torch.as_tensor(stds, dtype=self.means.dtype)
        if self.stds.shape not in ((), (count,)) or not bool((self.stds > 0).all()):
            raise ValueError(f"stds must be positive, one number or {count} of them, got {stds}")
        self.stds = self.stds.expand(count)
        self.shape = self.means.shape[1:]

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(n, *self.shape, generator=generator, dtype=self.means.dtype)
        return self.means[which] + self.stds[which].reshape(-1, *[1] * len(self.shape)) * z

    def posterior(self, x: Tensor, t: Time) -> Tensor:
        """p(component | x_t = x), (B, K)."""
        return self._log_joint(x, expand(t, x)).softmax(1).to(x.dtype)

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        return self._log_joint(x, expand(t, x)).logsumexp(1).to(x.dtype)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """sum_k p(k | x) v_k(x, t), with v_k = alpha' mean_k + (g_k'/g_k) (x - alpha mean_k): finite at both ends of
        time.
        """
        t = expand(t, x)
        slope = self.path.alpha_slope(t, t)
        return self._mean_over_components(x, t, slope, self.path.alpha(t) * slope, self.path.variance_slope(t, t) / 2)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        t = expand(t, x)
        return self._mean_over_components(x, t, torch.ones_like(t), self.path.alpha(t), torch.zeros_like(t))

    def score(self, x: Tensor, t: Time) -> Tensor:
        """-sum_k p(k | x) (x - alpha mean_k) / g_k^2."""
        t = expand(t, x)
        zero = torch.zeros_like(t)
        return self._mean_over_components(x, t, zero, zero, zero - 1)

    def flow_map(self, x: Tensor, s: Time, t: Time, *, tolerance: float = 1e-8) -> Tensor:
        """F(x, s, t) by `solve` to `tolerance` (absolute, in x's units); the solve runs in float64 and the result has
        x's dtype.
        """
        return solve(self.velocity, x, s, t, tolerance=tolerance)

    def _mean_over_components(self, x: Tensor, t: Tensor, on_mean: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """sum_k p(k | x) [on_mean mean_k + (a std_k^2 + b)/g_k^2 (x - alpha mean_k)]."""
        p, (means, variances) = self._log_joint(x, t).softmax(1), self._like(x)
        gain = p * (_flat(a) * variances + _flat(b)) / self._marginal(t, variances)
        on_means = p * _flat(on_mean) - gain * _flat(self.path.alpha(t))
        rows = gain.sum(1, keepdim=True) * _wide(x).flatten(1) + on_means @ means
        return rows.reshape(x.shape).to(x.dtype)

    def _log_joint(self, x: Tensor, t: Tensor) -> Tensor:
        _fits(self, x)
        means, variances = self._like(x)
        marginal = self._marginal(t, variances)
        square = ((_wide(x).flatten(1)[:, None] - _flat(self.path.alpha(t))[:, None] * means) ** 2).sum(2)
        volume = means.shape[1] * (2 * math.pi * marginal).log()
        return _beside(self.weights, x).log() - 0.5 * (square / marginal + volume)

    def _marginal(self, t: Tensor, variances: Tensor) -> Tensor:
        return _flat(self.path.alpha(t)) ** 2 * variances + _flat(self.path.sigma(t)) ** 2

    def _like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return _beside(self.means.flatten(1), x), _beside(self.stds, x) ** 2

    def __repr__(self) -> str:
        return f"GaussianMixture(components={len(self.weights)}, shape={tuple(self.shape)}, path={self.path})"
