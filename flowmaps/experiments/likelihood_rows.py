"""The rows whose log-densities are compared: held-out, training, random ones, and rows of another data set."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import Batch, Data, as_data
from ..data.core import DRAW, generator
from ..data.standardise import with_units
from ..data.transforms import Dequantise
from ..data.vocabularies import one_hot
from ..draws import mixed
from ..path import Path as TimePath
from .guided_run import transforms_of_run
from .likelihood_checks import SLACK, range_of, warn_of_repeats, warn_outside
from .likelihood_start import Start
from .run_data import given_data, run_data
from .trained_run import data_of, units_of_model

HELD_OUT, TRAINING, RANDOM = "held-out", "training", "random"
"""Names of the rows of the run's own data."""
SEEN, ENOUGH_VALUES = 4096, 2**22
"""Largest number of training rows that tell the range of the data, and of their values."""


@dataclass(frozen=True)
class NamedRows:
    """Rows with their conditions.

    Attributes:
        name: Their name: "held-out", "training", "random", or the name of a data set.
        x: The rows (n, ...), in the units of the data.
        state: Their states at the time where log-densities begin, in the units of the data.
        change: The change of the log-densities of states to the ones of rows, (n,).
        label: The class of each row, (n,); None if it is not known.
        given: Other conditions by name.
    """

    name: str
    x: Tensor
    state: Tensor
    change: Tensor
    label: Tensor | None
    given: Mapping[str, Tensor]


@dataclass(frozen=True)
class Compared:
    """The rows of an experiment.

    Attributes:
        rows: The rows.
        name: The name of the data of the run.
        levels: Number of levels for bits per dimension; None for data without levels.
        time: The time at which log-densities begin.
        expected: The mean of the changes over the noise of states.
        notes: Sentences about the rows, which a reader of the numbers needs.
    """

    rows: list[NamedRows]
    name: str
    levels: int | None
    time: float
    expected: float
    notes: list[str]


def other_data(run: Path, data: Any, data_args: Mapping[str, Any] | None, numbered: bool) -> Data:
    """Another data set, in the units of a run.

    Args:
        run: The run folder.
        data: A name, folder or file, a `Data`, or anything that `data.as_data` takes.
        data_args: Options of a data set that is given by name.
        numbered: Whether its classes get the numbers that they have in the run.

    Returns:
        The data set.

    Raises:
        ValueError: The data cannot be read, or a class is none of the run.
    """
    options = {**(data_args or {}), "standardise": False}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* expected in \\[-1, 1\\]")  # said below, with the range of the run
        found = data_of(data, options) if not isinstance(data, Data) else data
        found = as_data(found, standardise=False)
    if not numbered:
        return with_units(found, units_of_model(run))
    try:
        return given_data(run, found)
    except ValueError as error:
        if "class" not in str(error):
            raise
        raise ValueError(
            f"{error}; or leave the classes out: `labels=False`, or one class for all rows, `label`"
        ) from None


