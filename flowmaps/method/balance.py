"""Losses held in proportion: functions (first loss of the method, this loss, flow) -> a factor for this one.

Sizes are means over the whole batch, also where processes share it; where a process takes its rows in several parts,
over the parts that are taken together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..flow_map import FlowMap
from .term import Balance, TermLoss


def residual_ratio(strength: float = 1.0, c: float = 1e-6) -> Balance:
    """strength * mean |r_first| / (mean |r| + c), so that both residuals push equally hard (FreeFlow, arXiv
    2511.19428).
    """

    def factor(first: TermLoss, this: TermLoss, flow: FlowMap) -> Tensor:
        sizes = [loss.mean(loss.residual.detach().flatten(1).norm(dim=1)) for loss in (first, this)]
        return strength * sizes[0] / (sizes[1] + c)

    return factor


def gradient_ratio(strength: float = 1.0, low: float = 0.0, high: float = 10.0) -> Balance:
    """strength * |grad L_first| / |grad L| for the weights of the network's last layer, held between `low` and `high`
    (Esser et al. 2021, arXiv 2012.09841, eq. 7; CTM, arXiv 2310.02279).
    """

    def factor(first: TermLoss, this: TermLoss, flow: FlowMap) -> Tensor:
        matrices = [weight for weight in flow.network.parameters() if weight.requires_grad and weight.ndim > 1]
        if not matrices:
            raise ValueError("losses can only be held in proportion where the network has a matrix of weights")
        sizes = [loss.rows.mean(_gradient(loss.value, matrices[-1])).norm() for loss in (first, this)]
        return strength * (sizes[0] / (sizes[1] + 1e-8)).clamp(low, high)

    return factor


def _gradient(value: Tensor, weight: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(value, weight, retain_graph=True, allow_unused=True)
    return torch.zeros_like(weight) if gradient is None else gradient
