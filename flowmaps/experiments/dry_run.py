"""A dry run: a few steps of a training run, and the estimated cost of the whole run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..data import Data
from ..data.labels import condition_of, uses_labels
from ..draws import Rows
from ..flow_map import FlowMap
from ..method.method import Method
from ..recipes.planning.counting import loss_and_backward, nbytes, teachers_of
from ..training import train
from ..training.optimizers import trained
from .trained_run import LEARNING

ROWS, STEPS = 2, 3


@dataclass(frozen=True)
class DryRun:
    """The cost of a training run on one process without sharding, estimated from a few steps of a few rows.

    Args:
        trained: Number of weights that are trained.
        memory: Bytes by kind; "activations" is for one row.
        batch_size: Rows of a step of the whole run.
        accumulate: Number of parts in which these rows are processed.
        flops: Operations of one step of the whole run.
        steps: Number of steps of the whole run.
        tried: Number of rows of each tried step.
        seconds: Time of each tried step.
    """

    trained: int
    memory: dict[str, int]
    batch_size: int
    accumulate: int
    flops: float
    steps: int
    tried: int
    seconds: float

    @property
    def total(self) -> int:
        """Bytes of all kinds together, with the activations of all rows that are processed at once."""
        return sum(self.memory.values()) + (self.batch_size // self.accumulate - 1) * self.memory["activations"]

    def table(self) -> list[list[str]]:
        """The cost as rows of a name and a value."""
        names = {"activations": f"activations, for each of {self.batch_size} rows"}
        sizes = {names.get(name, name): size for name, size in self.memory.items()}
        return [
            ["trained weights", f"{self.trained:,}"],
            *([name, _bytes(size)] for name, size in {**sizes, "together, on one process": self.total}.items()),
            ["operations of a step", f"{self.flops:.3g}"],
            [f"operations of {self.steps:,} steps", f"{self.steps * self.flops:.3g}"],
        ]


def dry_run_of(
    flow: FlowMap,
    method: Method,
    data: Data,
    *,
    steps: int,
    batch_size: int,
    accumulate: int = 1,
    precision: str = "no",
    **settings: Any,
) -> DryRun:
    """Train a few steps of a few rows without a folder, and count the cost of the whole run.

    Args:
        flow: The flow map, which is trained in place.
        method: The method.
        data: The data set.
        steps: Number of steps of the whole run.
        batch_size: Rows of its steps.
        accumulate: Number of parts in which they are processed.
        precision: "no" or "bf16".
        **settings: As for `flowmaps.train`; settings about files are ignored.

    Returns:
        The cost.
    """
    rows = max(ROWS, len(method.terms))
    shared = {name: settings[name] for name in LEARNING if name in settings and name != "progress_bar"}
    shared |= {"precision": precision, "trackers": (), "progress_bar": False}
    start = time.perf_counter()
    for _ in train(flow, method, data, steps=STEPS, batch_size=rows, **shared):
        pass
    seconds = (time.perf_counter() - start) / STEPS
    flops, activations = _counted(flow, method, data, rows, precision)
    learned = list(trained([flow, method]))
    once = {id(weight): weight for module in (flow, method, *teachers_of(method)) for weight in _weights_of(module)}
    memory = {
        "weights, with the teacher's": nbytes(once.values()),
        "gradients and AdamW": 3 * nbytes(learned),
        "average of the weights": nbytes(weight for weight in flow.parameters() if weight.requires_grad),
        "activations": activations // rows,
    }
    count = sum(weight.numel() for weight in learned)
    return DryRun(count, memory, batch_size, accumulate, flops / rows * batch_size, steps, rows, seconds)


def _counted(flow: FlowMap, method: Method, data: Data, rows: int, precision: str) -> tuple[int, int]:
    """Count the operations of a step on one batch, and the bytes that its forward pass stores."""
    like = flow.like
    batch = next(data.batches(rows)).each(
        lambda part: part.to(like.device, like.dtype if part.is_floating_point() else None)
    )
    condition: Any = condition_of(batch, uses_labels(flow.network, data))
    return loss_and_backward(flow, method, batch.x0, condition, Rows(0, 1, rows), precision)


def _bytes(size: int) -> str:
    """A size in words."""
    return f"{size / 1e9:.3g} GB" if size > 1e9 else f"{size / 1e6:.3g} MB"


def _weights_of(module: nn.Module) -> Iterable[Tensor]:
    """Parameters and buffers."""
    return itertools.chain(module.parameters(), module.buffers())
