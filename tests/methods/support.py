"""Every method with its plain settings, a small network, and one batch."""

import torch
from torch import nn

import flowmaps as fm
from flowmaps.methods import LANDSCAPE
from flowmaps.weight import squared
from tests.oracles import randn, times

PLAIN = {
    "flow_matching": {},
    "lmd": {},
    "lsd": {},
    "ayf_lmd": {"weight": squared, "warm_up": 0},
    "emd": {},
    "esd": {},
    "ayf_emd": {"weight": squared, "warm_up": 0},
    "meanflow": {"weight": squared},
    "imf": {"weight": squared},
    "shortcut": {},
    "splitmeanflow": {},
    "psd": {},
    "pfmm": {},
}
DISTILLED = [row.name for row in LANDSCAPE if row.needs_teacher]
CONSISTENCY_TERM = {row.name: row.rule for row in LANDSCAPE}


def build(name, teacher=None, **options):
    """A method with squared residuals and nothing that warms up."""
    given = {"teacher": teacher} if name in DISTILLED else {}
    return getattr(fm.methods, name)(**given, **PLAIN[name], **options)


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
