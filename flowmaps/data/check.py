"""Checks of data, and the names that columns usually have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..arguments import MOST_CLASSES, between

SOME_CLASSES = 2**16
"""Number of classes that labels may have in any case, even in fewer rows."""
LABEL_NAMES = ("label", "labels", "target", "class", "y")
"""Usual names of a column of class labels."""
TEXT_NAMES = ("text", "caption", "prompt", "captions", "txt")
"""Usual names of a column of texts."""
HELD_OUT_NAMES = ("test", "validation", "valid", "val")
"""Usual names of a held-out split or folder."""


def check_finite(x: Tensor, where: str) -> None:
    """Raise ValueError, with the counts, if x holds NaN or infinite values; `where` names x in the message."""
    if x.is_floating_point() and not bool(x.isfinite().all()):
        refuse_non_finite(int(x.isnan().sum()), int(x.isinf().sum()), x.numel(), where)


def refuse_non_finite(nan: int, infinite: int, values: int, where: str) -> None:
    """Raise ValueError unless both counts are zero.

    Args:
        nan: Number of NaN values.
        infinite: Number of infinite values.
        values: Number of all values.
        where: Name of the data in the message.

    Raises:
        ValueError: One of the counts is not zero.
    """
    if nan or infinite:
        raise ValueError(f"{where} must be finite, and of {values} values {nan} are NaN and {infinite} infinite")


def unmasked(values: Any, where: str) -> Any:
    """The values of a masked numpy array in which nothing is masked; other values are returned unchanged.

    Args:
        values: The values.
        where: Their name in the message.

    Returns:
        The values.

    Raises:
        ValueError: Some values are masked, that is, unknown.
    """
    if not type(values).__module__.startswith("numpy.ma"):
        return values
    masked = int(values.mask.sum())
    if masked:
        raise ValueError(
            f"{where} must be known, and {masked} of {values.size} values are masked: fill them, or leave out their "
            "rows"
        )
    return values.data


def check_labels(
    label: Any, rows: int, where: str, classes: int | None = None
) -> tuple[Tensor, int] | tuple[None, None]:
    """Check class labels and count the classes.

    Args:
        label: Labels, one for each row, as a tensor, an array or a list; or None.
        rows: Number of rows.
        where: Name of the data in messages.
        classes: Number of classes. None: the largest label plus one.

    Returns:
        The labels as an int64 tensor (rows,) and the number of classes; (None, None) without labels.

    Raises:
        ValueError: The labels have another length, are not whole numbers, negative, not below `classes`, or far larger
            than the number of rows; or `classes` is given without labels.
    """
    if label is None:
        if classes is not None:
            raise ValueError(f"{where} has no labels, so classes={classes} does not apply")
        return None, None
    label = _numbers(label, where)
    if label.ndim == 2 and label.shape[1] == 1:
        label = label[:, 0]
    if label.shape != (rows,):
        raise ValueError(f"labels of {where} must have shape ({rows},), one for each row, got {tuple(label.shape)}")
    if label.is_floating_point():
        _refuse(label, (label != label.round()) | ~label.isfinite(), "whole numbers", where)
    _refuse(label, label < 0, "0 or more", where)
    if classes is not None:
        between(1, MOST_CLASSES, classes=classes)
        _refuse(label, label >= classes, f"below the number of classes, {classes}", where)
        return label.long(), classes
    count = int(label.max()) + 1
    if count > max(SOME_CLASSES, 4 * rows):
        raise ValueError(
            f"the largest label of {where} is {count - 1:.15g}, which is far more than its {rows} rows: number the "
            "classes from 0, or pass classes=COUNT"
        )
    return label.long(), count


def _numbers(label: Any, where: str) -> Tensor:
    """Labels as a tensor of real numbers. Raises ValueError if that is not possible."""
    label = unmasked(label, f"labels of {where}")
    try:
        label = torch.as_tensor(label)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"labels of {where} must be whole numbers, got {type(label).__name__}: {error}") from error
    if label.is_complex() or label.dtype == torch.bool:
        raise ValueError(f"labels of {where} must be whole numbers, got dtype {label.dtype}")
    return label if label.is_floating_point() else label.long()  # torch does not compare all unsigned types


def _refuse(label: Tensor, wrong: Tensor, expected: str, where: str) -> None:
    """Raise ValueError if a label is wrong, naming the first."""
    rows = wrong.nonzero()[:, 0].tolist()
    if rows:
        got = f"the first in row {rows[0]}: {label[rows[0]].item()}"
        raise ValueError(f"labels of {where} must be {expected}; {len(rows)} are not, {got}")


def check_names(names: Sequence[str] | None, classes: int | None, where: str) -> tuple[str, ...] | None:
    """Check the class names.

    Args:
        names: Class names, or None.
        classes: Number of classes.
        where: Name of the data in messages.

    Returns:
        The names as a tuple of strings, or None.

    Raises:
        ValueError: There are not as many names as classes.
    """
    if names is not None and len(names) != classes:
        raise ValueError(f"{where} has {classes} classes and {len(names)} class names")
    return None if names is None else tuple(map(str, names))
