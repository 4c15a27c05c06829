"""`flowmaps distill --dry-run`: every part of a run once, and what the whole of it takes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
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
from .options_distill import Distill
from .tables import print_table
from .train import SHARED

ROWS, STEPS = 2, 3


def dry_run(options: Distill, data: Data, flow: FlowMap, method: Method) -> None:
    """Train a few steps of a few rows without a folder, then print a table."""
    rows = max(ROWS, len(method.terms))
    shared = {name: getattr(options, name) for name in SHARED if name not in ("batch_size", "progress_bar")}
    start = time.perf_counter()
    for _ in train(flow, method, data, steps=STEPS, batch_size=rows, trackers=(), progress_bar=False, **shared):
        pass
    seconds = (time.perf_counter() - start) / STEPS
    flops, activations = counted(flow, method, data, rows, options.precision)
    print_table("A run as this one takes, about", ["", ""], table(options, flow, method, rows, flops, activations))
    print(f"\n{STEPS} steps of {rows} rows went through, {seconds:.2g} s each; nothing was kept")


def counted(flow: FlowMap, method: Method, data: Data, rows: int, precision: str) -> tuple[int, int]:
    """Operations of a step, and bytes that its forward pass keeps, of one batch."""
    like = flow.like
    batch = next(data.batches(rows)).each(lambda part: here(part, like))
    condition: Any = condition_of(batch, uses_labels(flow.network, data))
    return loss_and_backward(flow, method, batch.x0, condition, Rows(0, 1, rows), precision)


def here(part: Tensor, like: Tensor) -> Tensor:
    return part.to(like.device, like.dtype if part.is_floating_point() else None)


def table(options: Distill, flow: FlowMap, method: Method, rows: int, flops: int, activations: int) -> list[list[str]]:
    """Weights, memory in bytes of one process without sharding, operations."""
    learned = list(trained([flow, method]))
    once = {id(weight): weight for module in (flow, method, *teachers_of(method)) for weight in weights_of(module)}
    parts = {
        "weights, with the teacher's": nbytes(once.values()),
        "gradients and AdamW": 3 * nbytes(learned),
        "average of the weights": nbytes(weight for weight in flow.parameters() if weight.requires_grad),
        f"activations, for each of {options.batch_size} rows": activations // rows,
    }
    total = sum(parts.values()) + (options.batch_size // options.accumulate - 1) * (activations // rows)
    sizes = [[name, said(size)] for name, size in {**parts, "together, on one process": total}.items()]
    step = flops / rows * options.batch_size
    return [
        ["weights that are trained", f"{sum(weight.numel() for weight in learned):,}"],
        *sizes,
        ["operations of a step", f"{step:.3g}"],
        [f"operations of {options.steps:,} steps", f"{options.steps * step:.3g}"],
    ]


def said(size: int) -> str:
    """Bytes in words."""
    return f"{size / 1e9:.3g} GB" if size > 1e9 else f"{size / 1e6:.3g} MB"


def weights_of(module: nn.Module) -> Iterable[Tensor]:
    return itertools.chain(module.parameters(), module.buffers())
