"""Mixtures of Gaussians: the simplest distributions with a nonlinear flow map."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import at_least
from ..path import Path, Time, linear
from ..path.base import at_time
from .base import Exact, Numbers, beside, check_path, check_state, flat, floating, marginal_variance, wide
from .solve import solve


class GaussianMixture(Exact):
    """The mixture x_0 ~ sum_k w_k N(mean_k, std_k^2 I).

    Velocity, denoiser, score and likelihood have closed forms: the posterior weights of the components are a softmax of
    log w_k + log N(x; alpha mean_k, g_k^2 I) with g_k^2 = alpha^2 std_k^2 + sigma^2, and E[x_0 | x_t] is the weighted
    sum over the components. The flow map has no closed form; it is solved numerically to a tolerance.

    Args:
        weights: (K,), not negative, with sum 1.
        means: (K, *shape); a flat list of K numbers means K components in one dimension.
        stds: standard deviations, a number or (K,).
        path: the path from data to noise.

    Raises:
        ValueError: for weights that are negative or do not sum to one, stds that are not positive, and shapes that do
            not match.
    """

    def __init__(self, weights: Numbers, means: Numbers, stds: Numbers, *, path: Path = linear) -> None:
        check_path(path)
        self.path = path
        self.means = floating(means, "means")
        if self.means.ndim == 0 or self.means.shape[0] == 0:
            raise ValueError(f"a mixture needs means (K, *shape), got {means}")
        self.means = self.means[:, None] if self.means.ndim == 1 else self.means
        self.weights = floating(weights, "weights").to(self.means.dtype)
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
        self.stds = floating(stds, "stds").to(self.means.dtype)
        if self.stds.shape not in ((), (count,)) or not bool((self.stds > 0).all()):
            raise ValueError(f"stds must be positive, one number or {count} of them, got {stds}")
        self.stds = self.stds.expand(count)
        self.shape = self.means.shape[1:]

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n independent rows, (n, *shape); see `Exact.sample`."""
        at_least(0, n=n)
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(n, *self.shape, generator=generator, dtype=self.means.dtype)
        return self.means[which] + self.stds[which].reshape(-1, *[1] * len(self.shape)) * z

    def posterior(self, x: Tensor, t: Time) -> Tensor:
        """Compute the posterior weights p(component | x_t = x).

        Args:
            x: states (B, *shape) at time t.
            t: time.

        Returns:
            (B, K).
        """
        return self._log_joint(x, at_time(t, x)).softmax(1).to(x.dtype)

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Compute log p_t(x) in nats, (B,); see `Exact.log_prob`."""
        return self._log_joint(x, at_time(t, x)).logsumexp(1).to(x.dtype)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Compute sum_k p(k | x) v_k(x, t), with v_k = alpha' mean_k + (g_k'/g_k) (x - alpha mean_k)."""
        t = at_time(t, x)
        slope = self.path.alpha_slope(t, t)
        return self._mean_over_components(x, t, slope, self.path.alpha(t) * slope, self.path.variance_slope(t, t) / 2)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """Compute E[x_0 | x_t = x], the mean over the components of their own denoisers."""
        t = at_time(t, x)
        return self._mean_over_components(x, t, torch.ones_like(t), self.path.alpha(t), torch.zeros_like(t))

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Compute -sum_k p(k | x) (x - alpha mean_k) / g_k^2."""
        t = at_time(t, x)
        zero = torch.zeros_like(t)
        return self._mean_over_components(x, t, zero, zero, zero - 1)

    def flow_map(self, x: Tensor, s: Time, t: Time, *, tolerance: float = 1e-8) -> Tensor:
        """Compute F(x, s, t) by `solve`, in float64.

        Args:
            x: states (B, *shape) at time s.
            s: source time.
            t: target time.
            tolerance: absolute error, in x's units.

        Returns:
            States (B, *shape) at time t, in x's dtype.
        """
        return solve(self.velocity, x, s, t, tolerance=tolerance)

    def _mean_over_components(self, x: Tensor, t: Tensor, on_mean: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Compute sum_k p(k | x) [on_mean mean_k + (a std_k^2 + b)/g_k^2 (x - alpha mean_k)]."""
        p, (means, variances) = self._log_joint(x, t).softmax(1), self._like(x)
        gain = p * (flat(a) * variances + flat(b)) / marginal_variance(self.path, t, variances)
        on_means = p * flat(on_mean) - gain * flat(self.path.alpha(t))
        rows = gain.sum(1, keepdim=True) * wide(x).flatten(1) + torch.matmul(on_means, means)
        return rows.reshape(x.shape).to(x.dtype)

    def _log_joint(self, x: Tensor, t: Tensor) -> Tensor:
        check_state(self, x)
        means, variances = self._like(x)
        marginal = marginal_variance(self.path, t, variances)
        square = ((wide(x).flatten(1)[:, None] - flat(self.path.alpha(t))[:, None] * means) ** 2).sum(2)
        volume = means.shape[1] * (2 * math.pi * marginal).log()
        return beside(self.weights, x).log() - 0.5 * (square / marginal + volume)

    def _like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return beside(self.means.flatten(1), x), beside(self.stds, x) ** 2

    def __repr__(self) -> str:
        return f"GaussianMixture(components={len(self.weights)}, shape={tuple(self.shape)}, path={self.path})"
