"""Labels that are texts or truth values, as class numbers with names."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from .check import check_labels, check_names, unmasked

MOST_NAMES = 2**16
"""Largest number of different texts that are taken for class names."""


def numbered(label: Any, where: str) -> tuple[Any, tuple[str, ...] | None]:
    """Number labels that are texts or truth values, in the order of their names.

    Args:
        label: Labels, one for each row, as a tensor, an array or a list; or None.
        where: Name of the data in messages.

    Returns:
        The labels, which are unchanged if they are no texts and no truth values; and the class names, or None. Texts
        that are all whole numbers become these numbers, without names.

    Raises:
        ValueError: Some labels are texts and others are not, or there are too many different texts.
    """
    label = unmasked(label, f"labels of {where}")
    if str(getattr(label, "dtype", "")).removeprefix("torch.").startswith(("int", "uint", "float")):
        return label, None
    values = label.tolist() if hasattr(label, "tolist") else label
    if not isinstance(values, (list, tuple)) or not values:
        return label, None
    values = [value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value for value in values]
    values = [value.decode(errors="replace") if isinstance(value, bytes) else value for value in values]
    values = [value.strip() if isinstance(value, str) else value for value in values]
    texts = sum(isinstance(value, str) for value in values)
    if texts == 0:
        truths = sum(isinstance(value, bool) for value in values)
        return ([int(value) for value in values], ("False", "True")) if truths == len(values) else (label, None)
    if texts < len(values) or not all(values):
        row = next(row for row, value in enumerate(values) if not isinstance(value, str) or not value)
        raise ValueError(
            f"labels of {where} are texts, and some are missing: the first in row {row} is {values[row]!r}"
        )
    if all(re.fullmatch(r"-?\d{1,9}", value) for value in values):
        return [int(value) for value in values], None
    names = sorted(set(values))
    if len(names) > MOST_NAMES:
        raise ValueError(
            f"labels of {where} are {len(names)} different texts in {len(values)} rows, too many for classes: name "
            "another column, or pass labels=False"
        )
    number = {name: at for at, name in enumerate(names)}
    return [number[value] for value in values], tuple(names)


def labels_and_names(
    label: Any, rows: int, where: str, classes: int | None = None, names: Any = None
) -> tuple[Tensor | None, int | None, tuple[str, ...] | None]:
    """Check class labels, which may be texts or truth values, and their names.

    Args:
        label: Labels, one for each row, as a tensor, an array or a list; or None.
        rows: Number of rows.
        where: Name of the data in messages.
        classes: Number of classes. None: the number of names, or the largest label plus one.
        names: Class names. None: the texts.

    Returns:
        The labels as an int64 tensor (rows,), the number of classes and their names. Labels and number are None
        without labels, names without names.

    Raises:
        ValueError: The labels or names are wrong; see `check_labels` and `numbered`.
    """
    label, found = numbered(label, where)
    names = found if names is None else names
    known = classes if classes is not None or names is None or label is None else len(names)
    targets, count = check_labels(label, rows, where, known)
    return targets, count, check_names(names, count, where)
