"""The log-densities of rows by one estimator: a few rows at a time, given their classes or over all classes."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least
from ..draws import mixed, seeded_by
from ..likelihood import LogProb, log_prob
from ..likelihood.densities import joined
from .forecast import progress_of
from .guided_run import null_class
from .likelihood_estimators import Named, matrix_values, passes_of
from .likelihood_rows import RANDOM, Compared, NamedRows
from .likelihood_start import begun
from .sampling import labels_of
from .trained_run import Say

PARTS = 8
"""Number of parts that many rows are split into; progress is printed after each part."""
FEW = 64
"""Number of rows that are computed at once even if they are few."""
VALUES = 2**16
"""Number of values in the rows that are computed at once; each has derivatives beside it."""
MATRIX = 2**24
"""Number of values in the Jacobians that are computed at once."""
MANY = 1000
"""Number of forward passes of a row from which on they are said before they are made."""


@dataclass(frozen=True)
class Classes:
    """The classes that a run is conditioned on.

    Attributes:
        numbers: The classes: None, each row has its own; none, the run has no classes; one for all rows; or all, over
            which the density is averaged.
        quantity: The quantity in words.
        note: A sentence about it; "" if there is nothing to say.
    """

    numbers: tuple[int, ...] | None
    quantity: str
    note: str = ""

    @property
    def count(self) -> int:
        """Number of densities of a row."""
        return len(self.numbers or (0,))


def classes_for(run: Path, config: Mapping[str, Any], label: int | None, labels: bool) -> Classes:
    """Choose the classes that a run is conditioned on.

    Args:
        run: The run folder, for messages.
        config: The content of its config.json.
        label: The class of all rows. None: no such class.
        labels: Whether each row has its own class.

    Returns:
        The classes.

    Raises:
        ValueError: There is no such class, or the run has no classes.
    """
    labels_of(run, config, 1, label)
    if label is not None:
        if not labels:
            raise ValueError("`label` gives all rows a class, and `labels=False` none: choose one of them")
        return Classes((label,), f"log p(x | class {label})")
    if not config["training"]["labels"]:
        return Classes((), "log p(x)")
    if labels:
        return Classes(None, "log p(x | class)")
    null = null_class(config)
    if null is not None:
        return Classes((null,), "log p(x)", "The run knows the null class, which gives log p(x)")
    every = tuple(range(config["data"]["classes"]))
    return Classes(every, "log p(x)", f"p(x) is the mean of p(x | class) over the {len(every)} classes")


@dataclass(frozen=True)
class Estimating:
    """The work of one estimator.

    Attributes:
        flow: The flow map, or its guided velocity.
        condition: Conditions of all rows, beside the class.
        classes: The classes.
        one: The estimator.
        rows: The rows, with the time at which log-densities begin.
        seed: Seed of its random numbers.
        say: Receives lines about the cost and the progress.
    """

    flow: Any
    condition: Mapping[str, Tensor]
    classes: Classes
    one: Named
    rows: Compared
    seed: int
    say: Say

    def __call__(self) -> list[tuple[LogProb, Tensor | None, float]]:
        """The log-densities of rows, one kind after another.

        Returns:
            For each kind the log-densities, the most probable class of each row if all classes are compared, and the
            time in seconds.
        """
        rows = self.rows.rows
        values = rows[0].x[0].numel()
        passes = (passes_of(self.one.estimate, values) or 0) * self.classes.count
        if passes >= MANY:
            total = sum(len(part.x) for part in rows)
            self.say(f"{self.one.name} takes {passes:,} forward passes for each of {total:,} rows ...")
        sizes = [self._rows_at_once(len(part.x), values) for part in rows]
        parts = [len(range(0, len(part.x), size)) for part, size in zip(rows, sizes, strict=True)]
        progress, done = progress_of(self.say, self.one.name), 0

        def after() -> None:
            nonlocal done
            done += 1
            progress(done, sum(parts) * self.classes.count)

        found = []
        for k, (part, size) in enumerate(zip(rows, sizes, strict=True)):
            start = time.perf_counter()
            with seeded_by(torch.device("cpu"), mixed(self.seed, k)), warnings.catch_warnings():
                if part.name == RANDOM:  # they lie outside of the data of training, which is their purpose
                    warnings.filterwarnings("ignore", message=".*lead to noise", category=UserWarning)
                value, best = self._of_rows(part, size, after)
            found.append((value, best, time.perf_counter() - start))
        return found

    def _rows_at_once(self, n: int, values: int) -> int:
        """Number of rows at a time: as memory allows, and so that the progress of many can be said."""
        matrix = MATRIX // matrix_values([self.one], values)
        return max(1, min(VALUES // values, matrix, max(FEW, -(-n // PARTS))))

    def _of_rows(self, part: NamedRows, size: int, after: Callable[[], None]) -> tuple[LogProb, Tensor | None]:
        """The log-densities of rows, and their most probable classes if all are compared."""
        found, best = [], []
        estimate, of_states, more = begun(self.one.estimate, self.rows.time, self.flow.path, part.x[0].numel())
        for start in range(0, len(part.x), size):
            here = slice(start, start + size)
            x = (part.state if of_states else part.x)[here]
            fixed = {name: value[here] for name, value in part.given.items()} | dict(self.condition)
            several = []
            for label in self._labels(part, here, len(x)):
                condition = {**fixed, **({} if label is None else {"label": label})}
                several.append(_on_cpu(log_prob(self.flow, x, by=estimate, condition=condition)))
                after()
            found.append(several[0] if len(several) == 1 else averaged(several))
            best.append(torch.stack([one.value for one in several]).argmax(0))
        whole = joined(found, 0.0)
        change = part.change if of_states else more + self.rows.expected
        return replace(whole, value=whole.value + change), torch.cat(best) if self.classes.count > 1 else None

    def _labels(self, part: NamedRows, here: slice, n: int) -> list[Tensor | None]:
        """The labels of some rows, once for each density."""
        if self.classes.numbers is None:
            return [None if part.label is None else part.label[here]]
        return [torch.full((n,), number) for number in self.classes.numbers] or [None]


def _on_cpu(found: LogProb) -> LogProb:
    """Log-densities on the CPU, without the noise that they lead to."""
    error, folded = (None if one is None else one.cpu() for one in (found.standard_error, found.folded))
    return LogProb(found.value.cpu(), None, error, found.passes, folded)


def averaged(several: Sequence[LogProb]) -> LogProb:
    """The log-density of the mean of several densities.

    Args:
        several: The log-densities of the same rows.

    Returns:
        log of the mean of e^value. A row without a density in one of them has none.
    """
    at_least(1, densities=len(several))
    values = torch.stack([one.value for one in several])
    shares = values.softmax(0)
    errors = [one.standard_error for one in several if one.standard_error is not None]
    folds = [one.folded for one in several if one.folded is not None]
    return LogProb(
        values.logsumexp(0) - math.log(len(several)), None,
        (shares * torch.stack(errors)).square().sum(0).sqrt() if len(errors) == len(several) else None,
        sum(one.passes for one in several),
        torch.stack(folds).amax(0) if len(folds) == len(several) else None,
    )  # fmt: skip
