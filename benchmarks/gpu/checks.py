"""The branches of the library for a GPU, each with the number measured and its bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.cost.steps import failure
from benchmarks.gpu import attention, check_numbers, check_training
from benchmarks.gpu.stage import Check, Skipped, needs_gpu


def measured(small: bool, seconds: Callable[[], float], keep: Callable[[dict[str, Any]], None]) -> None:
    """Run all checks; one that fails leaves the others.

    Args:
        small: Whether this is a rehearsal.
        seconds: Waits for the turn of this stage, and returns the seconds that it has.
        keep: Stores what was found so far.
    """
    seconds()
    rows: list[dict[str, Any]] = []
    for name, check in {
        **attention_checks(),
        **check_numbers.CHECKS,
        **check_training.CHECKS,
        **check_numbers.COMPILED,
    }.items():
        row: dict[str, Any] = {"name": name, "about": (check.__doc__ or "").strip().partition("\n")[0]}
        began = time.perf_counter()
        rows.append({**row, "failure": "it did not end", "passed": False, "seconds": 0.0})
        keep({"rows": rows})
        try:
            torch.manual_seed(0)
            found = check()
            row |= {"number": found.number, "bound": found.bound, "unit": found.unit, "passed": found.passed}
        except (Skipped, ImportError) as reason:
            row["skipped"] = str(reason)
        except Exception as error:
            row |= {"failure": failure(error), "passed": False}
        rows[-1] = {**row, "seconds": time.perf_counter() - began}
        keep({"rows": rows})
    keep({"attention": attention.timed(small)})


def all_checks() -> dict[str, Callable[[], Check]]:
    """The checks by name; the ones that compile come last."""
    return {**attention_checks(), **check_numbers.CHECKS, **check_training.CHECKS, **check_numbers.COMPILED}


def attention_checks() -> dict[str, Callable[[], Check]]:
    """Attention in each dtype against float64, and the kernel of the extra `flash`."""

    def agrees(dtype: torch.dtype, bound: float, gradients: bool) -> Check:
        return Check(attention.error(dtype, gradients), bound, "relative error")

    found: dict[str, Callable[[], Check]] = {}
    for name, dtype, bound in (("float32", torch.float32, 1e-4), ("float16", torch.float16, 1e-2),
                               ("bfloat16", torch.bfloat16, 6e-2)):  # fmt: skip
        for gradients in (False, True):
            of = "gradients" if gradients else "values and derivatives"
            check = partial(agrees, dtype, bound, gradients)
            check.__doc__ = f"{of} of attention in {name}, for all masks, against float64"
            found[f"attention {name}, {of}"] = check
    found["attention, kernel of jvp_flash_attention"] = flash_kernel
    return found


def flash_kernel() -> Check:
    """The fused kernel of the tangent against blocks of scores; it is chosen where it fits"""
    needs_gpu()
    return Check(attention.flash_error(), 2e-2, "relative error")
