"""Laws whose tilts are known in closed form, and maps to steer."""

import math

import torch

import flowmaps as fm
from flowmaps import steps

LINEAR, TRIGONOMETRIC = fm.path.linear, fm.path.trigonometric


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def noise(n, dimensions=2, seed=0):
    return torch.randn(n, dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def three(path=LINEAR):
    """Bed A: three components in the plane; its tilt by `SLOPE` has log Z = .71894."""
    means = tensor([-1.5, 0.5], [1.2, 1.0], [0.3, -1.4])
    return fm.exact.GaussianMixture([0.5, 0.3, 0.2], means, [0.4, 0.3, 0.5], path=path)


SLOPE = tensor(1.0, 0.5)


def ring(radius, std, path=LINEAR):
    """Eight components on a circle."""
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    return fm.exact.GaussianMixture([1 / 8] * 8, radius * torch.stack([angle.cos(), angle.sin()], 1), std, path=path)


def left(x0):
    """Bed B's reward, which punishes x1 < 0."""
    return -(x0[:, 0].clamp(max=0) ** 2)


def diagonal(path=LINEAR):
    """Bed C: three wide components, one measured direction."""
    means = tensor([-3.0, -3.0], [0.0, 0.0], [3.0, 3.0])
    return fm.exact.GaussianMixture([1 / 3] * 3, means, math.sqrt(0.5), path=path)


MEASURED = tensor([1.2, -0.8])


def measurement():
    """Bed C's measurement y = 1.2 x1 - .8 x2 + .2 n = -1, with log p(y) = -1.51519."""
    return fm.rewards.Likelihood(MEASURED, tensor(-1.0), 0.2)


class Coarse:
    """The flow map of an exact distribution by a few Heun steps, which is quick to differentiate."""

    def __init__(self, exact, count=8):
        self.exact, self.count, self.path = exact, count, exact.path

    def velocity(self, x, t):
        return self.exact.velocity(x, t)

    def denoise(self, x, t):
        return self.exact.denoise(x, t)

    def average_velocity(self, x, s, t):
        return (self(x, s, t) - x) / (t - s)

    def __call__(self, x, s, t):
        times = [s + (t - s) * k / self.count for k in range(self.count)] + [t]
        for a, b in zip(times, times[1:], strict=False):
            x = steps.heun(self.exact, x, a, b)
        return x


class Draws:
    """Look-ahead by exact draws of the posterior."""

    from_map = False

    def __init__(self, mixture, n):
        self.mixture, self.n = mixture, n

    def __call__(self, flow, x, t):
        if t == 0:
            return fm.look.Outlook(x.expand(self.n, *x.shape))
        return fm.look.Outlook(self.mixture.posterior_of_data(x, t).sample(self.n))


def exact_value(mixture, reward):
    """The exact value, log p*_t - log p_t + log Z."""
    tilted, log_z = mixture.tilted(reward)
    return lambda flow, x, t: tilted.log_prob(x, t) - mixture.log_prob(x, t) + log_z


def grid(n, start=0.999):
    return [start * (1 - k / n) for k in range(n)] + [0.0]


def standard_error(values):
    return float(values.std() / len(values) ** 0.5)
