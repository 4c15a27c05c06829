"""Tilting a mixture of Gaussians: the algebra of its components, and the reward of a class of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..path.time_shapes import at_time
from .quadratic import Quadratic


class Components:
    """The reward log p(component is in a class | x_0), the exact log-probability of a label.

    Args:
        mixture: The `GaussianMixture`.
        chosen: Numbers of the components of the class.

    Raises:
        ValueError: There is no component of such a number, or the class has weight 0.

    Called on data (B, *shape) it returns (B,). The tilted law is the mixture of the chosen components.
    """

    def __init__(self, mixture: Any, chosen: Sequence[int]) -> None:
        self.mixture, self.chosen, count = mixture, list(chosen), len(mixture.weights)
        if not self.chosen or not all(isinstance(k, int) and 0 <= k < count for k in self.chosen):
            raise ValueError(f"the components of a class are numbers from 0 to {count - 1}, got {chosen}")
        if not float(mixture.weights[self.chosen].sum()) > 0:
            raise ValueError(f"the components {chosen} have weight 0")

    def __call__(self, x0: Tensor) -> Tensor:
        """Compute log p(class | x_0), (B,)."""
        joint = self.mixture.log_joint(x0, at_time(0.0, x0))
        return joint.log_softmax(1)[:, self.chosen].logsumexp(1).to(x0.dtype)

    def __repr__(self) -> str:
        return f"Components({self.mixture}, {self.chosen})"


def axes_of(covariances: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Find the axes of covariances.

    Args:
        covariances: (K, D, D) or (D, D).
        means: Means of the K components, (K, *shape).

    Returns:
        The variances (K, D) along the axes, and the axes (K, D, D) as columns.

    Raises:
        ValueError: The shape does not fit the means, or a covariance is not symmetric or not positive definite.
    """
    count, size = len(means), means[0].numel()
    if tuple(covariances.shape) not in ((size, size), (count, size, size)):
        raise ValueError(
            f"{count} components over {size} coordinates need covariances of shape ({count}, {size}, {size}), or one "
            f"of shape ({size}, {size}), got {tuple(covariances.shape)}"
        )
    if not torch.allclose(covariances, covariances.mT):
        raise ValueError("a covariance must be symmetric")
    variances, basis = torch.linalg.eigh(covariances.expand(count, size, size))
    if not bool((variances > 0).all()):
        raise ValueError(
            f"a covariance must be positive definite, got smallest eigenvalue {variances.min().item():.3g}"
        )
    return variances, basis


def tilted_components(
    means: Tensor, variances: Tensor, basis: Tensor | None, reward: Quadratic
) -> tuple[Tensor, Tensor, Tensor]:
    """Tilt each component by a quadratic reward, by the formula of `GaussianMixture.tilted`.

    Args:
        means: (K, D).
        variances: (K, D) along the axes.
        basis: Axes (1, K, D, D) as columns. None: the coordinate axes.
        reward: The reward over D coordinates.

    Returns:
        Logarithm of E e^r under each component (K,), and the tilted means (K, D) and covariances (K, D, D).

    Raises:
        ValueError: E e^r is infinite, or the reward has another number of coordinates.
    """
    size, c = means.shape[1], reward.linear.to(means)
    if c.shape != (size,) or (reward.precision is not None and reward.precision.shape != (size, size)):
        raise ValueError(f"the mixture has {size} coordinates, and the reward is over {tuple(reward.linear.shape)}")
    root = torch.diag_embed(variances.sqrt())
    if basis is not None:
        root = torch.matmul(basis[0] * variances.sqrt()[:, None], basis[0].mT)
    Q = torch.zeros(size, size).to(means) if reward.precision is None else reward.precision.to(means)
    inner, axes = torch.linalg.eigh(torch.eye(size).to(means) + root @ Q @ root)  # 1 + C^{1/2} Q C^{1/2}
    if not bool((inner > 0).all()):
        raise ValueError("E e^r is infinite: the reward grows faster than the tails of a component fall")
    half = torch.matmul(root, axes / inner.sqrt()[:, None])
    covariances = torch.matmul(half, half.mT)  # C* = C^{1/2} (1 + C^{1/2} Q C^{1/2})^-1 C^{1/2}
    rest = c - means @ Q
    shift = torch.matmul(covariances, rest[..., None])[..., 0]
    gain = means @ c - ((means @ Q) * means).sum(1) / 2 + (rest * shift).sum(1) / 2 - inner.log().sum(1) / 2
    return gain + torch.as_tensor(reward.constant).to(means), means + shift, covariances
