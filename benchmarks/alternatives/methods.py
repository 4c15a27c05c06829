"""The methods of `benchmarks.alternatives`, with their settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import flowmaps as fm
from benchmarks.one_step.cells import TRAINING
from benchmarks.one_step.methods import COMPARED, EULER, FAST, JUMPS, Entry, Mixed, with_dmd

PATHS = ("flow_matching", "imf", "tvm", "ict", "facm", "splitmeanflow")
"""The reference, and the flow-map methods of the comparison."""
SLOW: dict[str, Any] = {"lr": 3e-4}
"""The learning rate of a flow that follows such a network."""


@dataclass(frozen=True)
class Alternative(Entry):
    """A method that matches distributions.

    Args:
        ways: The ways to sample its map.
    """

    ways: dict[str, Any] = field(default_factory=lambda: {"jumps": JUMPS, "ode_steps": ()})

    @property
    def samplers(self) -> dict[str, Any]:
        """The ways to sample its map."""
        return self.ways


@dataclass(frozen=True)
class PolicyEntry(Alternative):
    """A method whose network predicts a policy, with new weights."""

    def flow(self, data: fm.data.Data, **sizes: int) -> fm.FlowMap:
        """A map that predicts a policy."""
        return fm.recipes.policies(data, **sizes)

    def begin(self, flow: fm.FlowMap, teacher: fm.FlowMap) -> None:
        """Keep the new weights: the reference has another last layer."""


@dataclass(frozen=True)
class FrechetEntry(Alternative):
    """FD-loss: as many values in a row as rows in a batch need moments that are averaged over steps."""

    def method(self, teacher: fm.FlowMap | None, data: fm.data.Data) -> fm.Method:
        """The method."""
        return fm.methods.fd_loss(decay=0.9 if math.prod(data.shape) >= TRAINING["batch_size"] else 0.0)


def with_drifting(teacher: fm.FlowMap | None) -> fm.Method:
    """imf with the drifting term on half of the batch."""
    term = fm.methods.drifting().terms[0]
    return fm.methods.with_term(COMPARED["imf"].method(None, None), term, share=0.5)


EULER_STEPS: dict[str, Any] = {"jumps": (), "ode_steps": (EULER,)}
ANCESTRAL: dict[str, Any] = {"jumps": (8,), "ode_steps": ()}
SCRATCH, TAUGHT, MIXED = "distributions", "distributions from the reference", "mixed"

ENTRIES: dict[str, Entry] = {name: COMPARED[name] for name in PATHS} | {
    "drifting": Alternative("drifting", SCRATCH),
    "imm": Alternative("imm", SCRATCH),
    "fd_loss": FrechetEntry("fd_loss", SCRATCH),
    "afm": Alternative("afm", SCRATCH),
    "cafm": Alternative("cafm", SCRATCH, ways=EULER_STEPS),
    "dmd": Alternative("dmd", TAUGHT, {"optimizer": FAST}, training=SLOW),
    "dmd2": Alternative("dmd2", TAUGHT),
    "f_distill": Alternative("f_distill", TAUGHT),
    "sid": Alternative("sid", TAUGHT, {"optimizer": FAST}, training=SLOW),
    "moment_matching": Alternative("moment_matching", TAUGHT, ways=ANCESTRAL),
    "add": Alternative("add", TAUGHT),
    "ladd": Alternative("ladd", TAUGHT),
    "pi_flow": PolicyEntry("pi_flow", TAUGHT),
    "imf_drifting": Mixed("imf", MIXED, make=with_drifting),
    "splitmeanflow_dmd": Mixed("splitmeanflow", MIXED, make=with_dmd),
    "freeflow": Alternative("freeflow", MIXED),
}
"""The compared methods by name. Self-E is not among them, because it needs labels."""

GROUPS = {
    group: [name for name, entry in ENTRIES.items() if entry.group == group]
    for group in dict.fromkeys(entry.group for entry in ENTRIES.values())
}
"""The names of the methods of each group."""
