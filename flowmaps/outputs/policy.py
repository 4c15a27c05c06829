"""Policies: velocities without a network, which a network predicts once and an ODE follows in many cheap substeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..arguments import at_least, between, expect_finite, expect_floating, expect_tensor, positive
from ..path import Path, Time, expand
from ..serialise import describable

MOST_SUBSTEPS = 10_000
"""Largest number of substeps of a jump, which a file may name."""


@dataclass(frozen=True)
class Policy:
    """The exact velocity of a Gaussian mixture: one of K components for each row and each place of x.

    x_0 ~ sum_k w_k N(m_k, v I) at each place. A place is a row of a table, or a pixel with its C channels. The mean of
    x_0 given x_t = x is

        f(x, t) = (sigma^2 sum_k p_k m_k + alpha v x) / g,        g = alpha^2 v + sigma^2,
        p_k proportional to w_k N(x; alpha m_k, g I).

    Attributes:
        log_weights: log w_k up to a constant, (B, K, 1, *places).
        means: m_k, (B, K, C, *places).
        variance: v, (B, 1, 1, *places).
        path: The path.
    """

    log_weights: Tensor
    means: Tensor
    variance: Tensor
    path: Path

    @classmethod
    def of_posterior(
        cls, log_weights: Tensor, means: Tensor, variance: Tensor, x: Tensor, s: Time, path: Path
    ) -> Policy:
        """Make the policy of a mixture over x_0 given x_s = x, the form of pi-Flow's paper.

        With nu(t) = (alpha/sigma)^2, its law of x_0 given x_t has at each later t the precision
        1/variance + nu(t) - nu(s) and the natural means m_k/variance + alpha_t x_t/sigma_t^2 - alpha_s x_s/sigma_s^2.
        These are the formulas of the mixture without the evidence x_s, which is returned.

        Args:
            log_weights: Logarithms of the weights given x_s, (B, K, 1, *places).
            means: Means given x_s, (B, K, C, *places).
            variance: Variance given x_s, (B, 1, 1, *places), below 1/nu(s).
            x: State x_s, (B, C, *places).
            s: Its time.
            path: The path.

        Returns:
            The policy.

        Raises:
            ValueError: A variance is not below 1/nu(s), so that x_s would say less than nothing about x_0.
        """
        s = expand(s, x)[:, None]
        alpha, sigma = path.alpha(s), path.sigma(s)
        precision = 1 / variance - (alpha / sigma) ** 2
        if not bool((precision > 0).all()):
            raise ValueError("the variance of x_0 given x_s must be below (sigma/alpha)^2 at s, which x_s alone gives")
        prior = (means / variance - alpha / sigma**2 * x[:, None]) / precision
        evidence = (x[:, None] - alpha * prior).square().sum(2, keepdim=True) / (alpha**2 / precision + sigma**2)
        return cls(log_weights + evidence / 2, prior, 1 / precision, path)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """f(x, t) = E[x_0 | x_t = x], of x's shape."""
        return self._parts(x, expand(t, x))[0].to(x.dtype)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """v(x, t) = alpha' f + sigma' e with e = E[eps | x_t = x]; (x - f)/t on the linear path, without its pole."""
        t = expand(t, x)
        data, noise = self._parts(x, t)
        return (self.path.alpha_slope(t, t) * data + self.path.sigma_slope(t, t) * noise).to(x.dtype)

    def average_velocity(self, x: Tensor, s: Time, t: Time, substeps: int) -> Tensor:
        """Mean velocity along the policy's ODE from s to t, in equal substeps of the midpoint rule.

        The error falls like 1/substeps^2.

        Args:
            x: State at time s, (B, C, *places).
            s: Source time.
            t: Target time, on either side.
            substeps: Number of substeps, each with two velocities.

        Returns:
            The mean velocity, of x's shape; the velocity if s = t.
        """
        s, t = expand(s, x), expand(t, x)
        gap, total, here = (t - s) / substeps, torch.zeros_like(x), x
        for k in range(substeps):
            now = s + k * gap
            halfway = (here + gap / 2 * self.velocity(here, now)).to(x.dtype)
            slope = self.velocity(halfway, now + gap / 2)
            here, total = (here + gap * slope).to(x.dtype), total + slope
        return total / substeps

    def _parts(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The means of data and noise given x_t = x, f and e = sigma (x - alpha sum p m) / g."""
        t, state = t[:, None], x[:, None]
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        marginal = alpha**2 * self.variance + sigma**2
        fit = alpha * (self.means * (state - alpha / 2 * self.means)).sum(2, keepdim=True) / marginal
        mean = ((self.log_weights + fit).softmax(1) * self.means).sum(1, keepdim=True)
        data = (sigma**2 * mean + alpha * self.variance * state) / marginal
        return data.squeeze(1), (sigma * (state - alpha * mean) / marginal).squeeze(1)


@describable
class MixturePolicy(nn.Module):
    """The network predicts a policy, the exact velocity of a Gaussian mixture; F follows its ODE (pi-Flow).

    Args:
        centres: Means of the components where the value is zero, (K, C), distinct.
        variance: Variance of the components where the value is zero.
        substeps: Substeps of a jump, each with two velocities of the policy and no call of the network. On eight
            Gaussians 16 have a third of the error of 128 Euler steps.

    The mixture is over axis 1 of x, with weights and means of their own at each place of the further axes: over the
    whole row of points (B, D), over the channels of each pixel of images (B, C, H, W). The value has K (C + 1) + 1
    channels, `channels`: K logarithms of weights, K means as differences to the centres, and the logarithm of the
    variance over the one given. So a zero value is the exact ODE of the mixture of the centres. Build it with
    `MixturePolicy.fit(x0)`.

        F(x, s, t) = the policy's ODE from s to t,    V = (F - x)/(t - s),    v(x, s) = the policy's velocity

    A network that does not see t (`networks.source_only`) predicts one policy for all targets, and its velocity at s
    belongs to the policy of its jumps. Chen et al. 2025, arXiv 2510.14974.

    Raises:
        TypeError: The centres are no floating-point tensor.
        ValueError: They are no matrix, or a number is out of range. In calls: the value has another shape.
    """

    centres: Tensor
    reshapes: ClassVar[bool] = True

    def __init__(self, centres: Tensor, variance: float, substeps: int = 16) -> None:
        super().__init__()
        expect_floating("centres", centres, "(K, C)", least=2)
        if centres.ndim != 2:
            raise ValueError(f"the centres of K components have shape (K, C), got {tuple(centres.shape)}")
        positive(variance=variance)
        between(1, MOST_SUBSTEPS, substeps=substeps)
        self.register_buffer("centres", centres.clone(memory_format=torch.contiguous_format))
        self.variance, self.substeps = variance, substeps

    @classmethod
    def fit(cls, x0: Tensor, components: int = 16, substeps: int = 16) -> MixturePolicy:
        """Fit the mixture of a zero value to the mean and the variance of data.

        Args:
            x0: Data, (N, C, *places).
            components: Number of components K.
            substeps: Substeps of a jump.

        Returns:
            The output, in the dtype of the data. Its centres are normal numbers of a fixed seed.

        Raises:
            ValueError: The data have fewer than two rows, values that are not finite, or no variance.
        """
        expect_tensor("x0", x0)
        expect_floating("x0", x0, "(N, C, ...)", least=2)
        expect_finite("x0", x0)
        at_least(1, components=components)
        rows = x0.movedim(1, -1).reshape(-1, x0.shape[1]).double()
        variance = rows.var(0).mean() / 2 if len(rows) > 1 else rows.new_zeros(())
        if not variance > 0:
            raise ValueError(f"a mixture needs data with a variance, got {len(x0)} rows of equal values")
        normal = torch.randn(components, x0.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        centres = rows.mean(0) + variance.sqrt() * normal.to(rows)
        return cls(centres.to(x0.dtype), float(variance), substeps)

    @property
    def channels(self) -> int:
        """Channels of the network's value, K (C + 1) + 1."""
        components, size = self.centres.shape
        return components * (size + 1) + 1

    def policy(self, value: Tensor, x: Tensor, path: Path) -> Policy:
        """Policy of the network's value.

        Args:
            value: The value, (B, K (C + 1) + 1, *places).
            x: State, (B, C, *places).
            path: The path.

        Returns:
            The policy.

        Raises:
            ValueError: The value or the state has another shape.
        """
        components, size = self.centres.shape
        shape = (x.shape[0], self.channels, *x.shape[2:])
        if x.shape[1] != size or value.shape != shape:
            raise ValueError(
                f"a policy of {components} components over {size} channels needs x (B, {size}, ...) and a network with "
                f"channels_out={self.channels}, got x {tuple(x.shape)} and a value {tuple(value.shape)}"
            )
        value = value.to(torch.promote_types(value.dtype, torch.float32))
        weights, means, variance = value.split((components, components * size, 1), 1)
        centres = self.centres.to(value).reshape(1, components, size, *[1] * (x.ndim - 2))
        means = centres + means.unflatten(1, (components, size))
        return Policy(weights.unsqueeze(2), means, self.variance * variance.unsqueeze(2).exp(), path)

    def forward(self, value: Tensor, x: Tensor, s: Tensor, t: Tensor, path: Path) -> Tensor:
        """Average velocity V from the network's value."""
        return self.policy(value, x, path).average_velocity(x, s, t, self.substeps)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        components, size = self.centres.shape
        return f"components={components}, channels={size}, substeps={self.substeps}"


def policy_of(flow: Any, x: Tensor, s: Time, t: Time) -> Policy:
    """The policy that a flow map predicts at (x, s, t), in one call of the network.

    Args:
        flow: A flow map with the output `MixturePolicy`.
        x: State at time s, (B, C, *places).
        s: Source time.
        t: Target time.

    Returns:
        The policy, with gradients to the weights.

    Raises:
        ValueError: The flow map has another output.
    """
    output = getattr(flow, "output", None)
    if not isinstance(output, MixturePolicy):
        raise ValueError(
            "this needs a flow map that predicts a policy, and the output of this one is none: output = "
            "fm.outputs.MixturePolicy.fit(x0), FlowMap(network, output), with a network of channels_out=output.channels"
        )
    return output.policy(flow.value(x, s, t), x, flow.path)
