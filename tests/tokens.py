"""Laws of tokens, and small maps of them, for the tests of discrete data."""

import torch
from torch import nn

import flowmaps as fm


def table():
    """Two correlated letters of three; entropy 1.529677, the product of the marginals is .44234 away."""
    weights = torch.zeros(3, 3, dtype=torch.float64)
    for word, weight in {(0, 0): 6, (1, 1): 6, (2, 2): 6, (0, 2): 3, (2, 0): 2}.items():
        weights[word] = weight / 23
    return weights


def parity():
    """Three bits of even parity, uniform; the product of the marginals is .5 away."""
    weights = torch.zeros(2, 2, 2, dtype=torch.float64)
    for word in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)):
        weights[word] = 0.25
    return weights


class TokenMLP(nn.Module):
    """Logits (B, L, K) of a state of this shape, or of shape (B, L, inputs), and of two times."""

    def __init__(self, length, classes, width=16, depth=1, inputs=None, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.shape = (length, classes)
        sizes = [length * (inputs or classes) + 18, *[width] * depth]
        inner = [layer for a, b in zip(sizes, sizes[1:], strict=False) for layer in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(*inner, nn.Linear(width, length * classes))
        self.register_buffer("frequencies", torch.pi / 2 * 2 ** torch.arange(4.0))

    def forward(self, x, s, t):
        waves = [wave(time[:, None] * self.frequencies) for time in (s, t) for wave in (torch.sin, torch.cos)]
        found = torch.cat([x.flatten(1), s[:, None], t[:, None], *waves], 1)
        return self.layers(found.to(x.dtype)).reshape(len(x), *self.shape)


def token_flow(law, dtype=torch.float64, link=fm.links.softmax, **sizes):
    """A flow map of one-hot rows of a law, with new weights."""
    return fm.FlowMap(TokenMLP(*law.shape, **sizes).to(dtype), fm.Endpoint(link=link))


def table_tv(law, tokens):
    """Total variation between the law and a sample of tokens (n, L)."""
    counts = torch.zeros_like(law.table)
    counts.index_put_(tokens.unbind(1), torch.ones(len(tokens), dtype=counts.dtype), accumulate=True)
    return float((counts / len(tokens) - law.table).abs().sum()) / 2
