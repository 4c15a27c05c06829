"""Scales of guidance and the times between which it acts, as they are typed."""

from __future__ import annotations

import math

LABEL_DROPOUT = 0.1
"""The share of rows without a label where guidance is trained and nothing else is said, as Ho and Salimans have it."""


def scales_of(text: str) -> tuple[float, float]:
    """2 -> (2, 2), 1:8 -> (1, 8). Raises ValueError for another text, and for scales that are not positive or fall."""
    low, high = _numbers("--guidance", text, "a scale such as 2, or a range such as 1:8", least=1)
    if not 0 < low <= high < math.inf:
        raise ValueError(f"--guidance is a positive scale, or a range from a smaller to a larger one, got {text}")
    return low, high


def interval_of(text: str | None) -> tuple[float, float]:
    """0.2:0.8 -> (0.2, 0.8); None is all times, (0, 1). Raises ValueError for another text and other times."""
    if text is None:
        return 0.0, 1.0
    start, end = _numbers("--guidance-interval", text, "two times such as 0.2:0.8", least=2)
    if not 0 <= start < end <= 1:
        raise ValueError(f"--guidance-interval is two times in [0, 1], the smaller one first, got {text}")
    return start, end


def _numbers(option: str, text: str, expected: str, least: int) -> tuple[float, float]:
    parts = text.split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if not least <= len(numbers) <= 2:
        raise ValueError(f"{option} is {expected}, got {text!r}")
    return numbers[0], numbers[-1]
