"""Diagnostics of training that goes wrong: a loss that is not finite and its cause, and a process that is gone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..data import Batch
from ..data.labels import condition_of
from ..distributed.shards import is_sharded, local_part
from ..flow_map import FlowMap
from ..method.method import Loss, Method
from ..method.term import TermLoss
from ..path import expand
from .teachers import given_to


def not_finite(loss: Loss) -> list[str]:
    """One line for each term of a loss that is not finite."""
    return [f"{name}: {where(term)}" for name, term in loss.terms.items() if not math.isfinite(term.value.item())]


def where(term: TermLoss) -> str:
    """The rows of a term that are not finite, and their times, in words."""
    bad = ~term.residual.isfinite().reshape(len(term.residual), -1).all(1)
    rows, reason = int(bad.sum()), "its residual is not finite"
    if rows == 0:
        bad, reason = torch.ones_like(bad), "its residual is finite, but its weight makes it overflow"
    times = " and ".join(f"{name} in {_span(time.flatten()[bad])}" for name, time in (("s", term.s), ("t", term.t)))
    return f"{reason} in {rows or len(bad)} of {len(bad)} rows, with {times}"


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no entry of any floating-point tensor is NaN or infinite; of a sharded tensor, no entry that is here."""
    floating = [local_part(tensor.detach()) for tensor in tensors if tensor.is_floating_point()]
    return not floating or bool(torch.stack([tensor.isfinite().all() for tensor in floating]).all())


def cause(flow: FlowMap, method: Method, batch: Batch, labels: bool) -> str:
    """Find out why a loss was not finite, by a second look at everything that went into it.

    Args:
        flow: The flow map in training.
        method: The method, with its teachers.
        batch: The rows that the loss was computed on.
        labels: Whether the network is given class labels.

    Returns:
        Which of batch, weights and teachers is not finite, in words, with advice.
    """
    parts = [part for part in (*batch[:3], *(batch.given or {}).values()) if part is not None]
    if rows := [str(row) for row in range(len(batch.x0)) if not all_finite(part[row] for part in parts)]:
        return f"the batch holds values that are not finite, in rows {', '.join(rows)}: look at the data"
    named = [item for part in (flow, method) for item in part.named_parameters()]
    if broken := [name for name, weight in named if not all_finite([weight])]:
        return (
            f"weights are not finite ({', '.join(broken[:2])}), so that the gradient of the step before was not: "
            "clip=1.0 or a smaller lr may help"
        )
    if teacher := next(failing(flow, method, batch, labels), None):
        return f"the teacher {type(teacher).__name__} answers with values that are not finite: look at it"
    return "batch, weights and teachers are finite"


@torch.no_grad()
def failing(flow: FlowMap, method: Method, batch: Batch, labels: bool) -> Iterator[Any]:
    """Ask every teacher for its velocity at x_t with t = 1/2B, 3/2B, ..., one time for each of B rows.

    Args:
        flow: The flow map in training, whose path and dtype are used.
        method: The method, with its teachers.
        batch: The rows to ask about.
        labels: Whether the network is given class labels.

    Yields:
        The teachers whose velocity is not finite.
    """
    weight = flow.like
    batch = batch.each(lambda part: part.to(weight.device, weight.dtype if part.is_floating_point() else None))
    x0, condition = batch.x0, condition_of(batch, labels)
    t = expand((torch.arange(len(x0)).to(x0) + 0.5) / len(x0), x0)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)).to(x0)
    x = flow.path.interpolate(x0, eps, t)
    for term in method.terms:
        for source in (term.velocity, *term.sources.values()):
            teacher = given_to(source)
            if teacher is not None and not _in_shards(teacher) and not all_finite([_answer(teacher, x, t, condition)]):
                yield teacher


def is_lost(error: Exception) -> bool:
    """Whether an error means that another process has ended or does not answer.

    gloo has no error class of its own, other backends raise `torch.distributed.DistError`.
    """
    return dist.is_available() and (isinstance(error, dist.DistError) or "gloo" in str(error))


def lost(error: Exception, kept: str) -> ConnectionError:
    """Reword an error about a lost process.

    Args:
        error: The error of the backend.
        kept: The words about the last checkpoint.

    Returns:
        An error that says what to do.
    """
    reason = str(error).partition("\n")[0]
    return ConnectionError(
        f"another process of this run has ended or does not answer{kept}. Look at its messages, then start all "
        f"processes again with --resume, resume=True ({reason})"
    )


def _span(values: Tensor) -> str:
    """The smallest and the largest value."""
    return f"[{values.min().item():.4g}, {values.max().item():.4g}]"


def _answer(teacher: Any, x: Tensor, t: Tensor, condition: dict[str, Tensor] | None) -> Tensor:
    """The teacher's velocity, under the condition if it takes one."""
    return (teacher.given(**condition) if condition and hasattr(teacher, "given") else teacher).velocity(x, t)


def _in_shards(teacher: Any) -> bool:
    """Whether a teacher's weights are sharded, so that one process alone cannot ask it."""
    return isinstance(teacher, nn.Module) and any(is_sharded(weight) for weight in teacher.parameters())
