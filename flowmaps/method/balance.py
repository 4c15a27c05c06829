"""Adaptive factors that keep two losses in proportion: functions (first loss, this loss, flow) -> factor.

The first loss is the method's first. Averages are taken over the whole batch, including the rows of other processes.
If a process splits its rows into accumulated parts, each average is over one part of all processes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import checked, finite, within
from ..flow_map import FlowMap
from .term import Balance, TermLoss


@checked
def residual_ratio(strength: float = 1.0, c: float = 1e-6) -> Balance:
    """Factor strength * mean |r_first| / (mean |r| + c), which makes both residuals equally large.

    Args:
        strength: Factor of the ratio.
        c: Small constant against division by zero.

    Returns:
        The balance. FreeFlow, arXiv 2511.19428.
    """
    within(0, math.inf, c=c)

    def factor(first: TermLoss, this: TermLoss, flow: FlowMap) -> Tensor:
        sizes = [loss.mean(loss.residual.detach().flatten(1).norm(dim=1)) for loss in (first, this)]
        return strength * sizes[0] / (sizes[1] + c)

    return factor


def gradient_ratio(strength: float = 1.0, low: float = 0.0, high: float = 10.0) -> Balance:
    """Factor strength * |grad L_first| / |grad L|, with gradients of the last weight matrix of the network.

    Args:
        strength: Factor of the ratio.
        low: Least value of the ratio.
        high: Largest value of the ratio.

    Returns:
        The balance, which raises ValueError if the network has no trainable weight matrix. Esser et al. 2021, arXiv
        2012.09841, eq. 7; CTM, arXiv 2310.02279.
    """
    finite(strength=strength, low=low)
    if not low <= high:
        raise ValueError(f"a ratio is cut to the interval from low to high, got low={low} and high={high}")

    def factor(first: TermLoss, this: TermLoss, flow: FlowMap) -> Tensor:
        matrices = [weight for weight in flow.network.parameters() if weight.requires_grad and weight.ndim > 1]
        if not matrices:
            raise ValueError("gradient_ratio needs a network with a trainable weight matrix, but this one has none")
        sizes = [loss.rows.mean(_gradient(loss.value, matrices[-1])).norm() for loss in (first, this)]
        return strength * (sizes[0] / (sizes[1] + 1e-8)).clamp(low, high)

    return factor


def _gradient(value: Tensor, weight: Tensor) -> Tensor:
    """Gradient of a loss with respect to a weight; zero if the loss does not depend on it."""
    (gradient,) = torch.autograd.grad(value, weight, retain_graph=True, allow_unused=True)
    return torch.zeros_like(weight) if gradient is None else gradient
