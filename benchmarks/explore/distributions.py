"""Generators of one step on the ring: a flow map, and methods that match distributions and give up the path."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import flowmaps as fm
from benchmarks.explore.shared import data, law, network, snapshots

SHARES = (0.05, 0.3, 1.0)
FAST = partial(torch.optim.AdamW, lr=3e-3, betas=(0.0, 0.95), weight_decay=0.0)
"""The optimizer of the network beside the generator: ten times its learning rate, without momentum."""
METHODS: dict[str, tuple[Callable[[], fm.Method], int, dict[str, Any]]] = {
    "lsd": (fm.methods.lsd, 3000, {}),
    "drifting": (partial(fm.methods.drifting, temperature=(0.01, 0.02, 0.05)), 3000, {}),
    "dmd": (lambda: fm.methods.dmd(law(), optimizer=FAST), 4000, {"lr": 3e-4}),
    "imm": (fm.methods.imm, 4000, {}),
}
"""The methods, their steps and their training."""


def trained(name: str) -> dict[str, Any]:
    """A method with its snapshots and its place in the literature."""
    make, steps, training = METHODS[name]
    row = getattr(fm.methods, name).row
    limits = {"only_source": row.only_source, "only_target": row.only_target}
    flow = fm.FlowMap(network(), **limits)
    return {
        "name": name, "reference": row.reference, "equation": row.equation,
        "snapshots": snapshots(flow, make(), data(), steps, SHARES, **training),
    }  # fmt: skip


def part() -> dict[str, Any]:
    """The methods."""
    return {"methods": [trained(name) for name in METHODS]}
