"""The rate of matrix products on this machine: the largest over sizes, in torch and in JAX."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import torch

from benchmarks.cost import jax_side
from benchmarks.cost.measure import Work, seconds
from benchmarks.cost.networks import CASES, DEVICE

SIZES = (256, 512, 1024, 2048)


def measured(rounds: int, jax: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure kind -> size -> operations per second, the best of all rounds."""
    sizes = [size * (4 if DEVICE.type == "cuda" else 1) for size in SIZES]
    rates = {kind: torch_rates(dtype, sizes, rounds) for kind, dtype in KINDS.items()}
    say("roofline: torch")
    if jax and jax_side.installed():
        with closing(jax_side.JaxChild("mlp", CASES["mlp"].setting())) as child:
            rates["float32 JAX"] = {str(size): child.ask(str(size)) for size in sizes}
        say("roofline: JAX")
    return {"rates": rates}


KINDS = {"float32 torch": torch.float32, "bfloat16 torch": torch.bfloat16}


def torch_rates(dtype: torch.dtype, sizes: list[int], rounds: int) -> dict[str, float]:
    """Rates of square matrix products, by size."""
    found = {}
    for size in sizes:
        a, b = (torch.randn(size, size, device=DEVICE).to(dtype) for _ in range(2))
        work = Work(lambda a=a, b=b: a @ b)
        work.run()
        found[str(size)] = 2 * size**3 / min(seconds(work) for _ in range(rounds))
    return found


def peak(found: dict[str, Any], dtype: str = "float32") -> float:
    """The largest rate in a dtype."""
    return max(rate for kind, rates in found["rates"].items() if kind.startswith(dtype) for rate in rates.values())
