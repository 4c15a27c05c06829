"""Every method with its plain settings, a small network, and one batch."""

import inspect

import torch
from torch import nn

from flowmaps.methods import LANDSCAPE
from flowmaps.weight import squared
from tests.oracles import randn, times

DRAWS = 200_000
"""Rows of a sampler in statistical tests."""
STEP = 0.3
"""The share of the interval that finite steps take here."""
ROWS = {row.name: row for row in LANDSCAPE}
PLAIN = {"weight": squared, "distance": squared, "ratio": lambda progress: STEP, "warm_up": 0, "c": 0}
"""Options under which residuals are squared and nothing warms up, by the names that methods give them."""


def build(name, teacher=None, **options):
    """A method with its plain settings."""
    row = ROWS[name]
    given = {"teacher": teacher} if row.needs_teacher else {}
    plain = {option: PLAIN[option] for option in inspect.signature(row.build).parameters if option in PLAIN}
    return row.build(**given, **plain | options)


class Network(nn.Module):
    """Two smooth layers on everything, in float64."""

    def __init__(self, size=3, width=16, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.inner, self.outer = nn.Linear(size + 2, width).double(), nn.Linear(width, size).double()

    def forward(self, x, s, t):
        return self.outer(torch.tanh(self.inner(torch.cat([x, s[:, None], t[:, None]], 1))))


def batch(n=12, size=3):
    """Data, noise and pairs of times in both directions."""
    return randn(n, size, seed=3), randn(n, size, seed=4), times(n, seed=5)


def absolute(a, b):
    """A distance for vectors, in the place of LPIPS."""
    return (a - b).abs().mean(1, keepdim=True)


def made(row, teacher=None, **options):
    """A variant with a distance that needs no weights."""
    known = inspect.signature(row.build).parameters
    options = {"compare": absolute} | options if "compare" in known else options
    return row.build(**({"teacher": teacher} if row.needs_teacher else {}), **options)


def drawn(term, progress=0.5, n=DRAWS):
    """(s, t) of a term, in float64."""
    torch.manual_seed(0)
    return term.at(progress).times(n, progress, torch.zeros(n, dtype=torch.float64))
