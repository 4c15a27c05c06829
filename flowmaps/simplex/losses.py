"""Losses of distributions over classes, and the data and maps that have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..arguments import is_readable
from ..links import logits
from ..velocity import is_conditional


def cross_entropy(target: Tensor, z: Tensor) -> Tensor:
    """Cross-entropy -sum q log softmax(z), summed over positions.

    Args:
        target: Probabilities q, (B, ..., K). The loss is linear in them.
        z: Logits of the same shape.

    Returns:
        Nats, (B, 1).
    """
    return -(target * torch.log_softmax(z, -1)).flatten(1).sum(1, keepdim=True)


def divergence(target: Tensor, z: Tensor) -> Tensor:
    """Kullback-Leibler divergence sum q log(q / softmax(z)), summed over positions; 0 where softmax(z) = q.

    Args:
        target: Probabilities q >= 0, (B, ..., K).
        z: Logits of the same shape.

    Returns:
        Nats, (B, 1): the cross-entropy less the entropy of q, which is 0 for one-hot q.
    """
    return cross_entropy(target, z) + torch.special.xlogy(target, target).flatten(1).sum(1, keepdim=True)


def on_simplex(target: Tensor) -> Tensor:
    """Cut negative entries of vectors with sum 1, and divide by the new sum."""
    target = target.clamp(min=0)
    return target / target.sum(-1, keepdim=True)


def logits_of(flow: Any) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Function (x, s, t) -> logits of a flow map."""
    link = logits(flow)

    def evaluate(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return link(flow.value(x, s, t))

    return evaluate


def classes_of(teacher: Any) -> Tensor:
    """The data of a conditional velocity, as distributions over classes.

    Raises:
        ValueError: The velocity has no pair, or its data are no distributions over classes.
    """
    if not is_conditional(teacher) or not hasattr(teacher, "pair"):
        raise ValueError("a cross-entropy with the data needs the pair of the batch: velocity=fm.velocity.conditional")
    return classes_in(teacher.pair.x0)


def classes_in(x0: Tensor) -> Tensor:
    """Data that are distributions over classes, checked; values on a GPU are not read.

    Args:
        x0: Rows, (B, ..., K).

    Returns:
        The same rows.

    Raises:
        ValueError: A value is negative, or a sum is not 1.
    """
    readable = is_readable(x0) and x0.device.type == "cpu" and not torch.compiler.is_compiling()
    if readable and not (bool((x0 >= 0).all()) and bool(((x0.sum(-1) - 1).abs() < 1e-3).all())):
        raise ValueError(
            "a cross-entropy needs data whose last dimension is a one-hot class or a distribution over classes, such "
            "as fm.data.tokens makes; these rows are not, and standardised rows are not either"
        )
    return x0
