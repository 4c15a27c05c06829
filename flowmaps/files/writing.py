"""Atomic writes: the new file or the old one, temporary names, and messages that name the file."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path

FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""Error numbers of a full disk, of a file above the limit, and of a quota that is used up."""
LOCK = ".lock"
"""Name of the file that locks a folder for one process, see `runs.lock`."""
LEFTOVER = re.compile(r"\.(?P<name>.+?)(\.(?P<process>\d+)(-[0-9a-f]{8})?)?(\.gone)?\.tmp(\.\w+)?")
"""Temporary names of this version (`temporary_name`) and of earlier ones, around the name of the file."""


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_text(path: Path, text: str) -> None:
    """Append text to a file.

    Args:
        path: The file, created if it is missing.
        text: The text.

    Raises:
        OSError: If it cannot be written; the message names the file, which keeps its old content.
    """
    missing, rest = not path.exists(), text.encode()
    try:
        with path.open("ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                file.truncate(before)
                raise
    except OSError as error:
        if missing:
            path.unlink(missing_ok=True)
        raise not_written(path, error) from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Replace a file atomically (context manager): a reader sees the old file or the new one.

    The yielded temporary file is flushed to disk and then renamed. A link is replaced, never written through. Devices
    and pipes cannot be replaced and are written in place.

    Args:
        path: The file. Missing parent folders are created.

    Yields:
        A temporary file with the same ending, to which the new content is written.

    Raises:
        OSError: If the file cannot be written; the message names it. The old file is kept.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield path
        return
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """Return a hidden name beside a path, with the same ending, that no other process or thread uses."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp{path.suffix}")


def remove_leftovers(folder: Path, *names: str) -> None:
    """Remove the temporary files and folders of writes that were killed.

    Only the process that writes these files may call it, because another one could be writing them now. Files of other
    processes that are alive on this machine are left.

    Args:
        folder: The folder; nothing happens if it does not exist.
        *names: Patterns of the names of the files, such as "step_*".
    """
    for path in folder.glob(".*.tmp*"):
        found = LEFTOVER.fullmatch(path.name)
        if found and is_leftover(path, *names) and not _is_of_another(found["process"]):
            delete(path)


def _is_of_another(process: str | None) -> bool:
    """Whether a process number belongs to another process, alive on this machine."""
    if process is None or int(process) == os.getpid() or os.name != "posix":
        return False
    try:
        os.kill(int(process), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def is_leftover(path: Path, *names: str) -> bool:
    """Whether a file or folder is a temporary one of a write to a file with one of these names, which may be patterns.

    Only the process that writes these files knows that the write is not in progress.
    """
    found = LEFTOVER.fullmatch(path.name)
    return found is not None and any(fnmatchcase(found["name"], name) for name in names)


def not_written(path: Path, error: Exception) -> OSError:
    """Convert an error of a write into one whose message names the file; its class and number stay the same.

    Args:
        path: The file or folder that was to be written.
        error: The error.

    Returns:
        The error to raise.
    """
    number = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or error
    kept = "the old content is kept" if os.path.lexists(path) else "nothing of it is kept"
    advice = f" ({free_space(path.parent) / 1e6:.1f} MB are free). Free some space, then try again"
    full = number is None or number in FULL
    found = type(OSError(number, ""))(f"{path} could not be written: {reason}; {kept}{advice if full else ''}")
    found.errno = number
    return found


def free_space(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, or of the nearest folder above that exists."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.is_dir())).free


def flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on disk; folders only on POSIX systems."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a folder after renaming it to a temporary name, so that a partly removed folder never has its name.

    Of a link, the link alone is removed. Files that another machine still reads are left under the temporary name.
    """
    gone = temporary_name(path)
    path.rename(gone)
    with suppress(OSError):
        delete(gone)


def delete(path: Path) -> None:
    """Delete a file or a folder, if it exists; of a link, the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
