"""Every method with its plain settings, a small network, and one batch."""

import torch
from torch import nn

import flowmaps as fm
from flowmaps.methods import LANDSCAPE
from flowmaps.weight import squared
from tests.oracles import randn, times

STEP = 0.3
"""The share of the interval that finite steps take here."""
PLAIN = dict.fromkeys((row.name for row in LANDSCAPE), {}) | {
    "ayf_lmd": {"weight": squared, "warm_up": 0},
    "ayf_emd": {"weight": squared, "warm_up": 0},
    "facm": {"weight": squared},
    "meanflow": {"weight": squared},
    "imf": {"weight": squared},
    "soflow": {"weight": squared, "ratio": lambda progress: STEP},
    "alphaflow": {"weight": squared, "ratio": lambda progress: STEP},
    "dmf": {"weight": squared},
    "rectified_meanflow": {"weight": squared},
    "pixel_meanflow": {"weight": squared},
    "ict": {"distance": squared},
    "ect": {"distance": squared},
    "sct": {"weight": squared, "warm_up": 0, "c": 0},
    "scd": {"weight": squared, "warm_up": 0, "c": 0},
    "lcm": {"weight": squared},
}
DISTILLED = [row.name for row in LANDSCAPE if row.needs_teacher]
CONSISTENCY_TERM = {row.name: row.rule for row in LANDSCAPE}


def build(name, teacher=None, **options):
    """A method with squared residuals and nothing that warms up."""
    given = {"teacher": teacher} if name in DISTILLED else {}
    return getattr(fm.methods, name)(**given, **PLAIN[name] | options)


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
