"""The methods of `benchmarks.alternatives`, with their settings."""

from __future__ import annotations

from benchmarks.one_step.methods import COMPARED, Entry

PATHS = ("flow_matching", "imf", "tvm", "ict", "facm", "splitmeanflow")
"""The reference, and the flow-map methods of the comparison."""

ENTRIES: dict[str, Entry] = {name: COMPARED[name] for name in PATHS} | {
    "drifting": Entry("drifting", "distributions"),
    "imm": Entry("imm", "distributions"),
    "fd_loss": Entry("fd_loss", "distributions"),
    "freeflow": Entry("freeflow", "mixed"),
}
"""The compared methods by name."""

GROUPS = {
    group: [name for name, entry in ENTRIES.items() if entry.group == group]
    for group in dict.fromkeys(entry.group for entry in ENTRIES.values())
}
"""The names of the methods of each group."""
