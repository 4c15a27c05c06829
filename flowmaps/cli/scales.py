"""Scales of guidance and the times between which guidance acts, parsed from the command line."""

from __future__ import annotations

from collections.abc import Callable

from ..experiments.guide import scale_range, time_interval
from .tables import as_options


def scales_of(text: str) -> tuple[float, float]:
    """2 -> (2, 2), 1:8 -> (1, 8). Raises ValueError for another text and for scales that are not 0 < low <= high."""
    numbers = _numbers("--guidance", text, "a scale such as 2, or a range such as 1:8", least=1)
    return _checked("guidance", lambda: scale_range(numbers))


def interval_of(text: str | None) -> tuple[float, float]:
    """0.2:0.8 -> (0.2, 0.8), None -> (0, 1). Raises ValueError for another text and for times outside [0, 1]."""
    if text is None:
        return time_interval(None)
    numbers = _numbers("--guidance-interval", text, "two times such as 0.2:0.8", least=2)
    return _checked("guidance_interval", lambda: time_interval(numbers))


def _checked(name: str, check: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """The result of a check; its error names the option instead of the argument."""
    try:
        return check()
    except ValueError as error:
        raise ValueError(as_options(str(error), (name,))) from None


def _numbers(option: str, text: str, expected: str, least: int) -> tuple[float, float]:
    """Parse one or two numbers with a colon between them; a single number is returned twice."""
    parts = text.split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if not least <= len(numbers) <= 2:
        raise ValueError(f"{option} is {expected}, got {text!r}")
    return numbers[0], numbers[-1]
