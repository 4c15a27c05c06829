"""The marks that a step is held to: the worst case of each, met or missed, and what bounds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.cost.networks import NAMES
from benchmarks.cost.sampling import speed_up

DETACHED = ("meanflow", "imf", "dmf", "rectified_meanflow", "pixel_meanflow", "ayf_lmd", "ayf_emd", "sct", "scd")
"""Methods with one derivative that no gradient passes, and no second pass with a graph beside it."""
NOISE = 1.02
"""What two medians of the same work may differ by."""

Found = Mapping[str, Any]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Steps:
    """The results on one network: rows by (kind, method), those that ran."""

    found: Found
    peak: float | None

    @property
    def name(self) -> str:
        """As in a table."""
        return NAMES[self.found["network"]]

    @property
    def rows(self) -> dict[tuple[str, str], Row]:
        """What has times."""
        return {(row["kind"], row["method"]): row for row in self.found["rows"] if "seconds" in row}

    def failures(self) -> dict[tuple[str, str], str]:
        """Why the others have none."""
        return {(row["kind"], row["method"]): row["failure"] for row in self.found["rows"] if "failure" in row}

    def counted(self, method: str) -> float | None:
        """Operations of our step in forward passes; compiling does not change them."""
        row = self.rows.get(("eager", method))
        return row["flops"] / self.found["forward_flops"] if row else None

    def time(self, kind: str, method: str) -> float | None:
        """Time of a step in forward passes of its kind."""
        row = self.rows.get((kind, method))
        return median(s / u for s, u in zip(row["seconds"], row["units"], strict=True)) if row else None

    def excess(self, kind: str, method: str) -> float | None:
        """Time over counted cost."""
        time, cost = self.time(kind, method), self.counted(method)
        return time / cost if time and cost else None

    def over(self, key: tuple[str, str], other: tuple[str, str]) -> float | None:
        """Time of one step over another's, round by round."""
        a, b = self.rows.get(key), self.rows.get(other)
        return median(x / y for x, y in zip(a["seconds"], b["seconds"], strict=True)) if a and b else None

    def memory(self, kind: str, method: str) -> float | None:
        """Peak memory over that of flow matching."""
        a, b = self.rows.get((kind, method)), self.rows.get((kind, "flow_matching"))
        return a["bytes"] / b["bytes"] if a and b else None

    def share(self, kind: str, method: str) -> float | None:
        """Of the machine's peak matrix rate in float32."""
        row, ours = self.rows.get((kind, method)), self.rows.get(("eager", method))
        return ours["flops"] / median(row["seconds"]) / self.peak if row and ours and self.peak else None

    def methods(self, kind: str) -> list[str]:
        """With times of this kind."""
        return [method for of, method in self.rows if of == kind]


@dataclass(frozen=True)
class Mark:
    """One line: the worst value of `values` (what -> value) against a bound from above, or from below."""

    name: str
    where: str
    bound: float
    values: Mapping[str, float]
    reason: str = ""
    least: bool = False

    @property
    def worst(self) -> str:
        """What comes nearest to the bound, or misses it most."""
        return (min if self.least else max)(self.values, key=self.values.__getitem__)

    @property
    def missed(self) -> list[str]:
        """All that miss it."""
        return [name for name, value in self.values.items() if not self.keeps(value)]

    def keeps(self, value: float) -> bool:
        """Whether a value is on the right side."""
        return value >= self.bound if self.least else value <= self.bound


def marks(all_steps: Iterable[Steps], sampled: Iterable[Found], streamed: Found | None) -> Iterator[Mark]:
    """All of them, for what was measured."""
    for steps in all_steps:
        yield from (mark for mark in of_steps(steps) if mark.values)
    for found in sampled:
        yield of_sampling(found)
    if streamed:
        grown = [sizes["disk"]["bytes"] for sizes in streamed["megabytes"].values()]
        sizes = [int(size) for size in streamed["megabytes"]]
        growth = (grown[-1] - grown[0]) / 2**20 / (sizes[-1] - sizes[0])
        name = "memory per byte of a data set that stays on disk"
        yield Mark(name, "any network", 0.05, {f"{sizes[0]} to {sizes[-1]} MB": growth})


def of_steps(steps: Steps) -> Iterator[Mark]:
    """The marks on one network."""
    for kind, bound in (("compiled", 1.25), ("eager", 1.5)):
        if steps.found["network"] == "dit":
            yield mark(steps, f"time over counted cost, {kind}", bound, kind, steps.excess, steps.methods(kind))
        for method, limit in (("meanflow", 1.25), ("lsd", 1.8)):
            values = {method: steps.over((kind, method), (kind, "flow_matching"))}
            yield Mark(f"{method} over flow matching, {kind}", steps.name, limit, known(values), reason(steps, kind))
        memory = {method: steps.memory(kind, method) for method in DETACHED}
        yield Mark(f"memory over flow matching, tangent detached, {kind}", steps.name, 1.5, known(memory))
    for kind, other in (("eager", "plain"), ("compiled", "compiled plain"), ("compiled", "plain")):
        values = {method: steps.over((kind, method), (other, method)) for method in steps.methods(other)}
        yield Mark(f"{kind} over the plain step{', compiled' * ('c' in other)}", steps.name, NOISE, known(values))
    for kind in ("eager", "compiled"):
        values = {method: steps.over((kind, method), ("jax", method)) for method in steps.methods("jax")}
        yield Mark(f"{kind} over JAX", steps.name, 1.1, known(values), reason(steps, kind))


def mark(steps: Steps, name: str, bound: float, kind: str, measure: Any, methods: list[str]) -> Mark:
    """A mark of one number for each method."""
    return Mark(name, steps.name, bound, known({m: measure(kind, m) for m in methods}), reason(steps, kind))


def reason(steps: Steps, kind: str) -> str:
    """What share of the machine's matrix rate flow matching reaches: what is above it is the price of a method."""
    share = steps.share(kind, "flow_matching")
    return f"flow matching itself runs at {share:.0%} of the matrix rate" if share else ""


def of_sampling(found: Found) -> Mark:
    """How much faster one jump is than N steps, in units of N."""
    values = {
        f"N = {steps}, {batch} rows": speed_up(times, steps) / int(steps)
        for batch, times in found["batches"].items()
        for steps in times
        if steps != "1"
    }
    return Mark("one jump against N Euler steps, over N", NAMES[found["network"]], 0.95, values, least=True)


def known(values: Mapping[str, float | None]) -> dict[str, float]:
    """Without what was not measured."""
    return {name: value for name, value in values.items() if value is not None}
