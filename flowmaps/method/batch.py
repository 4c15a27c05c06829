"""The batch of a method: checks of the input, and the split of the rows between terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..arguments import expect_floating, shown
from ..draws import Rows
from ..path import Time, expand_frames
from ..path.time_shapes import common_frames
from ..sampling import by_name
from .term import Term


def split_batch(terms: Sequence[Term], rows: Rows, whole: bool) -> Iterator[tuple[slice, Rows]]:
    """Split the rows of a batch between the terms, in proportion to their shares.

    Args:
        terms: The terms.
        rows: The rows of this part of the batch.
        whole: Whether each term gets all rows instead.

    Yields:
        For each term a slice of the rows of this part, and these rows as a part of all rows of the term.

    Raises:
        ValueError: A term has no row in some part, or a block of its rows is not whole there.
    """
    total = rows.total or 0
    counts = [total] * len(terms) if whole else split_rows(total, [term.share for term in terms])
    start = offset = 0
    for term, count in zip(terms, counts, strict=True):
        if count < rows.every:
            raise ValueError(
                f"{rows.every} processes or parts share a batch of {total}, and one of them has no row for the "
                f"term {term.name}, which has {count}: take a larger batch"
            )
        of_term = rows.of(count, offset).in_groups(term.group, term.name)
        yield slice(start, start + len(of_term)), of_term
        if not whole:
            start, offset = start + len(of_term), offset + count


def split_rows(batch: int, shares: Sequence[float]) -> list[int]:
    """Split `batch` rows in proportion to shares, by largest remainders, with at least one row each.

    Args:
        batch: Number of rows.
        shares: Relative shares.

    Returns:
        The number of rows of each share.

    Raises:
        ValueError: There are fewer rows than shares.
    """
    if batch < len(shares):
        raise ValueError(f"a batch of {batch} cannot be shared by {len(shares)} terms: it needs a row for each")
    exact = [share / sum(shares) * batch for share in shares]
    counts = [max(1, int(e)) for e in exact]
    while sum(counts) != batch:
        short = sum(counts) < batch
        gaps = [e - c for e, c in zip(exact, counts, strict=True)]
        i = gaps.index(max(gaps)) if short else min((i for i, c in enumerate(counts) if c > 1), key=gaps.__getitem__)
        counts[i] += 1 if short else -1
    return counts


def checked_condition(condition: Tensor | Mapping[str, Any] | None, batch: int) -> dict[str, Any]:
    """Return the conditions by name, after a check of their numbers of rows."""
    known = by_name(condition)
    for key, value in known.items():
        if isinstance(value, Tensor) and value.ndim and len(value) != batch:
            raise ValueError(
                f"the condition {key!r} needs a row for each of the {batch} of x0, got {tuple(value.shape)}"
            )
    return known


def checked_times(times: tuple[Time, Time], x0: Tensor) -> tuple[Tensor, Tensor]:
    """Return given times (s, t) as (B,), or per frame as they are, after a check that they lie in [0, 1]."""
    if not isinstance(times, Sequence) or isinstance(times, str) or len(times) != 2:
        raise ValueError(f"times must be a pair (s, t) of a source and a target time, got {shown(times)}")
    s, t, frames = common_frames(expand_frames(times[0], x0), expand_frames(times[1], x0), x0)
    s, t = (s.reshape(len(x0)), t.reshape(len(x0))) if frames is None else (s, t)
    for name, time in (("source", s), ("target", t)):
        outside = time[~((time >= 0) & (time <= 1))]
        if len(outside):
            raise ValueError(f"{name} times must lie in [0, 1] (0 is data, 1 is noise), got {outside[0].item():g}")
    return s, t


def checked_rows(x0: Tensor, noise: Tensor | None, rows: Rows) -> Rows:
    """Return the rows with their total number, after a check of data and noise."""
    expect_floating("x0", x0, least=2)
    if noise is None:
        return rows.of_batch(len(x0))
    expect_floating("noise", noise)
    if noise.shape != x0.shape or noise.device != x0.device:
        raise ValueError(
            f"noise must have the shape and the device of x0, {tuple(x0.shape)} on {x0.device}, got "
            f"{tuple(noise.shape)} on {noise.device}"
        )
    return rows.of_batch(len(x0))
