"""Lagrangian self-distillation (Boffi et al. 2025, arXiv 2505.18825).

A quarter of the batch trains the map, the rest the velocity on the diagonal.
"""

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.baselines import flow_matching


def draw(x0: Tensor, diagonal: float = 0.75) -> tuple[Tensor, Tensor, Tensor]:
    """Noise, s >= t uniform, and t = s in the first rows."""
    a, b = torch.rand(2, len(x0), device=x0.device)
    same = torch.arange(len(x0), device=x0.device) < diagonal * len(x0)
    s = torch.where(same, a, torch.maximum(a, b))
    return torch.randn_like(x0), s, torch.where(same, a, torch.minimum(a, b))


def loss(network: nn.Module, x0: Tensor, eps: Tensor, s: Tensor, t: Tensor, diagonal: float = 0.75) -> Tensor:
    """0.75 |v(x_s, s) - (eps - x_0)|^2 + 0.25 |V + (t - s) dV/dt - sg[v(F, t)]|^2."""
    k = int(diagonal * len(x0))
    velocity = flow_matching.loss(network, x0[:k], eps[:k], s[:k])
    x0, eps, s, t = x0[k:], eps[k:], s[k:], t[k:]
    s_, t_ = (time.reshape(-1, *[1] * (x0.ndim - 1)) for time in (s, t))
    x = (1 - s_) * x0 + s_ * eps
    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no forward mode
        V, dV = torch.func.jvp(lambda time: network(x, s, time), (t,), (torch.ones_like(t),))
    with torch.no_grad():
        target = network(x + (t_ - s_) * V, t, t)
    return diagonal * velocity + (1 - diagonal) * (V + (t_ - s_) * dV - target).square().mean()
