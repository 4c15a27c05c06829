"""A pretrained time embedding that is rough in time, with the derivative of a smooth one.

Pretrained networks read the sines and cosines of 1000 t. Of a feature of that frequency they learn nothing, but its
derivative is 1000 times its size, and hides what the network knows about time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..derivative import jvp
from ..networks.embeddings import Fourier
from ..networks.layers import full_precision

GRID = 1000
"""Times that a smooth embedding is fitted at."""
RIDGE = 1e-6
"""The penalty of the fit on the square of its weights, beside the mean square of what is left over."""
ROUGH = 2.0
"""An embedding is rough where its derivative is so many times that of the smooth one."""

features = Fourier(frequencies=16, low=1.0, high=30.0)
"""Of the smooth embedding, with 1 and s: it resolves differences of times of about 1/30."""


class Tame(nn.Module):
    """What a rough embedding E(s) needs to be smooth: E(s) + D phi(s) + C (phi(s) - sg[phi(s)]), with sg[E(s)].

    phi(s) = (1, s, sin w_i s, cos w_i s), w_i from 1 to 30. C phi is E fitted by least squares; D starts at zero and is
    trained in E's place. The value is E(s) + D phi(s), at first exactly E(s), and the derivative is that of (C + D)
    phi: what phi cannot follow, E - C phi, counts as a constant. Called with s (B,), it returns what is added to E.
    """

    fitted: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        size = phi(torch.zeros(1)).shape[-1]
        self.register_buffer("fitted", torch.zeros(width, size))
        self.change = nn.Parameter(torch.zeros(width, size))

    def forward(self, s: Tensor) -> Tensor:
        with full_precision(s.device):
            at = phi(s.to(torch.promote_types(s.dtype, torch.float32)))
            at = at.to(self.change.dtype)
            return F.linear(at, self.change) + F.linear(at - at.detach(), self.fitted)

    @torch.no_grad()
    def fit(self, embedding: Callable[[Tensor], Tensor]) -> float:
        """Fit C to an embedding (n,) -> (n, width), and say how rough that is: rms dE/ds over rms d(C phi)/ds.

        On the meta device, where there are no numbers, it is taken to be as rough as pretrained ones are.
        """
        if self.fitted.is_meta:
            return math.inf
        s = torch.linspace(0, 1, GRID + 1, device=self.fitted.device)
        value, slope = jvp(embedding, (s,), (1,))
        self.fitted.copy_(least_squares(phi(s.double()), value.double()))
        smooth = jvp(lambda s: F.linear(phi(s), self.fitted.double()), (s.double(),), (1,))[1]
        return float(slope.double().norm() / smooth.norm().clamp(min=1e-12))


def phi(s: Tensor) -> Tensor:
    """(1, s, sin w_i s, cos w_i s): (n,) -> (n, 34)."""
    return torch.cat([torch.stack([torch.ones_like(s), s], dim=-1), features(s)], dim=-1)


def least_squares(at: Tensor, values: Tensor) -> Tensor:
    """C (width, m) that makes mean |C phi - values|^2 + RIDGE |C|^2 smallest, for rows phi (n, m)."""
    penalised = at.T @ at + RIDGE * len(at) * torch.eye(at.shape[1], dtype=at.dtype, device=at.device)
    return torch.linalg.solve(penalised, at.T @ values).T
