"""Memory: rows at a time, and the size of a large request against the free memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

LARGE = 10**9
"""Bytes from which on a request is announced before it is made."""
VALUES = 2**20
"""Number of values in the rows that a network computes at a time."""


def rows_at_a_time(values: int, most: int) -> int:
    """Choose how many rows a network computes at a time.

    A network needs up to a few hundred times the memory of its input, so the choice bounds its memory to about a
    gigabyte.

    Args:
        values: Number of values in one row.
        most: Largest number of rows.

    Returns:
        A number of rows, at least 1; a multiple of 16 where possible.
    """
    rows = min(most, max(1, VALUES // max(1, values)))
    return rows - rows % 16 if rows >= 16 else rows


def available() -> int | None:
    """Find the number of bytes that this process may still allocate in main memory; None if it is unknown."""
    known = [_meminfo(), _limit()]
    if known[0] is None:
        try:
            known[0] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):  # not a POSIX system
            pass
    return min((size for size in known if size is not None), default=None)


def _meminfo() -> int | None:
    """The memory that Linux can free without swapping."""
    for line in _text("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return None


def _limit() -> int | None:
    """The limit of the container that this process runs in."""
    text = _text("/sys/fs/cgroup/memory.max").strip()
    return int(text) if text.isdigit() else None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


def check_room(needed: int, what: str, advice: str, say: Callable[[str], object] = str) -> None:
    """Announce a large request, and refuse one that does not fit into the free memory.

    Args:
        needed: Number of bytes.
        what: The thing that needs them, with its verb: "100 samples take".
        advice: The way out of a refusal.
        say: Receives the announcement.

    Raises:
        ValueError: More bytes are needed than are free.
    """
    free = available()
    if free is not None and needed > free:
        raise ValueError(f"{what} {as_text(needed)} of memory, and {as_text(free)} are free: {advice}")
    if needed >= LARGE:
        say(f"{what} {as_text(needed)} of memory")


def as_text(size: int) -> str:
    """Write a number of bytes in MB or GB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
