"""Log-densities of data under a flow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, expect_finite, expect_floating, given, refuse_factory, shown
from ..flow_map import like_weights
from ..sampling import Condition, placed
from ..sampling.states import bound_to_rows, conditions_of
from ..units import units_of
from .by_ode import ode
from .result import Estimator, LogProb, path_of, warn

VALUES = 2**16
"""Number of values that an estimator computes at a time by default; each has derivatives beside it."""

FAR = 6.0
"""Root mean square of a row of noise, in standard deviations, above which its data are said to be out of range."""


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
        batch_size: Number of rows at a time. None: chosen by the size of a row. It changes no result of a
            deterministic estimator on fixed steps; a solver with adaptive steps chooses them for a whole batch, and
            random numbers are drawn batch after batch.

    Returns:
        The log-densities in nats, with their standard errors if the estimator is random. No gradient is kept.

    Raises:
        TypeError: The flow, the data, the condition or the estimator is of another kind.
        ValueError: The data are empty, have another shape than the data of training, or a value that is not finite; a
            condition has another number of rows; a feature is constant in the data of training; rows are off the
            manifold of the flow; or the estimator refuses the flow.
        FloatingPointError: The result of a row is not finite.
    """
    estimator = ode() if by is None else by
    for kind in ("Ode", "Jumps", "Bound", "Joint"):
        refuse_factory("an estimator", estimator, kind)
    if not callable(estimator) or isinstance(estimator, type) or hasattr(estimator, "draw"):
        raise TypeError(f"by= takes an estimator, such as ode(hutchinson(4)) or jumps(4), got {shown(by)}")
    check_states("x0", flow, x0)
    expect_finite("x0", x0)
    units, change = units_of(flow), scale_of(flow, x0)
    x = placed(like_weights(flow), on_manifold("x0", flow, x0 if units is None else units.standardised(x0)))
    conditions = conditions_of(flow, condition, len(x))
    parts = [
        expect_result(estimator(bound_to_rows(flow, conditions, x, rows), x[rows]), len(x[rows]))
        for rows in batches(x, batch_size)
    ]
    found = joined(parts, change)
    check_result(found.value, found.folded)
    warn_of_range(flow, found.noise)
    return found


def expect_result(found: Any, rows: int) -> LogProb:
    """The result of an estimator. Raises TypeError unless it is a `LogProb` with a value for each row."""
    if not isinstance(found, LogProb) or getattr(found.value, "shape", None) != (rows,):
        raise TypeError(
            f"an estimator returns a fm.likelihood.LogProb with a value for each of {rows} rows, got {shown(found)}"
        )
    return found


def joined(parts: Sequence[LogProb], change: float) -> LogProb:
    """Put parts of a batch together, and add the logarithm of a change of units to their values."""

    def whole(name: str) -> Tensor | None:
        found = [getattr(part, name) for part in parts]
        return None if any(one is None for one in found) else torch.cat(found)

    value = torch.cat([part.value for part in parts]) + change
    return LogProb(value, whole("noise"), whole("standard_error"), max(part.passes for part in parts), whole("folded"))


def batches(x: Tensor, batch_size: int | None) -> Iterator[slice]:
    """Rows that an estimator takes at a time, by default `VALUES` values of them."""
    at_least(1, **given(batch_size=batch_size))
    size = batch_size or max(1, VALUES // x[0].numel())
    return (slice(start, start + size) for start in range(0, len(x), size))


def scale_of(flow: Any, x: Tensor) -> float:
    """The logarithm of the density of standardised rows in the units of the flow: minus the sum of log std.

    Args:
        flow: The flow.
        x: Rows, (B, ...).

    Returns:
        Nats; 0 for a flow without units.

    Raises:
        ValueError: The rows have other features than the units, or a feature is constant, so that there is no density.
    """
    units = units_of(flow)
    if units is None:
        return 0.0
    units.check(tuple(x.shape[1:]), "the state")
    if 0 in units.std:
        raise ValueError(
            f"feature {units.std.index(0)} is constant in the data of training, so the data have no density: train on "
            "the other features"
        )
    return -(x[0].numel() / len(units.std)) * sum(map(math.log, units.std))


def check_states(name: str, flow: Any, x: Any) -> None:
    """Refuse states that are no rows of values, or rows of another shape than the rows of training.

    Args:
        name: Their name in the message.
        flow: The flow.
        x: The states.

    Raises:
        TypeError: They are no tensor.
        ValueError: They are not floating-point, have no rows or no values in a row, or another shape.
    """
    expect_floating(name, x, least=2)
    if not x.numel():
        raise ValueError(f"{name} has no values, got a tensor of shape {tuple(x.shape)}")
    trained = getattr(getattr(flow, "trained", None), "shape", None)
    if trained is not None and tuple(x.shape[1:]) != tuple(trained):
        raise ValueError(
            f"this flow map was trained on rows of shape {tuple(trained)}, and {name} has {tuple(x.shape[1:])}"
        )


def on_manifold(name: str, flow: Any, x: Tensor) -> Tensor:
    """The nearest points of the manifold of a flow; the states themselves in flat space.

    Args:
        name: Their name in the message.
        flow: The flow.
        x: The states.

    Returns:
        The points.

    Raises:
        ValueError: The states have another number of coordinates, or are off the manifold (`Path.expect`).
    """
    path = path_of(flow)
    path.expect(name, x)
    return path.point(x)


def warn_of_range(flow: Any, noise: Tensor | None) -> None:
    """Say that most rows lead to noise that sampling never starts from, as data in other units do."""
    if noise is None or path_of(flow).curved:
        return
    std = float(path_of(flow).sigma(torch.ones((), dtype=torch.float64)))
    size = noise.flatten(1).float().square().mean(1).sqrt() / std
    far = int((size > FAR).sum())
    if 2 * far > len(size):  # the points of a grid may leave the data in part
        warn(
            f"{far} of {len(size)} rows lead to noise of up to {float(size.max()):.3g} standard deviations, where a "
            "sample starts from about 1: they lie far outside of the data of training. Images are expected in [-1, 1], "
            "and other data in the units of training"
        )


def check_result(value: Tensor, folded: Tensor | None) -> None:
    """Refuse log-densities that are not finite, apart from folded rows."""
    wrong = ~value.isfinite()
    if folded is not None:
        wrong &= folded == 0
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise FloatingPointError(
            f"the log-density of {int(wrong.sum())} of {len(wrong)} rows is not finite, first of row {row}: the "
            "velocity is not finite on its way. Begin later, ode(start=1e-3), or look at this row"
        )
