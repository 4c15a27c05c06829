"""A flow map of the ring that is learned as well as a small network can."""

from __future__ import annotations

from typing import Any

import flowmaps as fm
from benchmarks.explore.shared import data, network, snapshots


def part() -> dict[str, Any]:
    """The map, by the Lagrangian rule from data."""
    (last,) = snapshots(fm.FlowMap(network(64, 3)), fm.methods.lsd(), data(), 6000)
    return last
