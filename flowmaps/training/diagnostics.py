"""Diagnostics of failures in training: a loss that is not finite, and a lost process."""

from __future__ import annotations

import math
import re
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
from .teachers import teacher_of

WAITED = re.compile(r"(?:Timed out waiting |[Tt]imeout\D{0,20})(\d+) ?ms")
"""The time that a backend waited for another process, in its messages."""


def not_finite(loss: Loss) -> list[str]:
    """Describe each term of a loss that is not finite, in one line."""
    return [
        f"{name}: {describe_rows(term)}" for name, term in loss.terms.items() if not math.isfinite(term.value.item())
    ]


def describe_rows(term: TermLoss) -> str:
    """Describe the rows of a term that are not finite, with their times."""
    bad = ~term.residual.isfinite().reshape(len(term.residual), -1).all(1)
    rows, reason = int(bad.sum()), "its residual is not finite"
    if rows == 0:
        bad, reason = torch.ones_like(bad), "its residual is finite, but its weight makes it overflow"
    times = " and ".join(f"{name} in {_span(time.flatten()[bad])}" for name, time in (("s", term.s), ("t", term.t)))
    return f"{reason} in {rows or len(bad)} of {len(bad)} rows, with {times}"


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether floating-point tensors have only finite entries; of sharded tensors, the shards of this process."""
    floating = [local_part(tensor.detach()) for tensor in tensors if tensor.is_floating_point()]
    return not floating or bool(torch.stack([tensor.isfinite().all() for tensor in floating]).all())


def find_cause(flow: FlowMap, method: Method, batch: Batch, labels: bool, late: bool = False) -> str:
    """Find out why a loss was not finite, by a check of everything that it depends on.

    Args:
        flow: The flow map in training.
        method: The method, with its teachers.
        batch: The rows of the loss.
        labels: Whether the network gets class labels.
        late: Whether the weights have moved since by the gradient of the loss, so that they are not finite in any case.

    Returns:
        A sentence that names the values that are not finite (batch, weights or teacher), with advice.
    """
    parts = [part for part in (*batch[:3], *(batch.given or {}).values()) if part is not None]
    if rows := [str(row) for row in range(len(batch.x0)) if not all_finite(part[row] for part in parts)]:
        return f"the batch holds values that are not finite, in rows {', '.join(rows)}: check the data"
    named = [item for part in (flow, method) for item in part.named_parameters()]
    broken = [name for name, weight in named if not all_finite([weight])]
    if broken and not late:
        return (
            f"weights are not finite ({', '.join(broken[:2])}), so the gradient of the step before was not finite: "
            "clip=1.0 or a smaller lr may help"
        )
    if teacher := next(failing_teachers(flow, method, batch, labels), None):
        return f"the teacher {type(teacher).__name__} returns values that are not finite: check it"
    if broken:
        return (
            f"batch and teachers are finite, so the weights or this loss overflowed (now {', '.join(broken[:2])} are "
            "not finite): clip=1.0 or a smaller lr may help"
        )
    return "batch, weights and teachers are finite"


@torch.no_grad()
def failing_teachers(flow: FlowMap, method: Method, batch: Batch, labels: bool) -> Iterator[Any]:
    """Evaluate the velocity of every teacher at x_t with t = 1/2B, 3/2B, ..., one time for each of B rows.

    Args:
        flow: The flow map in training; its path and dtype are used.
        method: The method, with its teachers.
        batch: The rows to evaluate.
        labels: Whether the network gets class labels.

    Yields:
        The teachers with a velocity that is not finite.
    """
    weight = flow.like
    batch = batch.each(lambda part: part.to(weight.device, weight.dtype if part.is_floating_point() else None))
    x0, condition = batch.x0, condition_of(batch, labels)
    t = expand((torch.arange(len(x0)).to(x0) + 0.5) / len(x0), x0)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)).to(x0)
    x = flow.path.interpolate(x0, eps, t)
    for term in method.terms:
        for source in (term.velocity, *term.sources.values()):
            teacher = teacher_of(source)
            if (
                teacher is not None
                and not _is_sharded(teacher)
                and not all_finite([_velocity(teacher, x, t, condition)])
            ):
                yield teacher


def is_lost(error: Exception) -> bool:
    """Whether an error means that another process has ended or does not respond.

    gloo raises a RuntimeError, recognised by its text; other backends raise `torch.distributed.DistError`.
    """
    return dist.is_available() and (isinstance(error, dist.DistError) or "gloo" in str(error))


def lost_process(error: Exception, kept: str) -> ConnectionError:
    """Convert an error of the backend about a lost process.

    Args:
        error: The error of the backend.
        kept: Note about the last checkpoint.

    Returns:
        An error with advice. If the backend waited in vain, it says how long.
    """
    reason = str(error).partition("\n")[0]
    waited = WAITED.search(reason)
    lost = f"has not answered for {int(waited[1]) / 1000:g} s (--timeout)" if waited else "has ended"
    look = "It may be stopped or stuck: look at it" if waited else "Look at its messages"
    return ConnectionError(
        f"another process of this run {lost}{kept}. {look}, then start all processes again with --resume, resume=True "
        f"({reason})"
    )


def _span(values: Tensor) -> str:
    """Format the interval from the smallest to the largest value."""
    return f"[{values.min().item():.4g}, {values.max().item():.4g}]"


def _velocity(teacher: Any, x: Tensor, t: Tensor, condition: dict[str, Tensor] | None) -> Tensor:
    """Evaluate the velocity of a teacher, with the condition if it takes one."""
    return (teacher.given(**condition) if condition and hasattr(teacher, "given") else teacher).velocity(x, t)


def _is_sharded(teacher: Any) -> bool:
    """Whether the weights of a teacher are sharded, so that a single process cannot evaluate it."""
    return isinstance(teacher, nn.Module) and any(is_sharded(weight) for weight in teacher.parameters())
