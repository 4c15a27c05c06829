"""Reading of checkpoints beside a writer, which removes old ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
READS = 20
"""Number of times that a reader looks for the newest checkpoint while a writer removes those that it has found."""


class ReplacedError(OSError):
    """A checkpoint that a writer has removed or replaced while it was read."""


def again(read: Callable[[], T]) -> T:
    """Read a checkpoint beside a writer, which may remove it meanwhile; then the newest one is taken.

    Args:
        read: Function that lists and reads.

    Returns:
        Its result.

    Raises:
        ReplacedError: If the checkpoints are replaced READS times, faster than they can be read.
    """
    for _ in range(READS - 1):
        with suppress(ReplacedError):
            return read()
    return read()


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Convert an error while a checkpoint is read into ReplacedError if its folder is not the same any more."""
    before = _inode(path)
    try:
        yield
    except Exception as error:  # libraries raise several kinds for a file that is gone
        if before is not None and _inode(path) == before:
            raise
        raise ReplacedError(
            f"{path} was replaced while it was read: keep more checkpoints (keep=), or read when training has ended"
        ) from error


def _inode(path: Path) -> int | None:
    """Return the number by which the file system knows a folder; None if it does not exist."""
    try:
        return path.stat().st_ino
    except OSError:
        return None
