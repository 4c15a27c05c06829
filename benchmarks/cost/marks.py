"""Targets for a training step: the worst case of each, met or missed, and its limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.cost.networks import NAMES
from benchmarks.cost.sampling import speed_up

DETACHED = ("meanflow", "imf", "dmf", "rectified_meanflow", "pixel_meanflow", "ayf_lmd", "ayf_emd", "sct", "scd")
"""Methods with one derivative without gradient, and no second pass with a graph."""
NOISE = 1.02
"""Tolerated ratio of two medians of the same work."""

Found = Mapping[str, Any]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Steps:
    """The results on one network: rows by (kind, method)."""

    found: Found
    peak: float | None

    @property
    def name(self) -> str:
        """Name of the network in tables."""
        return NAMES[self.found["network"]]

    @property
    def rows(self) -> dict[tuple[str, str], Row]:
        """Rows with times."""
        return {(row["kind"], row["method"]): row for row in self.found["rows"] if "seconds" in row}

    def failures(self) -> dict[tuple[str, str], str]:
        """Reasons of the steps that failed."""
        return {(row["kind"], row["method"]): row["failure"] for row in self.found["rows"] if "failure" in row}

    def counted(self, method: str) -> float | None:
        """Operations of the library's step in forward passes; compiling does not change them."""
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
        """Median over rounds of the ratio of two steps' times."""
        a, b = self.rows.get(key), self.rows.get(other)
        return median(x / y for x, y in zip(a["seconds"], b["seconds"], strict=True)) if a and b else None

    def memory(self, kind: str, method: str) -> float | None:
        """Peak memory divided by the peak memory of flow matching."""
        a, b = self.rows.get((kind, method)), self.rows.get((kind, "flow_matching"))
        return a["bytes"] / b["bytes"] if a and b else None

    def share(self, kind: str, method: str) -> float | None:
        """Share of the machine's peak matrix rate in float32."""
        row, ours = self.rows.get((kind, method)), self.rows.get(("eager", method))
        return ours["flops"] / median(row["seconds"]) / self.peak if row and ours and self.peak else None

    def methods(self, kind: str) -> list[str]:
        """Methods with times of this kind."""
        return [method for of, method in self.rows if of == kind]


@dataclass(frozen=True)
class Mark:
    """A target: the worst of `values` (name -> value) against an upper bound, or a lower one if `least`."""

    name: str
    where: str
    bound: float
    values: Mapping[str, float]
    reason: str = ""
    least: bool = False

    @property
    def worst(self) -> str:
        """Name of the worst value."""
        return (min if self.least else max)(self.values, key=self.values.__getitem__)

    @property
    def missed(self) -> list[str]:
        """Names of all values that miss the bound."""
        return [name for name, value in self.values.items() if not self.keeps(value)]

    def keeps(self, value: float) -> bool:
        """Whether a value meets the bound."""
        return value >= self.bound if self.least else value <= self.bound


def marks(all_steps: Iterable[Steps], sampled: Iterable[Found], streamed: Found | None) -> Iterator[Mark]:
    """All targets for the measured parts."""
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
    """The targets on one network."""
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
    """A target with one number for each method."""
    return Mark(name, steps.name, bound, known({m: measure(kind, m) for m in methods}), reason(steps, kind))


def reason(steps: Steps, kind: str) -> str:
    """The share of the machine's matrix rate that flow matching reaches, as a sentence."""
    share = steps.share(kind, "flow_matching")
    return f"flow matching itself runs at {share:.0%} of the matrix rate" if share else ""


def of_sampling(found: Found) -> Mark:
    """Speed-up of one jump over N steps, divided by N."""
    values = {
        f"N = {steps}, {batch} rows": speed_up(times, steps) / int(steps)
        for batch, times in found["batches"].items()
        for steps in times
        if steps != "1"
    }
    return Mark("one jump against N Euler steps, over N", NAMES[found["network"]], 0.95, values, least=True)


def known(values: Mapping[str, float | None]) -> dict[str, float]:
    """Only the measured values."""
    return {name: value for name, value in values.items() if value is not None}
