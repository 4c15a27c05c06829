"""Progressive self-distillation with a uniform fraction (Boffi et al. 2025, arXiv 2505.18825).

A quarter of the batch trains the map, the rest the velocity on the diagonal.
"""

import torch
from torch import Tensor, nn

from benchmarks.baselines import flow_matching, lsd


def draw(x0: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Noise and times as for LSD, and the fraction."""
    return *lsd.draw(x0), torch.rand(len(x0), device=x0.device)


def loss(
    network: nn.Module, x0: Tensor, eps: Tensor, s: Tensor, t: Tensor, g: Tensor, diagonal: float = 0.75
) -> Tensor:
    """0.75 |v(x_s, s) - (eps - x_0)|^2 + 0.25 |V(x_s, s, t) - sg[(1 - g) V(x_s, s, m) + g V(x_m, m, t)]|^2."""
    k = int(diagonal * len(x0))
    velocity = flow_matching.loss(network, x0[:k], eps[:k], s[:k])
    x0, eps, s, t, g = x0[k:], eps[k:], s[k:], t[k:], g[k:]
    m = g * s + (1 - g) * t
    s_, m_, g_ = (time.reshape(-1, *[1] * (x0.ndim - 1)) for time in (s, m, g))
    x = (1 - s_) * x0 + s_ * eps
    V = network(x, s, t)
    with torch.no_grad():
        first = network(x, s, m)
        target = (1 - g_) * first + g_ * network(x + (m_ - s_) * first, m, t)
    return diagonal * velocity + (1 - diagonal) * (V - target).square().mean()
