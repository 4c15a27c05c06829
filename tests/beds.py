"""Mixtures with rewards whose tilted laws are known: the test beds of steering, with their numbers.

A bed has a law, a reward, the tilted law where it is a mixture again, and numbers to compare with. The numbers are held
against quadrature in `tests/exact/test_tilted.py`, apart from the closed forms of the library.

- A: three components in 2-D and a linear reward.
- B: a ring of eight and the reward -min(x1, 0)^2, which prefers the right half.
- C: three components in 2-D and a sharp measurement of one direction.
- D: a ring of eight and the label of the class {0, 1, 4}.
- E: a standard normal and the reward -(x - 2)^2 / 2.
- G: two components in 1-D and the linear reward 0.75 x.
"""

import math
from dataclasses import dataclass, field

import torch

import flowmaps as fm
from flowmaps.exact import Quadratic


@dataclass(frozen=True)
class Polynomial:
    """A quadratic reward, as a function that tells its form."""

    form: Quadratic

    def quadratic(self, shape):
        return self.form

    def __call__(self, x0):
        return self.form(x0)


@dataclass(frozen=True)
class Bed:
    """A law, a reward, and numbers."""

    law: fm.exact.GaussianMixture
    reward: object
    numbers: dict = field(default_factory=dict)

    def on(self, path):
        """The same bed on another path."""
        law = self.law
        stds, covariances = law.stds, None if law.stds is not None else law.covariances
        moved = fm.exact.GaussianMixture(law.weights, law.means, stds, covariances=covariances, path=path)
        reward = self.reward
        if isinstance(reward, fm.exact.Components):
            reward = fm.exact.Components(moved, reward.chosen)
        return Bed(moved, reward, self.numbers)

    @property
    def tilted(self):
        """The tilted law and log Z; bed B has none."""
        return self.law.tilted(self.reward)

    def value(self, x, t):
        """The exact value log E[e^r | x_t = x], from the closed form of the tilted law."""
        tilted, log_z = self.tilted
        return tilted.log_prob(x, t) - self.law.log_prob(x, t) + log_z


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def linear(*c):
    """The reward c . x."""
    return Polynomial(Quadratic(tensor(*c)))


def likelihood(A, y, std):
    """The reward log N(y; A x, std^2 I)."""
    A, y = torch.as_tensor(A, dtype=torch.float64), torch.as_tensor(y, dtype=torch.float64)
    constant = -(y @ y) / (2 * std**2) - len(y) * math.log(2 * math.pi * std**2) / 2
    return Polynomial(Quadratic(A.T @ y / std**2, A.T @ A / std**2, constant))


def ring(radius, std):
    """Eight components on a circle."""
    angle = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    return fm.exact.GaussianMixture([1 / 8] * 8, radius * torch.stack([angle.cos(), angle.sin()], 1), std)


def right_half(x):
    """Bed B's reward, -min(x1, 0)^2."""
    return -(x[:, 0].clamp(max=0) ** 2)


def bed_a():
    law = fm.exact.GaussianMixture([0.5, 0.3, 0.2], [[-1.5, 0.5], [1.2, 1.0], [0.3, -1.4]], [0.4, 0.3, 0.5])
    numbers = {"log_z": 0.71894, "weights": (0.0771, 0.8465, 0.0764), "reward": 1.44657, "prior_reward": -0.195,
               "kl": 0.72763, "ess": 0.36667}  # fmt: skip
    return Bed(law, linear(1.0, 0.5), numbers)


def bed_b():
    return Bed(ring(5.0, 0.5), right_half, {"log_z": -0.50731, "right": 0.83033, "reward": -0.02872})


def bed_c():
    law = fm.exact.GaussianMixture([1 / 3] * 3, [[-3.0, -3.0], [0.0, 0.0], [3.0, 3.0]], math.sqrt(0.5))
    numbers = {"log_z": -1.51519, "weights": (0.5716, 0.3665, 0.0619), "spread": 0.19813, "direction": (1.2, -0.8),
               "y": -1.0, "std": 0.2, "covariance": ((0.1667, 0.2222), (0.2222, 0.3519)),
               "means": ((-2.8889, -3.0741), (-0.5556, 0.3704), (1.7778, 3.8148))}  # fmt: skip
    return Bed(law, likelihood([[1.2, -0.8]], [-1.0], 0.2), numbers)


def bed_d():
    law = ring(2.0, 0.3)
    return Bed(law, fm.exact.Components(law, [0, 1, 4]), {"log_z": -0.98083, "classes": (0, 1, 4)})


def bed_e():
    return Bed(fm.exact.GaussianMixture([1.0], [0.0], 1.0), Polynomial(Quadratic(tensor(2.0), tensor([1.0]), -2.0)))


def bed_g():
    numbers = {"weights": (0.043, 0.957), "moments": (0.979, 1.997)}  # of x0 given x_t = .3 at t = .5
    return Bed(fm.exact.GaussianMixture([0.6, 0.4], [-2.0, 1.5], 0.5), linear(1.0), numbers)


BEDS = {"A": bed_a, "B": bed_b, "C": bed_c, "D": bed_d, "E": bed_e, "G": bed_g}


def grid(law, spacing=0.04):
    """Points of quadrature over the law's coordinates, and the logarithm of p(x) times the volume of each.

    The sum over an even grid is exact to rounding for smooth densities that it resolves.
    """
    size, far = law.means[0].numel(), float(law.means.abs().max() + 8 * law.covariances.amax().sqrt()) + 1
    line = spacing * torch.arange(-round(far / spacing), round(far / spacing) + 1, dtype=torch.float64)  # with 0
    points = torch.cartesian_prod(*[line] * size).reshape(-1, size)
    components = [
        torch.distributions.MultivariateNormal(mean.flatten(), covariance)
        for mean, covariance in zip(law.means, law.covariances, strict=True)
    ]
    joint = torch.stack([part.log_prob(points) for part in components], 1) + law.weights.log()
    return points, joint.logsumexp(1) + size * math.log(spacing)


def row_sum(x0):
    """The reward sum of a row's values."""
    return x0.flatten(1).sum(1)
