"""Log-densities of data under a flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, expect_finite, given, shown
from ..flow_map import like_weights
from ..sampling import Condition, by_name, check_state, placed, rows_of
from ..sampling.states import bound_to
from ..units import Units, units_of
from .ode import ode
from .result import Estimator, LogProb

ROWS = 2**16
"""Number of values that an estimator computes at a time by default; each has derivatives beside it."""


@torch.no_grad()
def log_prob(
    flow: Any,
    x0: Tensor,
    *,
    by: Estimator | None = None,
    condition: Condition = None,
    batch_size: int | None = None,
) -> LogProb:
    """Log-density of data under a flow, log p_0(x_0), given a condition if the flow has one.

    Args:
        flow: A FlowMap, an exact distribution, a teacher, or any object with velocity(x, t).
        x0: Data in the units of the flow, (B, ...).
        by: The estimator, such as `ode()`, `jumps(4)`, `joint(4)` or `bound(64)`. None: `ode()`.
        condition: Keyword arguments of the network beside x, s and t. A tensor means {"label": tensor}.
        batch_size: Number of rows at a time. None: chosen by the size of a row.

    Returns:
        The log-densities in nats, and what the estimator tells about them.

    Raises:
        TypeError: The flow, the data, the condition or the estimator is of another kind.
        ValueError: The data have another shape than the data of training or a value that is not finite, a feature is
            constant in the data of training, or the estimator refuses the flow.
        FloatingPointError: The result of a row is not finite.
    """
    check_state("x0", x0)
    estimator = ode() if by is None else by
    if not callable(estimator) or isinstance(estimator, type):
        raise TypeError(f"by= takes an estimator, such as fm.likelihood.ode() or jumps(4), got {shown(by)}")
    at_least(1, **given(batch_size=batch_size))
    expect_finite("x0", x0)
    check_shape(flow, x0)
    like, units = like_weights(flow), units_of(flow)
    x = placed(like, x0 if units is None else units.standardised(x0))
    conditions = {name: placed(like, value) for name, value in by_name(condition).items()}
    size = batch_size or max(1, ROWS // max(1, x[0].numel()))
    parts = []
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        part = {name: rows_of(value, rows) for name, value in conditions.items()}
        parts.append(estimator(bound_to(flow, part, len(x[rows])), x[rows]))
    found = joined(parts, 0.0 if units is None else scale_of(units, x.shape[1:]))
    check_result(found)
    return found


def joined(parts: Sequence[LogProb], change: float) -> LogProb:
    """Put parts of a batch together, and add the logarithm of a change of units to their values."""

    def whole(name: str) -> Tensor | None:
        found = [getattr(part, name) for part in parts]
        return None if any(one is None for one in found) else torch.cat(found)

    value = torch.cat([part.value for part in parts]) + change
    return LogProb(value, whole("noise"), whole("standard_error"), max(part.passes for part in parts), whole("folded"))


def scale_of(units: Units, shape: Sequence[int]) -> float:
    """The logarithm of the density of standardised rows in the units of the data: minus the sum of log std.

    Raises:
        ValueError: A feature is constant, so that the data have no density.
    """
    if 0 in units.std:
        raise ValueError(
            f"feature {units.std.index(0)} is constant in the data of training, so the data have no density: train on "
            "the other features"
        )
    each = math.prod(shape) / len(units.std)
    return -each * sum(map(math.log, units.std))


def check_shape(flow: Any, x0: Tensor) -> None:
    """Refuse rows of another shape than the rows of training."""
    trained = getattr(getattr(flow, "trained", None), "shape", None)
    if trained is not None and tuple(x0.shape[1:]) != tuple(trained):
        raise ValueError(f"this flow map was trained on rows of shape {trained}, and x0 has {tuple(x0.shape[1:])}")


def check_result(found: LogProb) -> None:
    """Refuse a result with rows that are not finite, apart from folded ones."""
    wrong = ~found.value.isfinite()
    if found.folded is not None:
        wrong &= found.folded == 0
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise FloatingPointError(
            f"the log-density of {int(wrong.sum())} of {len(wrong)} rows is not finite, first of row {row}: the "
            "velocity is not finite on its way. Begin later, ode(start=1e-3), or look at this row"
        )
