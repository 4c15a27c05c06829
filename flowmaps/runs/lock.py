"""The lock of a folder: one process at a time writes into it.

The lock is a small JSON file in the folder with host, process, start of the process and time. It is made by a hard
link, which fails if there is one already. While it is held, a thread refreshes its modification time.

A lock is stale, and is taken over, if its process on this machine has ended. Of a process on another machine only the
refreshes are known; its lock is stale after `owner.ABANDONED` seconds without one.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ..files import LOCK, not_written, remove_leftovers, temporary_name
from .owner import identity, named, owner_of, read, refusal

REFRESH = 20.0
"""Seconds between refreshes of a lock."""
TRIES = 100
"""Number of attempts to make a lock while other processes make and remove theirs."""


class FolderLock:
    """The right to write into a folder, held from the construction to `release` (context manager).

    The folder is created if it is missing, and removed with the lock if nothing else was written into it. The lock is
    also released when the object is deleted and when the interpreter ends.

    Args:
        folder: The folder.
        doing: Continuation of "the process has been", for the messages of other processes.
        name: Name of the lock file. Locks of different names do not exclude each other.

    Raises:
        BlockingIOError: If another process, or this one, holds the lock; the message names it.
        OSError: If the folder cannot be written to.
    """

    def __init__(self, folder: str | Path, doing: str, name: str = LOCK) -> None:
        self.path = Path(folder) / name
        self._text = json.dumps({**identity(), "doing": doing, "time": time.time(), "token": secrets.token_hex(8)})
        made = _acquire(self.path, self._text)
        ended = threading.Event()
        self._release = weakref.finalize(self, _release, self.path, self._text, made, os.getpid(), ended)
        threading.Thread(target=_refresh, args=(self.path, self._text, ended), name="lock", daemon=True).start()

    def check(self) -> None:
        """Check that the lock is still there; called before something in the folder is replaced or removed.

        Raises:
            BlockingIOError: If it was removed, or another process has taken it over.
        """
        if read(self.path) != self._text:
            owner = owner_of(self.path)
            by = "was removed" if owner is None else f"was taken over by {named(owner)}"
            raise BlockingIOError(f"{self.path} {by}, so this process stops writing into {self.path.parent}")

    def release(self) -> None:
        """Remove the lock, if it is still there."""
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def check_free(folder: str | Path, name: str = LOCK) -> None:
    """Refuse a folder that a process writes to, before any work is done. Nothing is locked.

    Args:
        folder: The folder.
        name: Name of the lock file.

    Raises:
        BlockingIOError: If a process holds the lock; the message names it.
    """
    path = Path(folder) / name
    owner = owner_of(path)
    if owner is not None and (reason := refusal(path, owner)):
        raise BlockingIOError(f"{folder} is in use: {reason}")


def _acquire(path: Path, text: str) -> bool:
    """Make the lock file, and its folder. Returns whether the folder was made."""
    made = False
    for _ in range(TRIES):
        try:
            made = _make_folder(path.parent) or made
            with _alone(path.parent):
                check_free(path.parent, path.name)
                path.unlink(missing_ok=True)
                _link(path, text)
                remove_leftovers(path.parent, path.name)
            return made
        except FileExistsError:
            if not path.parent.is_dir():
                raise
        except FileNotFoundError:
            made = False  # the process that made the folder has removed it again
        except OSError as error:
            if made:
                with suppress(OSError):
                    path.parent.rmdir()
            raise error if isinstance(error, BlockingIOError) else not_written(path, error) from error
    raise BlockingIOError(f"{path} cannot be made, because other processes make and remove it all the time")


def _make_folder(folder: Path) -> bool:
    """Make a folder if there is none. Returns whether it was made."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return False
    return True


def _link(path: Path, text: str) -> None:
    """Make a file with its content in one step. Raises FileExistsError if there is one."""
    temporary = temporary_name(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        try:
            os.link(temporary, path)
        except (FileExistsError, FileNotFoundError):
            raise
        except OSError:  # a file system without hard links
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Exclude other processes that make or take over a lock in a folder, where the system can (context manager)."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without flock
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _release(path: Path, text: str, made: bool, pid: int, ended: threading.Event) -> None:
    """Remove a lock that is still the same, and its folder if it was made with the lock and is empty."""
    ended.set()
    if os.getpid() != pid or read(path) != text:  # a forked process does not hold the lock
        return
    with suppress(OSError):
        path.unlink()
        if made:
            path.parent.rmdir()


def _refresh(path: Path, text: str, ended: threading.Event) -> None:
    """Refresh the modification time of a lock until it is released."""
    while not ended.wait(REFRESH):
        if read(path) == text:
            with suppress(OSError):
                os.utime(path)
