"""The result of `likelihood`: a row of numbers for each estimator and each kind of rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..likelihood import LogProb, bits_per_dim


@dataclass(frozen=True)
class LikelihoodRow:
    """The log-densities of some rows by one estimator, in numbers.

    Attributes:
        by: Name of the estimator.
        rows: Name of the rows: "held-out", "training", "random", or the name of a data set.
        n: Number of rows.
        nats: Mean log-density. None: no row has a density.
        stderr: Standard error of this mean over the rows.
        bits: Bits per dimension of images of whole levels; None for other data.
        bits_stderr: Their standard error.
        per_value: Nats per value of a row.
        error: Standard error of the log-density of one row, by the estimator's probes or draws; None if it has none.
        folded: Number of rows without a density, because a jump folds space there; they are left out.
        passes: Forward passes of the network for one row.
        seconds: Time for all rows.
        auroc: Probability that a held-out row has a higher log-density than one of these rows; 0.5 is chance. None for
            the held-out rows.
    """

    by: str
    rows: str
    n: int
    nats: float | None
    stderr: float | None
    bits: float | None
    bits_stderr: float | None
    per_value: float | None
    error: float | None
    folded: int
    passes: int
    seconds: float
    auroc: float | None


@dataclass(frozen=True, repr=False)
class LikelihoodTable:
    """Log-densities of rows under a run.

    Attributes:
        rows: The numbers, a row for each estimator and each kind of rows.
        values: The log-densities in nats, (n,), by estimator and kind of rows; NaN without a density.
        x: The rows themselves, (n, ...), by kind, in the units of the data; latents stay latents.
        accuracy: Share of held-out rows whose class is the most probable one by Bayes' rule, by estimator; empty
            unless all classes were compared.
        data: Name of the data of the run.
        levels: Number of levels of the data; None for data without levels.
        quantity: The quantity in words, such as "log p(x | class)".
        notes: Sentences that a reader of the numbers needs.
        step: Step of training of the weights.
    """

    rows: Sequence[LikelihoodRow]
    values: Mapping[str, Mapping[str, Tensor]]
    x: Mapping[str, Tensor]
    accuracy: Mapping[str, float]
    data: str
    levels: int | None
    quantity: str
    notes: Sequence[str]
    step: int

    def __repr__(self) -> str:
        known = ", ".join(f"{row.rows} {row.nats:.4g}" for row in self.rows if row.nats is not None)
        return f"LikelihoodTable({self.quantity} of {self.data} in nats: {known})"


def row_of(
    by: str, rows: str, found: LogProb, shape: Sequence[int], levels: int | None, seconds: float, held: Tensor | None
) -> LikelihoodRow:
    """Put log-densities into numbers.

    Args:
        by: Name of the estimator.
        rows: Name of the rows.
        found: The log-densities.
        shape: Shape of a row.
        levels: Number of levels of the data. None: no bits per dimension.
        seconds: Time for all rows.
        held: The log-densities of held-out rows. None: these are the held-out rows, or there are none.

    Returns:
        The numbers.
    """
    value = found.value[~found.value.isnan()].double()
    nats, stderr = _mean(value)
    bits, bits_stderr = (None, None) if levels is None else _mean(bits_per_dim(value, shape, levels))
    error = None if found.standard_error is None else float(found.standard_error.double().square().mean().sqrt())
    return LikelihoodRow(
        by, rows, len(found.value), nats, stderr, bits, bits_stderr,
        None if nats is None else nats / math.prod(shape), error,
        0 if found.folded is None else int((found.folded > 0).sum()), found.passes, seconds,
        None if held is None else auroc(held, found.value),
    )  # fmt: skip


def _mean(value: Tensor) -> tuple[float | None, float | None]:
    """The mean, and its standard error; None as far as there are too few values."""
    mean = float(value.mean()) if len(value) else None
    return mean, float(value.std()) / len(value) ** 0.5 if len(value) > 1 else None


def auroc(first: Tensor, second: Tensor) -> float | None:
    """The probability that a value of the first is larger than one of the second, equal ones counted half.

    Args:
        first: Values, (n,). NaN is left out.
        second: Values, (m,). NaN is left out.

    Returns:
        The probability; None if one of them has no values.
    """
    first, second = (one[~one.isnan()].double() for one in (first, second))
    if not len(first) or not len(second):
        return None
    order = second.sort().values
    below, up_to = (torch.searchsorted(order, first, right=right) for right in (False, True))
    return float((below + up_to).double().mean()) / (2 * len(second))
