"""Times of samplers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..arguments import at_least, shown


def time_grid(steps: int | None = None, times: Sequence[float] | None = None) -> list[float]:
    """Times of a sampler: 1, 1 - 1/steps, ..., 0, or the given ones, checked.

    Args:
        steps: Number of equal steps. None: 1, or as many as there are times.
        times: Times in [0, 1], at least two.

    Returns:
        The times.

    Raises:
        TypeError: The number of steps is no whole number, or a time no number.
        ValueError: There is less than one step or there are fewer than two times, a time is outside [0, 1], or the
            times do not have this number of steps.
    """
    if steps is not None:
        at_least(1, steps=steps)
    if times is None:
        steps = 1 if steps is None else steps
        return [1 - k / steps for k in range(steps)] + [0.0]
    if isinstance(times, str | bytes) or not isinstance(times, Iterable):
        raise TypeError(f"times must be a list of numbers, such as [1.0, 0.5, 0.0], got {shown(times)}")
    chosen = [_time(t) for t in times]
    if len(chosen) < 2:
        raise ValueError(f"sampling needs at least two times, a start and an end, got {chosen}")
    bad = [t for t in chosen if not 0 <= t <= 1]
    if bad:
        raise ValueError(f"times must lie in [0, 1] (0 is data, 1 is noise), got {bad[0]:g}")
    if steps is not None and steps != len(chosen) - 1:
        raise ValueError(
            f"steps={steps} and times={chosen} contradict each other: {len(chosen)} times are {len(chosen) - 1} steps. "
            "Pass one of them"
        )
    return chosen


def descending(steps: int | None, times: Sequence[float] | None) -> list[float]:
    """The times of sampling, from noise to data."""
    grid = time_grid(steps, times)
    if grid[0] < grid[-1]:
        raise ValueError(
            f"sampling goes from noise, t = 1, to data, t = 0, and these times go the other way, {grid}: reverse them, "
            "or go from data to noise by fm.invert"
        )
    return grid


def ascending(steps: int | None, times: Sequence[float] | None) -> list[float]:
    """The times of an inversion, from data to noise."""
    grid = time_grid(steps)[::-1] if times is None else time_grid(steps, times)
    if grid[0] > grid[-1]:
        raise ValueError(
            f"inversion goes from data, t = 0, to noise, t = 1, and these times go the other way, {grid}: reverse "
            "them, or go from noise to data by fm.sample"
        )
    return grid


def _time(t: Any) -> float:
    """A time as a number."""
    try:
        if isinstance(t, str | bytes | bool):
            raise TypeError
        return float(t)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"a time must be a number, got {shown(t)}") from None
