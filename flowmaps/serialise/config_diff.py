"""Differences between two configurations, for messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

SHOWN = 4
"""Number of differences listed in an error message."""


def differences(before: Any, now: Any, name: str) -> Iterator[str]:
    """Compare two nested configurations of JSON values.

    Args:
        before: The saved configuration.
        now: The current configuration.
        name: Name of both in the messages.

    Yields:
        One line for each different entry.
    """
    kinds = [part.get("type") if isinstance(part, dict) else None for part in (before, now)]
    if None not in kinds and kinds[0] != kinds[1]:
        yield f"{name} was {kinds[0]} and is {kinds[1]}"
    elif isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from differences(before.get(key), now.get(key), f"{name}.{key}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, pair in enumerate(zip(before, now, strict=True)):
            yield from differences(*pair, f"{name}[{index}]")
    elif before != now:
        yield f"{name} was {before} and is {now}"


def shown(changed: Sequence[str]) -> str:
    """Join the first few differences, and append the number of the others."""
    more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return f"{'; '.join(changed[:SHOWN])}{more}"
