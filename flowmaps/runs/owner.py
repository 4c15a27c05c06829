"""The owner of a lock: which process it is, and whether it is still alive."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..files import temporary_name

ABANDONED = 300.0
"""Seconds without a refresh until the lock of another machine is stale."""
LONGEST = 2000
"""Characters of the longest lock; any other file of this name is not read further."""


def read(path: Path) -> str | None:
    """Return the content of a lock, at most LONGEST characters; None if there is none."""
    try:
        if not path.is_file():
            return None
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(LONGEST)
    except OSError:
        return None


def owner_of(path: Path) -> dict[str, Any] | None:
    """Read a lock; None if there is none, and {} if its content is of another kind."""
    text = read(path)
    if text is None:
        return None
    try:
        owner = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def refusal(path: Path, owner: dict[str, Any]) -> str | None:
    """Explain who holds a lock; None if it is stale."""
    me, since = identity(), owner.get("time")
    age = f" for {_span(time.time() - since)}" if isinstance(since, int | float) else ""
    doing = f"has been {_shown(owner.get('doing', 'writing into it'))}{age}"
    if all(owner.get(name) == value for name, value in me.items()):
        return f"this process {doing}. End that loop first (close it), or choose another folder (--out)"
    if owner.get("machine") == me["machine"] and os.name == "posix":
        state = _state(owner.get("pid"), owner.get("start"))
        stopped = " (stopped by a signal)" if state in ("T", "t") else ""
        advice = "Wait for it to end, or choose another folder (--out)"
        return None if state is None else f"{named(owner)}{stopped} {doing}. {advice}"
    silent = _silence(path)
    if silent > ABANDONED:
        return None
    return (
        f"{named(owner)} {doing}, with its last sign of life {_span(silent)} ago. Wait for it to end, or choose "
        f"another folder (--out). If it has ended already, remove {path}, or wait until it is taken over after "
        f"{_span(ABANDONED)} without a sign of life"
    )


def named(owner: dict[str, Any]) -> str:
    """Name the owner of a lock."""
    return f"process {_shown(owner['pid'])} on {_shown(owner.get('host'))}" if "pid" in owner else "an unknown process"


def _shown(value: Any) -> str:
    """Return an entry of a lock for a message, without control characters."""
    return "".join(letter for letter in str(value)[:100] if letter.isprintable())


def identity() -> dict[str, Any]:
    """Identify this process: host, machine, number and start. Numbers of processes are unique on a machine."""
    pid, host = os.getpid(), socket.gethostname()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        machine = f"{host} {boot} {os.readlink('/proc/self/ns/pid')}"  # containers count their processes separately
    except OSError:
        machine = host
    return {"host": host, "machine": machine, "pid": pid, "start": _stat(pid)[1]}


def _stat(pid: int) -> tuple[str | None, int | None]:
    """Return state and start of a process, in ticks since the machine started; (None, None) if they are unknown."""
    try:
        # the name of the program, in parentheses, may hold any character
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return None, None


def _state(pid: Any, start: Any) -> str | None:
    """Return the state of a process of this machine, such as "S"; "?" if it is unknown, None if it has ended."""
    if not isinstance(pid, int) or pid <= 0:
        return None
    state, started = _stat(pid)
    if state is not None:
        return None if state in "ZX" or started != start else state
    try:
        os.kill(pid, 0)
    except PermissionError:
        return "?"  # it belongs to another user, and is hidden
    except (ProcessLookupError, OverflowError):
        return None
    return "?"


def _silence(path: Path) -> float:
    """Return the seconds since the last refresh of a lock, by the clock of its file system where possible."""
    now, temporary = time.time(), temporary_name(path)
    with suppress(OSError):
        temporary.touch()
        now = temporary.stat().st_mtime
    with suppress(OSError):
        temporary.unlink(missing_ok=True)
    try:
        return now - path.stat().st_mtime
    except OSError:
        return 0.0


def _span(seconds: float) -> str:
    """Format a duration: 5 s, 3 min, 2 h."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
