"""The program that started this process: a launcher such as torchrun, or a parent that uses multiprocessing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PERIOD = 1.0
"""Seconds between looks at the launcher."""


@contextmanager
def ends_with_launcher() -> Iterator[None]:
    """End this process by SIGTERM when its launcher ends (context manager).

    The launcher is `torchrun` or `accelerate launch`, or the parent of a process of multiprocessing. A launcher that is
    killed leaves its processes running. Programs that were started by a shell do not end with it.
    """
    gone = _launcher()
    if gone is None:
        yield
        return
    left = threading.Event()
    threading.Thread(target=_watch, args=(gone, left), name="launcher", daemon=True).start()
    try:
        yield
    finally:
        left.set()


def _launcher() -> Callable[[], bool] | None:
    """Return a function that says whether the launcher has ended; None without a launcher."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        return lambda: not parent.is_alive()
    number = os.getppid()
    if "TORCHELASTIC_RUN_ID" in os.environ and number > 1:
        return lambda: os.getppid() != number
    return None


def _watch(gone: Callable[[], bool], left: threading.Event) -> None:
    """Wait until the launcher has ended, then end this process; or until the context is left."""
    while not left.wait(PERIOD):
        if gone():
            warnings.warn("the launcher of this process has ended, so this process stops too", stacklevel=1)
            os.kill(os.getpid(), signal.SIGTERM)
            return
