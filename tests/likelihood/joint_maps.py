"""Joint maps whose V and D are known exactly, in float64."""

import torch
from torch import nn

import flowmaps as fm
from flowmaps.networks import WithDivergence
from tests.oracles import Jumps, gaussian, normal_cdf

LAW = fm.exact.GaussianMixture([0.3, 0.5, 0.2], [-1.5, 0.2, 1.4], [0.25, 0.4, 0.35])
"""Three components in one dimension."""
SCALE = 1.7


def ends(law, t):
    """Centres and scales of x_t of the components, (B, K) for times (B,)."""
    alpha, sigma = law.path.alpha(t)[:, None], law.path.sigma(t)[:, None]
    return alpha * law.means[:, 0], (alpha**2 * law.stds**2 + sigma**2).sqrt()


def log_density(law, x, t):
    """log p_t(x) for x (B, 1) and times (B,), apart from the library."""
    centres, scales = ends(law, t)
    return (law.weights.log() + torch.distributions.Normal(centres, scales).log_prob(x)).logsumexp(1)


def rearranged(law, x, s, t):
    """F(x, s, t) = Q_t(P_s(x)) for each row, by bisection."""
    (a, b), (c, d) = ends(law, s), ends(law, t)
    p = (law.weights * normal_cdf((x - a) / b)).sum(1)
    low, high = torch.full_like(p, -50.0), torch.full_like(p, 50.0)
    for _ in range(80):
        middle = (low + high) / 2
        below = (law.weights * normal_cdf((middle[:, None] - c) / d)).sum(1) < p
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return ((low + high) / 2)[:, None]


class MixtureJumps(nn.Module):
    """The average velocity of the mixture."""

    def forward(self, x, s, t):
        same = (s == t)[:, None]
        gap = torch.where(same, torch.ones_like(same, dtype=x.dtype), (t - s)[:, None])
        return torch.where(same, LAW.velocity(x, s), (rearranged(LAW, x, s, t) - x) / gap)


class MixtureHead(nn.Module):
    """The mean divergence of the mixture, from differences of its log-density; divided by SCALE."""

    def forward(self, x, s, t):
        same, gap = s == t, torch.where(s == t, torch.ones_like(s), t - s)
        mean = (log_density(LAW, x, s) - log_density(LAW, rearranged(LAW, x, s, t), t)) / gap
        return torch.where(same, self.divergence(x, s), mean)[:, None] / SCALE

    def divergence(self, x, s):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(LAW.velocity(x, s).sum(), x)[0][:, 0]


class GaussianHead(nn.Module):
    """The mean divergence of a Gaussian: half the slope of log det of the covariance of x_t; divided by SCALE."""

    def __init__(self, law, shape=(3,)):
        super().__init__()
        self.law = law

    def forward(self, x, s, t):
        path, variances = self.law.path, self.law.variances

        def log_scale(u):
            return (path.alpha(u)[:, None] ** 2 * variances + path.sigma(u)[:, None] ** 2).log().sum(1) / 2

        same = s == t
        gap = torch.where(same, torch.ones_like(s), t - s)
        alpha, sigma = path.alpha(s)[:, None], path.sigma(s)[:, None]
        slopes = alpha * path.alpha_slope(s, s)[:, None] * variances + sigma * path.sigma_slope(s, s)[:, None]
        here = (slopes / (alpha**2 * variances + sigma**2)).sum(1)
        return torch.where(same, here, (log_scale(t) - log_scale(s)) / gap)[:, None] / SCALE + 0 * x[:, :1]


class Scaled(nn.Module):
    """A head times a factor: a wrong one unless it is 1."""

    def __init__(self, head, factor):
        super().__init__()
        self.head, self.factor = head, factor

    def forward(self, x, s, t):
        return self.factor * self.head(x, s, t)


class Instant(nn.Module):
    """The divergence at the source time for the mean divergence: wrong off the diagonal."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, x, s, t):
        return self.head(x, s, s)


def mixture_map(head=None):
    """The exact joint map of the mixture."""
    return fm.FlowMap(WithDivergence(MixtureJumps(), MixtureHead() if head is None else head, SCALE))


def gaussian_map(head=None, path=fm.path.linear, **limits):
    """The exact joint map of a Gaussian with a full covariance, and the law."""
    law = gaussian(path)
    network = WithDivergence(Jumps(law), GaussianHead(law) if head is None else head, SCALE)
    return fm.FlowMap(network, path=law.path, **limits), law


def trained_head(flow, x0, **options):
    """A small joint map whose head has values, as after training."""
    found = fm.likelihood.joint_map(flow, x0, **options)
    nn.init.normal_(found.network.head.output.weight, std=0.1)
    return found
