"""Memory of training on a file:  python -m benchmarks.cost.streaming FILE disk|memory, a child of `benchmarks.cost`.

Prints the peak of anonymous memory (pages without a file behind them) above its value before the file was opened, and
the processor seconds of a step including the reading of its rows. The memory is sampled throughout.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from itertools import islice
from pathlib import Path

import torch

import flowmaps as fm
from flowmaps.data import arrays

STEPS, BATCH = 20, 64


def anonymous_bytes() -> int:
    """Anonymous memory of this process, from /proc."""
    [kilobytes] = re.findall(r"^RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(), flags=re.M)
    return 1024 * int(kilobytes)


class Most(threading.Thread):
    """A thread that records the largest value while it runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.found, self.done = 0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.002):
            self.found = max(self.found, anonymous_bytes())


def main() -> None:
    """Train a small network for a few steps."""
    path, where = sys.argv[1:]
    torch.set_num_threads(1)
    arrays.IN_MEMORY = 0 if where == "disk" else sys.maxsize  # type: ignore[attr-defined]
    flow = fm.FlowMap(fm.networks.MLP((3, 32, 32), width=64, depth=1))
    method, optimizer = fm.methods.meanflow(), torch.optim.AdamW(flow.parameters(), 1e-3)
    step(flow, method, optimizer, torch.randn(BATCH, 3, 32, 32))
    before, most = anonymous_bytes(), Most()
    most.start()
    data = fm.data.load(path)
    start = time.process_time()
    for batch in islice(data.batches(BATCH), STEPS):
        step(flow, method, optimizer, batch.x0)
    took = time.process_time() - start
    most.done.set()
    most.join()
    print(json.dumps({"bytes": most.found - before, "seconds": took / STEPS}))


def step(flow: fm.FlowMap, method: fm.Method, optimizer: torch.optim.Optimizer, x0: torch.Tensor) -> None:
    """One training step."""
    optimizer.zero_grad()
    method.loss(flow, x0).value.backward()
    optimizer.step()


if __name__ == "__main__":
    main()
