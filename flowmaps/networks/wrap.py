"""Networks around networks."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..serialise import describable
from .layers import full_precision


@describable
class InBasis(nn.Module):
    """Runs a network in rotated coordinates: network(x B, s, t) B^T, with x flattened for the rotation.

    The basis B is an orthogonal matrix (D, D) whose columns are the new axes, as `pca_basis` makes it. A rotation
    leaves the noise as it is and commutes with x + (t - s) V, so the flow map is the same in either coordinates. (A
    shift by the data's mean does not: the mean of x_t is alpha(t) times the data's mean.) The inner network sees x in
    its own shape. ValueError for a basis that is no square matrix, and for x of another size.
    """

    basis: Tensor

    def __init__(self, network: nn.Module, basis: Tensor) -> None:
        super().__init__()
        if basis.ndim != 2 or basis.shape[0] != basis.shape[1]:
            raise ValueError(f"a basis is a square matrix with the new axes as columns, got shape {tuple(basis.shape)}")
        self.network = network
        self.register_buffer("basis", basis.clone(memory_format=torch.contiguous_format))

    def forward(self, x: Tensor, s: Tensor, t: Tensor, **condition: Any) -> Tensor:
        values, size = math.prod(x.shape[1:]), len(self.basis)
        if values != size:
            raise ValueError(f"this network takes x of {size} values a row, got {values} in {tuple(x.shape)}")
        basis = self.basis.to(x.dtype)
        return rotate(self.network(rotate(x, basis), s, t, **condition), basis.T)


def rotate(x: Tensor, basis: Tensor) -> Tensor:
    """x B in x's shape, not in autocast's precision."""
    with full_precision(x.device):
        return F.linear(x.flatten(1), basis.T).reshape(x.shape)


def pca_basis(x0: Tensor) -> Tensor:
    """The principal axes of the data x0 (N, *shape) as columns of an orthogonal (D, D), the largest variance first.

    Each column's largest entry is positive, so the basis does not depend on the solver's choice of sign. Fewer than D
    rows are enough: the axes without variance complete the basis. ValueError for fewer than 2 rows.
    """
    rows = x0.detach().flatten(1).double()
    if len(rows) < 2:
        raise ValueError(f"principal axes need at least 2 rows of data, got {len(rows)}")
    centred = rows - rows.mean(dim=0)
    _, axes = torch.linalg.eigh(centred.T @ centred)
    axes = axes.flip(1)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    return (axes * largest.sign()).to(x0.dtype)
