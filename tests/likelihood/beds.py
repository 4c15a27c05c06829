"""Laws, maps and helpers of the tests of likelihood."""

import torch
from torch import nn

import flowmaps as fm
from tests.beds import bed_a

LAW = bed_a().law
"""Three components in the plane."""

EXACT = fm.likelihood.exact(chunk=1)
"""The exact trace, one derivative after another: faster than `torch.func` for two values in a row."""


class Table(fm.likelihood.Differences):
    """Differences along (1, 1) and (1, -1), whose mean is exact in the plane."""

    def draw(self, x):
        table = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=x.dtype)
        return table[:, None].expand(2, *x.shape)


def on(path):
    """The same law on another path."""
    return bed_a().on(path).law


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draws(n, seed=0, law=LAW):
    return law.sample(n, torch.Generator().manual_seed(seed)).double()


class Jumping:
    """The flow map of an exact distribution by classical Runge-Kutta steps, plus an error of a given size.

    F(x, s, t) + error (s - t) sin 2x: with an error it is no flow map any more, but still invertible.
    """

    def __init__(self, law=LAW, error=0.0, steps=30):
        self.law, self.error, self.path = law, error, law.path
        self.solver = fm.likelihood.grid(steps)

    def velocity(self, x, t):
        return self.law.velocity(x, t)

    def __call__(self, x, s, t):
        return self.solver(self.law.velocity, x, s, t) + self.error * (s - t) * (2 * x).sin()


class Affine(nn.Module):
    """A network whose average velocity is affine in the state, V = A x + b: everything is known."""

    def __init__(self, matrix, offset=None):
        super().__init__()
        self.matrix = nn.Parameter(torch.as_tensor(matrix))
        self.offset = nn.Parameter(torch.zeros(len(self.matrix)) if offset is None else torch.as_tensor(offset))

    def forward(self, x, s, t):
        return x @ self.matrix.T.to(x) + self.offset.to(x)


def network(width=16, seed=0, **kinds):
    """A small flow map with random weights, none of them zero, in float64."""
    torch.manual_seed(seed)
    flow = fm.FlowMap(fm.networks.ConcatMLP((2,), width=width, depth=2, **kinds)).double()
    for weight in flow.parameters():
        nn.init.normal_(weight, std=0.3)
    return flow.eval()


def standard_error(values):
    return float(values.double().std() / len(values) ** 0.5)
