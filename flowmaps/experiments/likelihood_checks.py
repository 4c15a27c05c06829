"""Checks of rows whose log-densities are computed: the range of the data of training, and values that repeat."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ..arguments import shown
from ..data import Data

SLACK = 0.1
"""Part of the range of a feature by which rows that are no images may leave it."""
ENOUGH, REPEATED = 500, 0.1
"""Number of values, and share of different ones among them, below which data are said to have no density."""
MOST_COLUMNS = 1024
"""Number of features that are looked at."""


def range_of(own: Data, training: Tensor, levels: int | None) -> tuple[Tensor, Tensor]:
    """The lowest and the highest value of the training data: of each feature, or of all values of images.

    Args:
        own: The data of the run.
        training: Some training rows, in the units of the data.
        levels: Number of levels of images in [-1, 1]; None for data without levels.
    """
    if levels is not None:
        return torch.tensor(-1.0), torch.tensor(1.0)
    return (training.min(), training.max()) if own.kind == "images" else (training.amin(0), training.amax(0))


def warn_outside(name: str, x: Tensor, low: Tensor, high: Tensor, slack: float, notes: list[str]) -> None:
    """Warn of rows with values outside of the range of training.

    Args:
        name: Name of the rows.
        x: The rows, in the units of the data.
        low: The lowest values.
        high: The highest values.
        slack: Part of the range by which rows may leave it.
        notes: Receives the sentence too.
    """
    room = slack * (high - low) + 1e-6
    beyond = torch.maximum(low - room - x, x - high - room).flatten(1)
    wrong = (beyond > 0).any(1)
    if not bool(wrong.any()):
        return
    text = (
        f"{int(wrong.sum())} of {len(wrong)} rows of {name} have values outside of the range of the training "
        f"data, {_shown(low)} to {_shown(high)}, by up to {float(beyond.max()):.4g}: their log-densities say that, and "
        "nothing else. Bring them to the scale of the training data"
    )
    notes.append(text)
    warnings.warn(text, stacklevel=4)


def _shown(value: Tensor) -> str:
    """A value, or several."""
    return f"{float(value):.4g}" if value.ndim == 0 else shown([round(one, 4) for one in value.flatten().tolist()])


def warn_of_repeats(own: Data, training: Tensor, notes: list[str]) -> None:
    """Warn of data whose values repeat, so that they have no density.

    Args:
        own: The data of the run.
        training: Some training rows.
        notes: Receives the sentence too.
    """
    columns = training.reshape(1, -1) if own.kind == "images" else training.flatten(1).T
    for k, column in enumerate(columns[:MOST_COLUMNS]):
        different = len(column.unique())
        if len(column) < ENOUGH or different > REPEATED * len(column):
            continue
        where = "the images" if own.kind == "images" else f"feature {k}"
        text = (
            f"{where} of {own.name} have {different} different values among {len(column)}: such data have no density, "
            "and their log-densities depend on the steps of the ODE. Begin later, such as `start=0.01`"
        )
        notes.append(text)
        warnings.warn(text, stacklevel=4)
        return
