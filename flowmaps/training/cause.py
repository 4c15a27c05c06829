"""After a loss that was no number: a second look at what went into it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Batch
from ..data.labels import condition_of
from ..distributed.shards import is_sharded
from ..flow_map import FlowMap
from ..method.method import Method
from ..path import expand
from .finite import all_finite
from .teachers import given_to


def cause(flow: FlowMap, method: Method, batch: Batch, labels: bool) -> str:
    """Which of batch, weights and teachers is not finite, in words, with what to do about it."""
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
    """The teachers whose velocity at x_t is not finite for t = 1/2B, 3/2B, ..., one time for each row of the batch."""
    weight = flow.like
    batch = batch.each(lambda part: part.to(weight.device, weight.dtype if part.is_floating_point() else None))
    x0, condition = batch.x0, condition_of(batch, labels)
    t = expand((torch.arange(len(x0)).to(x0) + 0.5) / len(x0), x0)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)).to(x0)
    x = flow.path.interpolate(x0, eps, t)
    for term in method.terms:
        for source in (term.velocity, *term.sources.values()):
            teacher = given_to(source)
            if teacher is not None and not in_shards(teacher) and not all_finite([answer(teacher, x, t, condition)]):
                yield teacher


def answer(teacher: Any, x: Tensor, t: Tensor, condition: dict[str, Tensor] | None) -> Tensor:
    """The teacher's velocity under the condition, where it takes one."""
    return (teacher.given(**condition) if condition and hasattr(teacher, "given") else teacher).velocity(x, t)


def in_shards(teacher: Any) -> bool:
    """Whether a teacher's weights are spread over processes, so that one of them alone cannot ask it."""
    return isinstance(teacher, nn.Module) and any(is_sharded(weight) for weight in teacher.parameters())
