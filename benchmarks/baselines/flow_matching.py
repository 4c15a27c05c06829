"""Flow matching (Lipman et al. 2023, arXiv 2210.02747), times logit-normal."""

import torch
from torch import Tensor, nn


def draw(x0: Tensor) -> tuple[Tensor, Tensor]:
    """Noise and times."""
    return torch.randn_like(x0), torch.sigmoid(torch.randn(len(x0), device=x0.device))


def loss(network: nn.Module, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """|v(x_t, t) - (eps - x_0)|^2."""
    t_ = t.reshape(-1, *[1] * (x0.ndim - 1))
    x = (1 - t_) * x0 + t_ * eps
    return (network(x, t, t) - (eps - x0)).square().mean()
