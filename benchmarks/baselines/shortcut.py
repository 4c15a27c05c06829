"""Shortcut models (Frans et al. 2024, arXiv 2410.12557, algorithm 1).

A quarter of the batch trains jumps of 2h towards two jumps of h with averaged weights, the rest the velocity.
"""

import torch
from torch import Tensor, nn

from benchmarks.baselines import flow_matching


def draw(x0: Tensor, diagonal: float = 0.75, levels: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Noise, times on a dyadic grid, and t = s in the first rows."""
    rows, device = len(x0), x0.device
    cells = 2.0 ** torch.randint(levels, (rows,), device=device)
    t = torch.floor(torch.rand(rows, device=device) * cells) / cells
    start = torch.randint(1, 2**levels + 1, (rows,), device=device) / 2**levels
    same = torch.arange(rows, device=device) < diagonal * rows
    return torch.randn_like(x0), torch.where(same, start, t + 1 / cells), torch.where(same, start, t)


def loss(
    network: nn.Module, x0: Tensor, eps: Tensor, s: Tensor, t: Tensor, *, averaged: nn.Module, diagonal: float = 0.75
) -> Tensor:
    """0.75 |v(x_s, s) - (eps - x_0)|^2 + 0.25 |V(x_s, s, t) - sg[mean of two jumps to t]|^2."""
    k = int(diagonal * len(x0))
    velocity = flow_matching.loss(network, x0[:k], eps[:k], s[:k])
    x0, eps, s, t = x0[k:], eps[k:], s[k:], t[k:]
    m = (s + t) / 2
    s_, m_ = (time.reshape(-1, *[1] * (x0.ndim - 1)) for time in (s, m))
    x = (1 - s_) * x0 + s_ * eps
    with torch.no_grad():
        first = averaged(x, s, m)
        target = (first + averaged(x + (m_ - s_) * first, m, t)) / 2
    return diagonal * velocity + (1 - diagonal) * (network(x, s, t) - target).square().mean()
