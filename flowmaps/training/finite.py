"""Where a loss, or a weight, is no number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ..distributed.shards import is_sharded
from ..method.method import Loss
from ..method.term import TermLoss


def not_finite(loss: Loss) -> list[str]:
    """One line for each term that is not finite."""
    return [f"{name}: {where(term)}" for name, term in loss.terms.items() if not math.isfinite(term.value.item())]


def where(term: TermLoss) -> str:
    """Which rows of a term are not finite and at which times."""
    bad = ~term.residual.isfinite().reshape(len(term.residual), -1).all(1)
    rows, cause = int(bad.sum()), "its residual is not finite"
    if rows == 0:
        bad, cause = torch.ones_like(bad), "its residual is finite, but its weight makes it overflow"
    times = " and ".join(f"{name} in {span(time.flatten()[bad])}" for name, time in (("s", term.s), ("t", term.t)))
    return f"{cause} in {rows or len(bad)} of {len(bad)} rows, with {times}"


def span(values: Tensor) -> str:
    return f"[{values.min().item():.4g}, {values.max().item():.4g}]"


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no entry of any floating-point tensor is NaN or infinite; of what is spread over processes, no entry that
    is here.
    """
    floating = [here(tensor.detach()) for tensor in tensors if tensor.is_floating_point()]
    return not floating or bool(torch.stack([tensor.isfinite().all() for tensor in floating]).all())


def here(tensor: Any) -> Tensor:
    """The part of a tensor that this process holds."""
    return tensor.to_local() if is_sharded(tensor) else tensor