def compared(
    run: Path, config: Mapping[str, Any], data: Data | None, n: int, seed: int, labels: bool, time: float | None,
    path: TimePath,
) -> Compared:  # fmt: skip
    """Draw the rows of an experiment.

    Args:
        run: The run folder.
        config: The content of its config.json.
        data: Another data set. It takes the place of the run's data if these were made from an object.
        n: Number of rows of each kind, or all rows if there are fewer.
        seed: Seed of the choice, of random rows, and of the noise between levels.
        labels: Whether the run is conditioned on the classes of the rows.
        time: The time at which log-densities begin. None: 0 for a run on dequantised images, else as in
            `Start`.
        path: The path of the flow map.

    Returns:
        The rows.

    Raises:
        ValueError: The run's data were made from an object and there are no others, shapes differ, classes or other
            conditions are missing, or there are no unseen rows.
    """
    own, other = (run_data(run), data) if config["data"]["recipe"] is not None or data is None else (data, None)
    notes: list[str] = []
    for one in (own, other):
        if one is not None and tuple(one.shape) != tuple(config["data"]["shape"]):
            raise ValueError(
                f"rows of {one.name} have shape {tuple(one.shape)}, and this run was trained on rows of shape "
                f"{tuple(config['data']['shape'])}: give data of that shape, such as images of that size and number of "
                "channels"
            )
    seen = max(n, min(SEEN, ENOUGH_VALUES // math.prod(own.shape)))
    training = own.draw(seen if own.size is None else min(seen, own.size), seed)
    found = _own_rows(own, training, other is None, n, seed, path, notes)
    if other is not None:
        found.append(_other_rows(other, n, seed, notes))
    levels = own.levels if own.kind == "images" else None
    given = _conditions(own, config, found, labels)
    if other is not None and not path.curved:
        low, high = range_of(own, own.in_units(training.x0), levels)
        warn_outside(
            found[-1].name, own.in_units(found[-1].x), low, high, 0.0 if own.kind == "images" else SLACK, notes
        )
    if levels is not None:
        found = [replace(one, x=_on_levels(one.x, levels)) for one in found]
    filled = time is None and any(transforms_of_run(config, Dequantise))
    start = Start(levels, 0.0 if filled else time, path)
    states = [start(one.x, mixed(seed, k)) for k, one in enumerate(found)]
    begin, values = states[0][1], found[0].x[0].numel()
    rows = [
        replace(one, x=own.in_units(one.x), state=own.in_units(state), change=change, given=here)
        for one, here, (state, _, change) in zip(found, given, states, strict=True)
    ]
    if levels is None and not time and own.kind != "tokens":
        warn_of_repeats(own, training.x0, notes)
    notes += filter(None, [start.note(own.name, begin)])
    return Compared(rows, own.name, levels if start.has_bits else None, begin, start.expected(begin, values), notes)


def _own_rows(
    own: Data, training: Batch, alone: bool, n: int, seed: int, path: TimePath, notes: list[str]
) -> list[NamedRows]:
    """Held-out, training and random rows of the data of a run."""
    found = []
    try:
        found.append(_named(HELD_OUT, own.held_out(n, seed)))
    except ValueError:
        if alone:
            raise ValueError(
                f"{own.name} holds no rows out, so there are no unseen rows whose density could be measured: give "
                "another data set"
            ) from None
        notes.append(f"{own.name} holds no rows out, so unseen rows of it are missing")
    if own.size is None:
        notes.append(f"{own.name} draws new rows for each batch, so there are no training rows to compare with")
    else:
        found.append(_named(TRAINING, training.rows(slice(min(n, own.size)))))
    like = found[0] if found else _named(TRAINING, training.rows(slice(n)))
    return [*found, replace(like, name=RANDOM, x=_random(own, training.x0, like.x, seed, path))]


def _other_rows(other: Data, n: int, seed: int, notes: list[str]) -> NamedRows:
    """Rows of another data set: held-out ones, or any rows if none are held out."""
    name = f"{other.name} (given)" if other.name in (HELD_OUT, TRAINING, RANDOM) else other.name
    try:
        return _named(name, other.held_out(n, seed))
    except ValueError:
        notes.append(f"{other.name} holds no rows out, so all of its rows are taken")
        return _named(name, other.draw(min(n, other.size or n), seed))


def _named(name: str, batch: Batch) -> NamedRows:
    """Rows of a batch."""
    return NamedRows(name, batch.x0, batch.x0, torch.zeros(len(batch.x0)), batch.label, batch.given or {})


def _random(own: Data, training: Tensor, like: Tensor, seed: int, path: TimePath) -> Tensor:
    """Random rows: the prior of a manifold, uniform tokens or images, or Gaussians of the data's mean and variance."""
    draws = generator(seed, 0, DRAW)
    if path.curved:
        return path.noise(torch.randn(like.shape, generator=draws, dtype=like.dtype))
    if own.kind == "tokens":
        return one_hot(torch.randint(own.shape[1], like.shape[:2], generator=draws), own.shape[1])
    if own.kind != "images":
        std = training.std(0) if len(training) > 1 else torch.zeros_like(training[0])
        return training.mean(0) + std * torch.randn(like.shape, generator=draws, dtype=like.dtype)
    if own.levels is not None:
        return torch.randint(own.levels, like.shape, generator=draws).to(like) / (own.levels - 1) * 2 - 1
    low, high = training.min(), training.max()
    return low + (high - low) * torch.rand(like.shape, generator=draws, dtype=like.dtype)


def _conditions(
    own: Data, config: Mapping[str, Any], rows: list[NamedRows], labels: bool
) -> list[Mapping[str, Tensor]]:
    """The conditions of rows beside their classes, checked."""
    for one in rows:
        if labels and config["training"]["labels"] and one.label is None:
            raise ValueError(
                f"this run is conditioned on classes, and {one.name} has no labels: give one class for all rows, "
                "`label`, or leave the classes out, `labels=False`"
            )
        if lost := [name for name in own.given if name not in one.given]:
            raise ValueError(f"this run is conditioned on {', '.join(lost)}, and {one.name} has no such values")
    return [{name: one.given[name] for name in own.given} for one in rows]


def _on_levels(x: Tensor, levels: int) -> Tensor:
    """Images on the nearest levels, also beyond [-1, 1]."""
    return ((x + 1) / 2 * (levels - 1)).round() / (levels - 1) * 2 - 1
