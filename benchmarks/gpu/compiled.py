"""A compiled step in a process of its own:  python -m benchmarks.gpu.compiled SPEC, a child of `benchmarks.gpu.steps`.

It compiles and warms up the step, and prints its row as JSON. For each line N of the standard input it prints the
seconds of N runs. Between requests it holds the weights alone, so that many of them fit on a GPU.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import torch

from benchmarks.cost import works
from benchmarks.cost.measure import Work, seconds
from benchmarks.cost.networks import DEVICE, Setting
from benchmarks.cost.steps import failure, prepared
from benchmarks.gpu.networks import setting

FORWARD = "forward"


def made(kind: str, method: str, given: Setting) -> Work:
    """A step, or the forward pass."""
    compiled = kind.startswith("compiled")
    if method == FORWARD:
        return works.forward(given, compiled)
    return (works.plain if kind.endswith("plain") else works.ours)(method, given, compiled)


def turn(work: Work, times: int) -> list[float]:
    """Seconds of some runs, after one that asks the allocator for its memory; then the memory is given back."""
    work.clear()
    work.run()
    found = [seconds(work) for _ in range(times)]
    released(work)
    return found


def released(work: Work) -> None:
    """Forget gradients, and give the memory that is free to the other processes."""
    work.clear()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


def attempted(kind: str, method: str, given: Setting) -> tuple[dict[str, Any], Work | None]:
    """Prepare a step: its row with the seconds that it took, and the step, or None if it failed."""
    began = time.perf_counter()
    row, work = prepared(kind, method, lambda: made(kind, method, given))
    if work is not None:
        released(work)
    elif DEVICE.type == "cuda":
        torch.cuda.empty_cache()
    return {**row, "preparation": time.perf_counter() - began}, work


def main() -> None:
    """Answer until the standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # messages of compilers, which would stand between the answers
    network, kind, method, small = json.loads(sys.argv[1])
    row, work = attempted(kind, method, setting(network, small))
    print(json.dumps(row), file=answers, flush=True)
    for line in sys.stdin:
        try:
            found: Any = turn(work, int(line)) if work else []
        except Exception as error:
            found = {"failure": failure(error)}
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
