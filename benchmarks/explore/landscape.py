"""All methods of the landscape on the ring, for the same work: `PASSES` forward passes of a batch of 256."""

from __future__ import annotations

from typing import Any

import flowmaps as fm
from benchmarks.explore.shared import data, law, network, snapshots
from benchmarks.landscape import COUPLINGS, OUTPUTS, limits_of, method_of
from flowmaps.methods import LANDSCAPE, Row

PASSES = 12_000
SHARES = (0.02, 0.1, 0.35, 1.0)


def trained(row: Row) -> dict[str, Any]:
    """A method with its snapshots and what the page says of it."""
    print("landscape:", row.name, flush=True)
    limits = limits_of(row)
    exact = law()
    exact.path = limits["path"]
    flow = fm.FlowMap(network(), **limits)
    if row.name in OUTPUTS:
        flow.output = OUTPUTS[row.name]
    rows = fm.data.reflow(exact, data(), **COUPLINGS) if row.coupled else data()
    steps = round(PASSES / row.shared)
    return {
        "name": row.name, "rule": row.rule, "learning": row.learning, "cost": row.shared,
        "needs_teacher": row.needs_teacher or row.coupled, "reference": row.reference, "equation": row.equation,
        "snapshots": snapshots(flow, method_of(row, exact if row.needs_teacher else None), rows, steps, SHARES),
    }  # fmt: skip


def part() -> dict[str, Any]:
    """All methods, in the order of the landscape."""
    return {"passes": PASSES, "methods": [trained(row) for row in LANDSCAPE]}
