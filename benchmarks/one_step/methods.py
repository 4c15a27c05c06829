"""The methods of `benchmarks.one_step`, with their settings."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

import flowmaps as fm
from flowmaps.methods import Row
from flowmaps.methods.landscape import row_named
from flowmaps.recipes import flow_for

EULER, JUMPS = 100, (1, 2, 4)
"""Steps of the reference, and numbers of jumps."""
UNIFORM = fm.times.uniform_triangle(1e-3, 1.0)
BASE = "imf"
"""The method whose choices are changed one at a time."""
RECIPE: dict[str, Any] = {
    "diagonal": 0.75,
    "times": fm.times.mixture(0.5, fm.times.logit_normal_pairs(), UNIFORM),
    "weight": fm.weight.learned(),
}
"""The settings of the base, which `flowmaps train` takes for images and vectors: `fm.recipes.method_for`."""
EVEN: dict[str, Any] = {"times": UNIFORM, "weight": fm.weight.squared}
FAST = partial(torch.optim.AdamW, lr=3e-3, betas=(0.0, 0.95), weight_decay=0.0)
"""The optimizer of networks beside the flow: three times its learning rate, without momentum."""


@dataclass(frozen=True)
class Entry:
    """A method with its settings.

    Args:
        row: Name of the method's row of the landscape.
        group: "reference", "scratch", "distillation" or "settings".
        options: Settings that differ from the method's defaults.
        path: The path.
        says: The change of the recipe that an entry of the group "settings" makes.
        training: Settings of the training that differ.
    """

    row: str
    group: str
    options: dict[str, Any] = field(default_factory=dict)
    path: Callable[[], fm.path.Path] = lambda: fm.path.linear
    says: str = ""
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def about(self) -> Row:
        """The row of the landscape."""
        return row_named(self.row)

    @property
    def is_taught(self) -> bool:
        """Whether the method learns from the reference."""
        return self.about.needs_teacher or self.about.coupled

    @property
    def samplers(self) -> dict[str, Any]:
        """The ways to sample its map, as arguments of `fm.evaluate.evaluate`."""
        return {"jumps": JUMPS, "ode_steps": ()}

    def begin(self, flow: fm.FlowMap, teacher: fm.FlowMap) -> None:
        """Start from the weights of the reference."""
        flow.load_state_dict(teacher.state_dict())

    def method(self, teacher: fm.FlowMap | None, data: fm.data.Data) -> fm.Method:
        """The method, with the teacher if it takes one."""
        given = {"teacher": teacher} if self.about.needs_teacher else {}
        return self.about.build(**given, **deepcopy(self.options))  # a learned weight begins anew

    def flow(self, data: fm.data.Data, **sizes: int) -> fm.FlowMap:
        """A flow map with new weights."""
        limits = {"only_source": self.about.only_source, "only_target": self.about.only_target, "path": self.path()}
        return flow_for(data, **limits, **sizes)


@dataclass(frozen=True)
class Mixed(Entry):
    """A flow-map method with a term that matches distributions.

    Args:
        make: Function of the teacher, or of None from scratch, that makes the method.
    """

    make: Callable[[fm.FlowMap | None], fm.Method] = fm.methods.imf

    def method(self, teacher: fm.FlowMap | None, data: fm.data.Data) -> fm.Method:
        """The method with its term."""
        return self.make(teacher)


def with_dmd(teacher: fm.FlowMap | None) -> fm.Method:
    """splitmeanflow with the term of distribution matching distillation on a quarter of the batch."""
    term = fm.methods.dmd(teacher, optimizer=FAST).terms[0]
    return fm.methods.with_term(fm.methods.splitmeanflow(teacher), term, share=0.25, strength=0.5)


COMPARED: dict[str, Entry] = {
    "flow_matching": Entry("flow_matching", "reference", {"times": UNIFORM}),
    BASE: Entry("imf", "scratch", RECIPE),
    "lsd": Entry("lsd", "scratch"),
    "tvm": Entry("tvm", "scratch"),
    "ict": Entry("ict", "scratch"),
    "sct": Entry("sct", "scratch", path=lambda: fm.path.trigonometric),
    "drifting": Entry("drifting", "scratch"),
    "facm": Entry("facm", "distillation"),
    "ayf_emd": Entry("ayf_emd", "distillation", EVEN),
    "ayf_lmd": Entry("ayf_lmd", "distillation", EVEN),
    "splitmeanflow": Entry("splitmeanflow", "distillation"),
    "rectified_meanflow": Entry("rectified_meanflow", "distillation"),
    "splitmeanflow_dmd": Mixed("splitmeanflow", "distillation", make=with_dmd),
}
"""The compared methods by name."""

CHANGES: dict[str, Entry] = {
    f"{BASE}-{name}": Entry(row, "settings", RECIPE | changed, says=says, training=training)
    for name, says, row, changed, training in (
        ("again", "the recipe again", "imf", {}, {}),
        ("squares", "plain squares", "imf", {"weight": fm.weight.squared}, {}),
        ("adaptive", "adaptive weight, power 1", "imf", {"weight": fm.weight.adaptive(1.0)}, {}),
        ("logit-normal", "logit-normal times", "imf", {"times": fm.times.logit_normal_pairs()}, {}),
        ("uniform", "uniform times", "imf", {"times": UNIFORM}, {}),
        ("diagonal-50", "50 % of the rows on the diagonal", "imf", {"diagonal": 0.5}, {}),
        ("differences", "finite differences", "imf", {"derivative": fm.derivative.finite_difference()}, {}),
        ("conditional", "derivative along the conditional velocity", "meanflow", {}, {}),
        ("linear-decay", "learning rate falls from the start", "imf", {}, {"schedule": fm.training.WarmUpDecay()}),
    )
} | {f"{BASE}-paper": Entry("imf", "settings", says="all settings of the paper")}
"""The changes of the base, one choice of the recipe at a time."""

METHODS = COMPARED | CHANGES

GROUPS = {
    group: [name for name, entry in METHODS.items() if entry.group == group]
    for group in dict.fromkeys(entry.group for entry in METHODS.values())
}
"""The names of the methods of each group."""
