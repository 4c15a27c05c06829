"""Easy consistency tuning (Geng et al. 2024, arXiv 2406.14548), sigma = s/(1 - s) on the linear path."""

import torch
from torch import Tensor, nn


def draw(x0: Tensor) -> tuple[Tensor, Tensor]:
    """Noise, and times whose noise level is log-normal."""
    return torch.randn_like(x0), torch.sigmoid(2.0 * torch.randn(len(x0), device=x0.device) - 1.1)


def loss(network: nn.Module, x0: Tensor, eps: Tensor, s: Tensor, divisor: float = 2.0**5) -> Tensor:
    """|F(x_s, s, 0) - sg[F(x_m, m, 0)]|/(sigma_s - sigma_m),  sigma_m = sigma_s max(0, 1 - (1 + 8
    sigmoid(-sigma_s))/divisor): the fifth stage."""
    sigma = (s / (1 - s)).clamp(max=80)
    level = sigma * (1 - (1 + 8 * torch.sigmoid(-sigma)) / divisor).clamp(min=0)
    m, zero = level / (1 + level), torch.zeros_like(s)
    s_, m_ = (time.reshape(-1, *[1] * (x0.ndim - 1)) for time in (s, m))
    x_s, x_m = (1 - s_) * x0 + s_ * eps, (1 - m_) * x0 + m_ * eps
    here = x_s - s_ * network(x_s, s, zero)
    with torch.no_grad():
        there = x_m - m_ * network(x_m, m, zero)
    distance = (here - there).flatten(1).norm(dim=1)
    return (distance / (sigma - level).clamp(min=1e-6)).mean()
