"""MeanFlow (Geng et al. 2025, arXiv 2505.13447, algorithm 1) in its usual form.

The derivative is computed for the whole batch, with r = t in three quarters of its rows.
"""

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


def draw(x0: Tensor, diagonal: float = 0.75) -> tuple[Tensor, Tensor, Tensor]:
    """Noise, t >= r logit-normal, and r = t in the first rows."""
    a, b = torch.sigmoid(torch.randn(2, len(x0), device=x0.device) - 0.4)
    t, r = torch.maximum(a, b), torch.minimum(a, b)
    same = torch.arange(len(x0), device=x0.device) < diagonal * len(x0)
    return torch.randn_like(x0), t, torch.where(same, t, r)


def loss(network: nn.Module, x0: Tensor, eps: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """|u - sg[v - (t - r) du/dt]|^2 under the adaptive weight with power 1."""
    t_, r_ = (time.reshape(-1, *[1] * (x0.ndim - 1)) for time in (t, r))
    z = (1 - t_) * x0 + t_ * eps
    v = eps - x0
    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no forward mode
        u, dudt = torch.func.jvp(network, (z, t, r), (v, torch.ones_like(t), torch.zeros_like(r)))
    error = u - (v - (t_ - r_) * dudt).detach()
    square = error.square().flatten(1).sum(1)
    return (square / (square.detach() + 1e-2)).mean()
