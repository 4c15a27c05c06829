"""A smooth derivative for pretrained time embeddings that oscillate fast in t.

Pretrained networks read the sines and cosines of 1000 t. A feature of that frequency carries no information, but its
derivative is 1000 times its size and hides the useful part of dV/dt.
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
"""Number of intervals between the times of the fit."""
RIDGE = 1e-6
"""Weight of the squared coefficients in the fit, relative to the mean square of the residual."""
ROUGH = 2.0
"""An embedding is rough if its derivative is larger than the derivative of its smooth fit by this factor."""

features = Fourier(frequencies=16, low=1.0, high=30.0)
"""Features of the smooth embedding, in addition to 1 and s; they resolve time differences of about 1/30."""


class Tame(nn.Module):
    """Correction that gives an embedding E(s) a smooth derivative, D phi(s) + C (phi(s) - sg[phi(s)]).

    It is added to sg[E(s)]. phi(s) = (1, s, sin w_i s, cos w_i s), w_i from 1 to 30; C phi is the least-squares fit of
    E; D starts at zero and is trained instead of E. The value is E(s) + D phi(s), at first exactly E(s). The derivative
    is the derivative of (C + D) phi: the residual E - C phi counts as a constant.

    Args:
        width: Width of the embedding.
    """

    fitted: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        size = phi(torch.zeros(1)).shape[-1]
        self.register_buffer("fitted", torch.zeros(width, size))
        self.change = nn.Parameter(torch.zeros(width, size))

    def forward(self, s: Tensor) -> Tensor:
        """Compute the correction (B, width) at times s (B,)."""
        with full_precision(s.device):
            at = phi(s.to(torch.promote_types(s.dtype, torch.float32)))
            at = at.to(self.change.dtype)
            return F.linear(at, self.change) + F.linear(at - at.detach(), self.fitted)

    @torch.no_grad()
    def fit(self, embedding: Callable[[Tensor], Tensor]) -> float:
        """Fit C to an embedding (n,) -> (n, width).

        Returns:
            Its roughness, rms dE/ds over rms d(C phi)/ds; infinity on the meta device, which has no numbers.
        """
        if self.fitted.is_meta:
            return math.inf
        s = torch.linspace(0, 1, GRID + 1, device=self.fitted.device)
        value, slope = jvp(embedding, (s,), (1,))
        self.fitted.copy_(least_squares(phi(s.double()), value.double()))
        smooth = jvp(lambda s: F.linear(phi(s), self.fitted.double()), (s.double(),), (1,))[1]
        return float(slope.double().norm() / smooth.norm().clamp(min=1e-12))


def phi(s: Tensor) -> Tensor:
    """Compute (1, s, sin w_i s, cos w_i s): (n,) -> (n, 34)."""
    return torch.cat([torch.stack([torch.ones_like(s), s], dim=-1), features(s)], dim=-1)


def least_squares(at: Tensor, values: Tensor) -> Tensor:
    """Minimise mean |C phi - values|^2 + RIDGE |C|^2.

    Args:
        at: Rows phi (n, m).
        values: Rows (n, width).

    Returns:
        C (width, m).
    """
    penalised = at.T @ at + RIDGE * len(at) * torch.eye(at.shape[1], dtype=at.dtype, device=at.device)
    return torch.linalg.solve(penalised, at.T @ values).T
