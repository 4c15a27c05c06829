"""A step of every method on one network: eager, compiled, plain, and in JAX; all of them in turns."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.cost import jax_side, works
from benchmarks.cost.measure import Clock, Work, counted, in_turns, on_one_core, peak_bytes, seconds
from benchmarks.cost.networks import Setting

Say = Callable[[str], None]
COMPILED = {
    "mlp": ("flow_matching", "meanflow", "imf", "lsd", "esd", "psd", "shortcut", "ct", "ect", "ayf_emd"),
    "dit": ("flow_matching", "meanflow", "imf", "lsd", "esd", "psd", "shortcut", "ct", "ect", "ayf_emd"),
    "unet": ("flow_matching", "meanflow", "lsd", "psd", "ect"),
}
COMPILED_PLAIN = {
    "mlp": ("flow_matching", "meanflow", "psd"),
    "dit": ("flow_matching", "meanflow", "psd"),
    "unet": ("flow_matching",),
}
"""Methods that are compiled by default; on the U-Net compiling takes minutes for each."""


@dataclass(frozen=True)
class Choice:
    """The steps to measure: methods by kind (eager, compiled, plain, compiled plain), JAX or not, and rounds."""

    eager: Sequence[str]
    compiled: Sequence[str]
    plain: Sequence[str]
    compiled_plain: Sequence[str]
    jax: bool
    rounds: int

    def works(self, given: Setting) -> Iterator[tuple[str, str, Callable[[], Work]]]:
        """Yield (kind, method, function that makes the step)."""
        kinds = (
            ("eager", self.eager, works.ours, False),
            ("plain", self.plain, works.plain, False),
            ("compiled", self.compiled, works.ours, True),
            ("compiled plain", self.compiled_plain, works.plain, True),
        )
        for kind, names, make, compiled in kinds:
            for name in names:
                yield kind, name, lambda make=make, name=name, compiled=compiled: make(name, given, compiled)


def measured(name: str, given: Setting, choice: Choice, say: Say) -> dict[str, Any]:
    """Measure one network: the forward pass of each kind and a row for each step, or the reason of its failure."""
    units = {"eager": works.forward(given)}
    if choice.compiled or choice.compiled_plain:
        units["compiled"] = works.forward(given, compiled=True)
        units["compiled"].run()
    rows: list[dict[str, Any]] = []
    clocks: dict[str, tuple[Clock, Clock]] = {}
    for kind, method, make in choice.works(given):
        row, work = prepared(kind, method, make)
        rows.append(row)
        say(f"{name}: {kind} {method} " + ("ready" if work else row["failure"]))
        if work:
            clocks[f"{kind}:{method}"] = clock(units[unit_of(kind)]), clock(work)
    with on_one_core(), ExitStack() as stack:
        if choice.jax and jax_side.installed():
            try:
                child = stack.enter_context(closing(jax_side.JaxChild(name, given)))
            except RuntimeError as error:
                rows += [{"kind": "jax", "method": method, "failure": str(error)} for method in jax_side.STEPS]
            else:
                rows += [{"kind": "jax", "method": method, "bytes": child.bytes[method]} for method in jax_side.STEPS]
                clocks |= {f"jax:{of}": (child.clock("forward"), child.clock(of)) for of in jax_side.STEPS}
            say(f"{name}: JAX ready")
        timed(clocks, rows, choice.rounds, name, say)
    return {
        "network": name,
        "rows_of_batch": len(given.x0),
        "parameters": sum(weight.numel() for weight in given.network.parameters()),
        "forward_flops": counted(units["eager"]),
        "forward_bytes": peak_bytes(units["eager"]),
        "rows": rows,
    }


def prepared(kind: str, method: str, make: Callable[[], Work]) -> tuple[dict[str, Any], Work | None]:
    """Make and warm up a step; returns its row and the step, or the reason and None if it fails."""
    row: dict[str, Any] = {"kind": kind, "method": method}
    try:
        work = make()
        work.clear()
        work.run()
        row |= {"bytes": peak_bytes(work)}
        return row | ({} if "compiled" in kind else {"flops": counted(work)}), work
    except Exception as error:  # a step that fails to run or to compile is a result
        return row | {"failure": failure(error)}, None
    finally:
        gc.collect()


def failure(error: BaseException) -> str:
    """An error as the last line of its traceback has it."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def unit_of(kind: str) -> str:
    """Kind of the forward pass that is the unit: compiled steps are compared with the compiled one."""
    return "compiled" if kind.startswith("compiled") else "eager"


def clock(work: Work) -> Clock:
    """A clock for a piece of work."""
    return lambda: seconds(work)


def timed(clocks: dict[str, tuple[Clock, Clock]], rows: list[dict[str, Any]], rounds: int, name: str, say: Say) -> None:
    """Add `units` and `seconds` of all rounds to the rows."""
    found = in_turns(clocks, rounds, lambda text: say(f"{name}: {text}"))
    for row in rows:
        if times := found.get(f"{row['kind']}:{row['method']}"):
            row["units"], row["seconds"] = map(list, zip(*times, strict=True))


def fresh(seed: int = 0) -> None:
    """Reset the random numbers and the compiled programs."""
    torch.manual_seed(seed)
    torch.compiler.reset()
