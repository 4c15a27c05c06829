"""The truths that the tests hold the library against, worked out apart from it, in float64.

`gaussian` has a full covariance, so its flow map is affine; `mixture` is the smallest non-linear case. In one dimension
a flow map keeps the order of the points and the mass between them, so it is the monotone rearrangement
F(x, s, t) = Q_t(P_s(x)) of the marginals' distribution functions: `rearrangement` computes it with no ODE and no
velocity.
"""

import math

import torch
from torch import nn

import flowmaps as fm
from flowmaps import path as paths

PATHS = {
    "linear": paths.linear,
    "trigonometric": paths.trigonometric,
    "preserving": paths.VariancePreserving(0.1, 6.0),
    "exploding": paths.VarianceExploding(3.0),
}


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def times(n, seed=1, low=0.05, high=0.95):
    """n pairs (s, t) in both directions of time, a little away from its ends and from each other."""
    s, t = low + (high - low) * torch.rand(2, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    near = (s - t).abs() < 0.05
    return s, torch.where(near, 1 - t, t)


def gaussian(path=paths.linear):
    """N(mean, covariance) in three dimensions, its covariance full."""
    root = torch.tensor([[0.9, 0.0, 0.0], [0.4, 0.5, 0.0], [-0.3, 0.2, 0.7]], dtype=torch.float64)
    return fm.exact.Gaussian([0.3, -1.0, 0.5], covariance=root @ root.T, path=path)


def mixture(path=paths.linear):
    """Three components in one dimension, of unlike weight and width."""
    return fm.exact.GaussianMixture([0.3, 0.5, 0.2], [-1.5, 0.2, 1.4], [0.25, 0.4, 0.15], path=path)


class Jumps(nn.Module):
    """An exact distribution as a network that predicts the average velocity."""

    def __init__(self, exact):
        super().__init__()
        self.exact = exact

    def forward(self, x, s, t):
        return self.exact.average_velocity(x, s, t)


def flow_of(exact):
    """An exact distribution as a FlowMap."""
    return fm.FlowMap(Jumps(exact), path=exact.path)


def jacobian_product(exact, x, s, t, direction):
    """grad_x F(x, s, t) . direction of a Gaussian, by the square roots of the marginal covariances."""
    return exact.flow_map(x + direction, s, t) - exact.flow_map(x, s, t)


def normal_cdf(x):
    return 0.5 * torch.erfc(-x / math.sqrt(2))


def cdf(mixture, x, t):
    """P_t(x) of a one-dimensional mixture; x (N,), t a number."""
    centres, scales = _marginal(mixture, t)
    return (mixture.weights * normal_cdf((x[:, None] - centres) / scales)).sum(1)


def density(mixture, x, t):
    """p_t(x) of a one-dimensional mixture by torch.distributions; x (N,), t a number."""
    return marginal(mixture, t).log_prob(x).exp()


def marginal(mixture, t):
    """The law of x_t of a one-dimensional mixture as a torch distribution."""
    components = torch.distributions.Normal(*_marginal(mixture, t))
    return torch.distributions.MixtureSameFamily(torch.distributions.Categorical(mixture.weights), components)


def quantile(mixture, p, t):
    """Q_t(p) by bisection, to the last digits."""
    low, high = torch.full_like(p, -50.0), torch.full_like(p, 50.0)
    for _ in range(80):
        middle = (low + high) / 2
        below = cdf(mixture, middle, t) < p
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def rearrangement(mixture, x, s, t):
    """F(x, s, t) = Q_t(P_s(x)) in one dimension; x (N, 1), s and t numbers."""
    return quantile(mixture, cdf(mixture, x[:, 0], s), t)[:, None]


def _marginal(mixture, t):
    t = torch.as_tensor(t, dtype=torch.float64)
    alpha, sigma = mixture.path.alpha(t), mixture.path.sigma(t)
    return alpha * mixture.means[:, 0], (alpha**2 * mixture.stds**2 + sigma**2).sqrt()
