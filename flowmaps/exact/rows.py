"""One mixture of Gaussians for each row of a batch: the law of the data given a noisy state."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import at_least
from ..path import Path, Time
from ..path.time_shapes import at_time
from .base import Exact, beside, check_state, flat, wide
from .solve import solve


class MixtureRows(Exact):
    """The laws x_0 ~ sum_k w_bk N(mean_bk, basis_bk diag(variances_bk) basis_bk^T), one for each row b of a batch.

    `GaussianMixture.posterior_of_data(x, t)` makes it: row b is the law of x_0 given x_t = x_b. Fields take states
    (B, *shape), whose row b belongs to the law b. It is a teacher of the posterior: its velocity moves noise to draws
    from the law of each row.

    Args:
        weights: (B, K), with sum 1 in each row.
        means: (B, K, *shape).
        variances: variances along the axes (B, K, D) over the D flattened coordinates. 0 is a point.
        basis: axes (B, K, D, D) as columns. None: the coordinate axes.
        path: the path from data to noise.

    A dimension B of 1 serves every row of a batch.
    """

    def __init__(self, weights: Tensor, means: Tensor, variances: Tensor, basis: Tensor | None, *, path: Path) -> None:
        self.weights, self.means, self.variances, self.basis, self.path = weights, means, variances, basis, path
        self.shape = means.shape[2:]

    def mean(self) -> Tensor:
        """Compute the mean of each row, (B, *shape)."""
        return torch.matmul(self.weights[:, None], self.means.flatten(2)).reshape(-1, *self.shape)

    def covariance(self) -> Tensor:
        """Compute the covariance of each row, (B, D, D), within and between the components."""
        inner = self._covariances()
        apart = self.means.flatten(2) - self.mean().flatten(1)[:, None]
        return (self.weights[..., None, None] * (inner + apart[..., :, None] * apart[..., None, :])).sum(1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n rows from each law, (n, B, *shape)."""
        at_least(0, n=n)
        which = torch.multinomial(self.weights, max(n, 1), replacement=True, generator=generator)[:, :n]  # (B, n)
        rows = torch.arange(len(which), device=which.device)[:, None]
        means, variances = self.means.flatten(2)[rows, which], self.variances[rows, which]
        z = torch.randn(means.shape, generator=generator, dtype=means.dtype, device=means.device) * variances.sqrt()
        if self.basis is not None:
            z = torch.matmul(z[..., None, :], self.basis[rows, which].mT)[..., 0, :]
        return (means + z).transpose(0, 1).reshape(n, -1, *self.shape)

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Compute log p_t(x_b) under the law of each row b, (B,)."""
        return self.log_joint(x, at_time(t, x)).logsumexp(1).to(x.dtype)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """Compute the velocity of each row, as `GaussianMixture.velocity` does."""
        t = at_time(t, x)
        slope = self.path.alpha_slope(t, t)
        return self.mean_over_components(x, t, slope, self.path.alpha(t) * slope, self.path.variance_slope(t, t) / 2)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """Compute E[x_0 | x_t = x] under the law of each row."""
        t = at_time(t, x)
        return self.mean_over_components(x, t, torch.ones_like(t), self.path.alpha(t), torch.zeros_like(t))

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Compute grad log p_t(x) under the law of each row."""
        t = at_time(t, x)
        zero = torch.zeros_like(t)
        return self.mean_over_components(x, t, zero, zero, zero - 1)

    def flow_map(self, x: Tensor, s: Time, t: Time, *, tolerance: float = 1e-8) -> Tensor:
        """Compute F(x, s, t) of each row by `solve`, in float64; see `GaussianMixture.flow_map`."""
        return solve(self.velocity, x, s, t, tolerance=tolerance)

    def mean_over_components(self, x: Tensor, t: Tensor, on_mean: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Compute sum_k p(k | x) [on_mean mean_k + (a C_k + b) (alpha^2 C_k + sigma^2)^-1 (x - alpha mean_k)].

        Args:
            x: states (B, *shape) at time t.
            t: time (B, 1, ..., 1).
            on_mean: factor of the means (B, 1, ..., 1).
            a: factor of the covariances, likewise.
            b: factor of the identity, likewise.

        Returns:
            (B, *shape), in x's dtype.
        """
        means, variances, basis = self._like(x)
        rotated, marginal = self._rotated(x, t)
        gain = (flat(a)[..., None] * variances + flat(b)[..., None]) / marginal * rotated
        on_axes = gain if basis is None else torch.matmul(gain[..., None, :], basis.mT)[..., 0, :]
        p = self.log_joint(x, t).softmax(1)
        rows = (p[..., None] * (flat(on_mean)[..., None] * means + on_axes)).sum(1)
        return rows.reshape(x.shape).to(x.dtype)

    def log_joint(self, x: Tensor, t: Tensor) -> Tensor:
        """Compute log p(component k, x_t = x), (B, K)."""
        check_state(self, x)
        rotated, marginal = self._rotated(x, t)
        density = (rotated**2 / marginal + marginal.log() + math.log(2 * math.pi)).sum(2)
        return beside(self.weights, x).log() - 0.5 * density

    def posterior_of_data(self, x: Tensor, t: Time) -> MixtureRows:
        """Compute the law of x_0 given x_t = x_b under the law of each row; see `GaussianMixture.posterior_of_data`."""
        t = at_time(t, x)
        weights = self.log_joint(x, t).softmax(1)
        means, variances, basis = self._like(x)
        rotated, marginal = self._rotated(x, t)
        gain = flat(self.path.alpha(t))[..., None] * variances / marginal * rotated
        on_axes = gain if basis is None else torch.matmul(gain[..., None, :], basis.mT)[..., 0, :]
        found = (means + on_axes).reshape(*weights.shape, *self.shape)
        left = variances * flat(self.path.sigma(t))[..., None] ** 2 / marginal
        basis = None if basis is None else basis.expand(len(x), *basis.shape[1:])
        return MixtureRows(weights, found, left, basis, path=self.path)

    def _covariances(self) -> Tensor:
        """The covariance of each component, (B, K, D, D)."""
        if self.basis is None:
            return torch.diag_embed(self.variances)
        return torch.matmul(self.basis * self.variances[..., None, :], self.basis.mT)

    def _rotated(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The distance from each mean along the axes, and the marginal variances: both (B, K, D)."""
        means, variances, basis = self._like(x)
        alpha, sigma = flat(self.path.alpha(t))[..., None], flat(self.path.sigma(t))[..., None]
        centred = wide(x).flatten(1)[:, None] - alpha * means
        rotated = centred if basis is None else torch.matmul(centred[..., None, :], basis)[..., 0, :]
        return rotated, alpha**2 * variances + sigma**2

    def _like(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        basis = None if self.basis is None else beside(self.basis, x)
        return beside(self.means.flatten(2), x), beside(self.variances, x), basis

    def __len__(self) -> int:
        return len(self.weights)

    def __repr__(self) -> str:
        rows, components = self.weights.shape
        return f"MixtureRows({rows} rows, components={components}, shape={tuple(self.shape)}, path={self.path})"
