"""The post's table *The landscape*: the rows of all families, in the post's order."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

from . import (
    compositional,
    consistency_models,
    consistency_training,
    data_free,
    diffusion,
    eulerian,
    lagrangian,
    mean_flows,
    mid_training,
    shrinking_steps,
    trig_flow,
)
from .row import Row

FAMILIES: tuple[ModuleType, ...] = (
    diffusion, lagrangian, data_free, consistency_models, eulerian, mean_flows, shrinking_steps, consistency_training,
    trig_flow, mid_training, compositional,
)  # fmt: skip


def rows_of(family: ModuleType) -> list[Row]:
    """Return the rows of the methods in `__all__` of a module."""
    return [getattr(family, name).row for name in family.__all__]


def in_order(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Order rows: each one in its given place, or directly after the row named by its `after`."""
    placed: list[Row] = []
    for row in sorted(rows, key=lambda row: row.after != ""):
        names = [other.name for other in placed]
        placed.insert(names.index(row.after) + 1 if row.after else len(placed), row)
    return tuple(placed)


LANDSCAPE = in_order(row for family in FAMILIES for row in rows_of(family))
