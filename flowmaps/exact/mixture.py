"""Mixtures of Gaussians: the simplest distributions with a nonlinear flow map."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import at_least
from ..path import Path, Time, linear
from ..path.time_shapes import at_time
from .base import Exact, Numbers, beside, check_path, check_state, flat, floating, marginal_variance, wide
from .quadratic import QuadraticReward
from .rows import MixtureRows
from .solve import solve
from .tilting import Components, axes_of, tilted_components


class GaussianMixture(Exact):
    """The mixture x_0 ~ sum_k w_k N(mean_k, std_k^2 I), or with a full covariance for each component.

    Velocity, denoiser, score and likelihood have closed forms: the posterior weights of the components are a softmax of
    log w_k + log N(x; alpha mean_k, g_k^2 I) with g_k^2 = alpha^2 std_k^2 + sigma^2, and E[x_0 | x_t] is the weighted
    sum over the components. The flow map has no closed form; it is solved numerically to a tolerance.

    Args:
        weights: (K,), not negative, with sum 1.
        means: (K, *shape); a flat list of K numbers means K components in one dimension.
        stds: standard deviations, a number or (K,). Give either these or `covariances`.
        covariances: (K, D, D) or (D, D) for all, over the D flattened coordinates.
        path: the path from data to noise.

    Raises:
        TypeError: for both stds and covariances, or neither.
        ValueError: for weights that are negative or do not sum to one, stds that are not positive, covariances that are
            not symmetric and positive definite, and shapes that do not match.

    For full covariances C_k the same formulas hold along the axes of each C_k, with variances g_k^2 = alpha^2 l_k +
    sigma^2 for its eigenvalues l_k.
    """

    stds: Tensor | None

    def __init__(
        self,
        weights: Numbers,
        means: Numbers,
        stds: Numbers | None = None,
        *,
        covariances: Numbers | None = None,
        path: Path = linear,
    ) -> None:
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
        self.shape = self.means.shape[1:]
        if (stds is None) == (covariances is None):
            raise TypeError("a mixture takes the stds of its components or their covariances, one of the two")
        self.stds, self._rows = None, None
        if covariances is None:
            assert stds is not None
            self.stds = floating(stds, "stds").to(self.means.dtype)
            if self.stds.shape not in ((), (count,)) or not bool((self.stds > 0).all()):
                raise ValueError(f"stds must be positive, one number or {count} of them, got {stds}")
            self.stds = self.stds.expand(count)
        else:
            self._covariances = floating(covariances, "covariances").to(self.means.dtype)
            variances, basis = axes_of(self._covariances, self.means)
            self._rows = MixtureRows(self.weights[None], self.means[None], variances[None], basis[None], path=path)

    @property
    def covariances(self) -> Tensor:
        """The covariances of the components, (K, D, D)."""
        return self._as_rows()._covariances()[0]

    def _as_rows(self) -> MixtureRows:
        """The mixture as a batch of one."""
        if self._rows is not None:
            return self._rows
        assert self.stds is not None
        variances = (self.stds**2)[None, :, None].expand(1, -1, self.shape.numel())
        return MixtureRows(self.weights[None], self.means[None], variances, None, path=self.path)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n independent rows, (n, *shape); see `Exact.sample`."""
        at_least(0, n=n)
        if self.stds is None:
            return self._as_rows().sample(n, generator)[:, 0]
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
        return self.log_joint(x, at_time(t, x)).softmax(1).to(x.dtype)

    def posterior_of_data(self, x: Tensor, t: Time) -> MixtureRows:
        """Compute the law of x_0 given x_t = x, one mixture for each row.

        Args:
            x: states (B, *shape) at time t.
            t: time.

        Returns:
            B mixtures of K components, with `mean()` (the denoiser), `covariance()`, `sample(n)` (n, B, *shape),
            `log_prob(x0)` (B,), and a velocity on the path, which moves noise to draws from them.
        """
        return self._as_rows().posterior_of_data(x, t)

    def tilted(self, reward: QuadraticReward | Components) -> tuple[GaussianMixture, Tensor]:
        """Compute the mixture p(x) e^{r(x)} / Z, for a reward under which it stays a mixture of Gaussians.

        Args:
            reward: A reward with the method of `QuadraticReward`, such as a linear one or the Gaussian likelihood of a
                linear measurement, or the log-probability of a class of components, `Components`.

        Returns:
            The tilted mixture, on the same path, and log Z = log E e^r, a tensor without dimensions.

        Raises:
            TypeError: The reward is of another kind.
            ValueError: E e^r is infinite, the reward takes another shape, or its components are of another mixture.

        A component N(m, C) becomes N(m + C* (c - Q m), C*) with C* = (C^-1 + Q)^-1, and the logarithm of its weight
        grows by c . m - m^T Q m / 2 + (c - Q m)^T C* (c - Q m) / 2 - log det(1 + C Q) / 2. The exact value of the
        reward at time t follows from both laws: log E[e^r | x_t] = log p*_t(x_t) - log p_t(x_t) + log Z.
        """
        if isinstance(reward, Components):
            return self._of_class(reward)
        if not isinstance(reward, QuadraticReward):
            raise TypeError(
                f"only a quadratic reward, with a method quadratic(shape), or fm.exact.Components keeps a mixture of "
                f"Gaussians, got {type(reward).__name__}"
            )
        rows, quadratic = self._as_rows(), reward.quadratic(self.shape)
        gain, means, covariances = tilted_components(self.means.flatten(1), rows.variances[0], rows.basis, quadratic)
        joint = self.weights.log() + gain
        means, weights = means.reshape(self.means.shape), joint.softmax(0)
        q = quadratic.isotropic()
        if self.stds is not None and q is not None:
            stds = self.stds / (1 + q.to(self.stds) * self.stds**2).sqrt()
            return GaussianMixture(weights, means, stds, path=self.path), joint.logsumexp(0)
        return GaussianMixture(weights, means, covariances=covariances, path=self.path), joint.logsumexp(0)

    def _of_class(self, reward: Components) -> tuple[GaussianMixture, Tensor]:
        """The mixture of the components of a class, and the logarithm of their weight."""
        if reward.mixture is not self:
            raise ValueError("the components of one mixture are no classes of another: make the reward from this one")
        weights, means = self.weights[reward.chosen], self.means[reward.chosen]
        stds = None if self.stds is None else self.stds[reward.chosen]
        covariances = self.covariances[reward.chosen] if stds is None else None
        tilted = GaussianMixture(weights / weights.sum(), means, stds, covariances=covariances, path=self.path)
        return tilted, weights.sum().log()

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Compute log p_t(x) in nats, (B,); see `Exact.log_prob`."""
        return self.log_joint(x, at_time(t, x)).logsumexp(1).to(x.dtype)

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
        if self._rows is not None:
            return self._rows.mean_over_components(x, t, on_mean, a, b)
        p, (means, variances) = self.log_joint(x, t).softmax(1), self._like(x)
        gain = p * (flat(a) * variances + flat(b)) / marginal_variance(self.path, t, variances)
        on_means = p * flat(on_mean) - gain * flat(self.path.alpha(t))
        rows = gain.sum(1, keepdim=True) * wide(x).flatten(1) + torch.matmul(on_means, means)
        return rows.reshape(x.shape).to(x.dtype)

    def log_joint(self, x: Tensor, t: Tensor) -> Tensor:
        """Compute log p(component k, x_t = x), (B, K), with t of shape (B, 1, ..., 1)."""
        check_state(self, x)
        if self._rows is not None:
            return self._rows.log_joint(x, t)
        means, variances = self._like(x)
        marginal = marginal_variance(self.path, t, variances)
        square = ((wide(x).flatten(1)[:, None] - flat(self.path.alpha(t))[:, None] * means) ** 2).sum(2)
        volume = means.shape[1] * (2 * math.pi * marginal).log()
        return beside(self.weights, x).log() - 0.5 * (square / marginal + volume)

    def _like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        assert self.stds is not None
        return beside(self.means.flatten(1), x), beside(self.stds, x) ** 2

    def __repr__(self) -> str:
        return f"GaussianMixture(components={len(self.weights)}, shape={tuple(self.shape)}, path={self.path})"
