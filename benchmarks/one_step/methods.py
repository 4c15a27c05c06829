"""The methods of `benchmarks.one_step`, with their settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import flowmaps as fm
from flowmaps.methods import Row
from flowmaps.methods.landscape import row_named

UNIFORM = fm.times.uniform_triangle(1e-3, 1.0)
EVEN: dict[str, Any] = {"times": UNIFORM, "weight": fm.weight.squared}


@dataclass(frozen=True)
class Entry:
    """A method with its settings.

    Args:
        row: Name of the method's row of the landscape.
        group: "reference", "scratch", "distillation" or "settings".
        options: Settings that differ from the method's defaults.
        path: The path.
    """

    row: str
    group: str
    options: dict[str, Any] = field(default_factory=dict)
    path: Callable[[], fm.path.Path] = lambda: fm.path.linear

    @property
    def about(self) -> Row:
        """The row of the landscape."""
        return row_named(self.row)

    @property
    def is_taught(self) -> bool:
        """Whether the method learns from the reference."""
        return self.about.needs_teacher or self.about.coupled

    def method(self, teacher: fm.FlowMap | None) -> fm.Method:
        """The method, with the teacher if it takes one."""
        given = {"teacher": teacher} if self.about.needs_teacher else {}
        return self.about.build(**given, **self.options)

    def limits(self) -> dict[str, Any]:
        """Arguments of the flow map, apart from its network."""
        return {"only_source": self.about.only_source, "only_target": self.about.only_target, "path": self.path()}


METHODS: dict[str, Entry] = {
    "flow_matching": Entry("flow_matching", "reference", {"times": UNIFORM}),
    "imf": Entry("imf", "scratch", {"diagonal": 0.75, "times": UNIFORM, "power": 0}),
    "lsd": Entry("lsd", "scratch"),
    "tvm": Entry("tvm", "scratch"),
    "ict": Entry("ict", "scratch"),
    "sct": Entry("sct", "scratch", path=lambda: fm.path.trigonometric),
    "facm": Entry("facm", "distillation"),
    "ayf_emd": Entry("ayf_emd", "distillation", EVEN),
    "ayf_lmd": Entry("ayf_lmd", "distillation", EVEN),
    "splitmeanflow": Entry("splitmeanflow", "distillation"),
    "rectified_meanflow": Entry("rectified_meanflow", "distillation"),
    "imf-paper": Entry("imf", "settings"),
    "imf-paper-uniform-times": Entry("imf", "settings", {"times": UNIFORM}),
    "imf-paper-plain-squares": Entry("imf", "settings", {"power": 0}),
    "imf-paper-diagonal-75": Entry("imf", "settings", {"diagonal": 0.75}),
}
"""The methods by name. The group "settings" has the defaults of imf, which `flowmaps train` takes, and each of the
settings of "imf" alone."""

GROUPS = {
    group: [name for name, entry in METHODS.items() if entry.group == group]
    for group in dict.fromkeys(entry.group for entry in METHODS.values())
}
"""The names of the methods of each group."""
