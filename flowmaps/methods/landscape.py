"""The post's table *The landscape*: the rows of all families, in the post's order."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from ..arguments import did_you_mean, shown
from ..method.method import Method
from . import (
    adversarial,
    adversarial_distillation,
    compositional,
    consistency_models,
    consistency_training,
    data_free,
    diffusion,
    discrete,
    distribution_matching,
    drifting_models,
    eulerian,
    frechet,
    inductive_moments,
    lagrangian,
    language,
    likelihood,
    manifolds,
    mean_flows,
    mid_training,
    moment_matching,
    policy_flow,
    score_identity,
    self_evaluation,
    shrinking_steps,
    trig_flow,
)
from .beside import BESIDE, beside_named
from .row import Row
from .variants import VARIANTS, Variant

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
BEYOND: tuple[Row, ...] = tuple(rows_of(likelihood))
"""The rows of methods beyond the post's landscape, whose maps know likelihoods too."""

MANIFOLDS: tuple[Row, ...] = tuple(rows_of(manifolds))
"""The rows of methods of maps on manifolds."""
DISCRETE: tuple[Row, ...] = (*rows_of(discrete), *rows_of(language))
"""The rows of methods of discrete data, whose maps predict distributions over classes."""


DISTRIBUTIONAL: tuple[Row, ...] = tuple(
    row
    for family in (
        drifting_models, inductive_moments, frechet, distribution_matching, score_identity, moment_matching,
        adversarial, adversarial_distillation, policy_flow, self_evaluation,
    )
    for row in rows_of(family)
)  # fmt: skip
"""The rows of methods that match distributions instead of paths."""


def known_rows() -> tuple[Row, ...]:
    """The rows of all methods, then the records of all variants."""
    return (*LANDSCAPE, *BEYOND, *DISCRETE, *MANIFOLDS, *DISTRIBUTIONAL, *VARIANTS)


def row_named(name: str) -> Row:
    """Find a row by the name of its method or variant.

    Args:
        name: The name; dashes stand for underscores.

    Returns:
        The row.

    Raises:
        ValueError: The method is unknown; the message has the closest names. Or it needs more than data and a teacher.
    """
    if (record := beside_named(name)) is not None:
        raise ValueError(record.refusal)
    rows = {row.name: row for row in known_rows()}
    wanted = name.replace("-", "_")
    if wanted not in rows:
        known = ", ".join(row.name for row in (*LANDSCAPE, *BEYOND, *DISCRETE, *MANIFOLDS, *DISTRIBUTIONAL))
        near = did_you_mean(wanted, [*rows, *(record.name for record in BESIDE)])
        raise ValueError(
            f"unknown method {name!r}{near}; known are {known}, and the variants that `flowmaps methods` lists"
        )
    return rows[wanted]


def method_of(method: Any) -> Method:
    """Return a method, made with its defaults if its name or its function is given.

    Args:
        method: A `Method`, a name such as "imf", or a function such as `methods.imf`.

    Returns:
        The method.

    Raises:
        TypeError: It is something else.
        ValueError: The method is unknown, or it needs a teacher.
    """
    if isinstance(method, Method):
        return method
    row = row_named(method) if isinstance(method, str) else getattr(method, "row", None)
    if not isinstance(row, Row):
        raise TypeError(f"training needs a Method, such as fm.methods.imf(), or its name, got {shown(method)}")
    if row.needs_teacher:
        place = "methods.variants" if isinstance(row, Variant) else "methods"
        raise ValueError(f"{row.name} learns from a teacher: pass fm.{place}.{row.name}(teacher=...)")
    if row.null:
        raise ValueError(
            f"{row.name} compares with a null class: pass fm.methods.{row.name}(null={{'label': classes}}), and leave "
            "some labels out by fm.data.transforms.LabelDropout"
        )
    return row.build()
