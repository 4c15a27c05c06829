"""What a training step of each method costs:  python -m benchmarks.cost

Time of loss and backward pass over the time of one forward pass of the same network on the same batch, measured in
turns in one run, medians; beside it the count of matrix products in the same unit, for the method's own shares of the
batch, and the time over that of flow matching. Nothing is compiled. The teacher is another network of the same kind.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

import flowmaps as fm
from benchmarks.landscape import limits_of, method_of, path_of
from benchmarks.tables import machine, markdown
from flowmaps.methods import LANDSCAPE, Row

BATCH = 512
Work = Callable[[], object]


def timed(work: Work) -> float:
    """Processor seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def step_of(row: Row, x0: torch.Tensor) -> Work:
    """Loss and backward pass of a method in the middle of its training."""
    flow = fm.FlowMap(network(), **limits_of(row))
    method = method_of(row, fm.FlowMap(network(), path=path_of(row)))

    def step() -> None:
        flow.zero_grad(set_to_none=True)
        method.loss(flow, x0, progress=0.5).value.backward()

    return step


def network() -> torch.nn.Module:
    """An MLP for small images."""
    return fm.networks.MLP(64, width=256, depth=4)


def counted(work: Work) -> int:
    """Floating-point operations in matrix products."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def measured(batch: int, rounds: int) -> list[list[str]]:
    """A line for each method: counted, timed, over flow matching."""
    torch.manual_seed(0)
    flow, x0, times = fm.FlowMap(network()), torch.randn(batch, 64), torch.rand(batch)
    forward = torch.no_grad()(lambda: flow.average_velocity(x0, times, times))
    steps = {row.name: step_of(row, x0) for row in LANDSCAPE}
    unit = counted(forward)
    counts = {name: counted(step) / unit for name, step in steps.items()}
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        base = median(timed(forward) for _ in range(3))
        for name, step in steps.items():
            found[name].append(timed(step) / base)
    plain = median(found["flow_matching"])
    return [[n, f"{counts[n]:.2f}", f"{median(v):.1f}", f"{median(v) / plain:.2f}"] for n, v in found.items()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all methods in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cost/table.md"))
    options = parser.parse_args(arguments)
    header = ["method", "counted", "timed (eager)", "over flow matching"]
    table = markdown(header, measured(options.batch, options.rounds))
    text = f"{table}\n\n{machine()}; command: python -m benchmarks.cost\n"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
