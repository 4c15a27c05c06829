"""Improved MeanFlow (Geng et al. 2025, arXiv 2512.02012).

The derivative is along the network's own velocity, and the regression target is the conditional velocity. The whole
batch is used, with r = t in half of its rows.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.baselines import meanflow

draw = partial(meanflow.draw, diagonal=0.5)


def loss(network: nn.Module, x0: Tensor, eps: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """|u + (t - r) sg[du/dt] - (eps - x_0)|^2 under the adaptive weight with power 1."""
    t_, r_ = (time.reshape(-1, *[1] * (x0.ndim - 1)) for time in (t, r))
    z = (1 - t_) * x0 + t_ * eps
    with torch.no_grad():
        v = network(z, t, t)
    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no forward mode
        u, dudt = torch.func.jvp(network, (z, t, r), (v, torch.ones_like(t), torch.zeros_like(r)))
    error = u + (t_ - r_) * dudt.detach() - (eps - x0)
    square = error.square().flatten(1).sum(1)
    return (square / (square.detach() + 1e-2)).mean()
