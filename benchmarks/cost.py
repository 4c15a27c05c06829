"""What a training step of each method costs:  python -m benchmarks.cost

Time of loss and backward pass over the time of one forward pass of the same network on the same batch, measured in
turns in one run, medians; beside it the count of matrix products in the same unit, for the method's own shares of the
batch. The teacher is the network itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

import flowmaps as fm
from benchmarks.tables import machine, markdown
from flowmaps.methods import LANDSCAPE

BATCH, ROUNDS = 512, 15


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def step_of(method: fm.Method, flow: fm.FlowMap, x0: torch.Tensor) -> Callable[[], object]:
    """Loss and backward pass."""

    def step() -> None:
        flow.zero_grad(set_to_none=True)
        method.loss(flow, x0).value.backward()

    return step


def counted(work: Callable[[], object]) -> int:
    """Floating-point operations in matrix products."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def main() -> None:
    """Measure all methods in turns and print the table."""
    torch.manual_seed(0)
    flow = fm.FlowMap(fm.networks.MLP(64, width=256, depth=4))
    x0 = torch.randn(BATCH, 64)
    times = torch.rand(BATCH)
    forward = torch.no_grad()(lambda: flow.average_velocity(x0, times, times))
    teachers = {row.name: {"teacher": flow} if row.needs_teacher else {} for row in LANDSCAPE}
    steps = {row.name: step_of(row.build(**teachers[row.name]), flow, x0) for row in LANDSCAPE}
    unit = counted(forward)
    counts = {name: counted(step) / unit for name, step in steps.items()}
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        base = median(timed(forward) for _ in range(3))
        for name, step in steps.items():
            found[name].append(timed(step) / base)
    plain = median(found["flow_matching"])
    rows = [[n, f"{counts[n]:.2f}", f"{median(v):.1f}", f"{median(v) / plain:.2f}"] for n, v in found.items()]
    table = markdown(["method", "counted", "timed (eager)", "over flow matching"], rows)
    text = f"{table}\n\n{machine()}; command: python -m benchmarks.cost\n"
    out = Path("benchmarks/results/cost/table.md")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
