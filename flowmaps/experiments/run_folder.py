"""The folder that an experiment writes to: the one that is asked for, or the first free number of its usual name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from ..distributed.processes import join
from ..distributed.shards import run_on_all, world_group
from ..files import remove_leftovers
from ..runs import folder as run
from ..runs.lock import FolderLock, check_free
from .checks import folder_of
from .trained_run import settings_of_training

P = ParamSpec("P")
R = TypeVar("R")
EVALUATIONS = ".evaluation.lock"
"""Lock of evaluations and reports in a run folder, which may be made while training goes on."""
STEERED = ".steered.lock"
"""Lock of the record of steered samples in a run folder."""
LIKELIHOOD = ".likelihood.lock"
"""Lock of the record of log-densities in a run folder."""


def is_first() -> bool:
    """Whether this is the first of several processes, the one that writes."""
    return int(os.environ.get("RANK", 0)) == 0


def lock(folder: str | Path, doing: str, name: str, *written: str) -> AbstractContextManager[Any]:
    """Lock a folder by the first of several processes (context manager).

    Args:
        folder: The folder.
        doing: Continuation of "the process has been", for the messages of other processes.
        name: Name of the lock file.
        *written: Patterns of the files that its holder writes; what killed writes of them left is removed.

    Returns:
        The lock; nothing on the other processes.

    Raises:
        BlockingIOError: Another process writes there; the message names it.
    """
    if not is_first():
        return nullcontext()
    held = FolderLock(folder, doing, name)
    remove_leftovers(Path(folder), *written)
    return held


def locked(
    doing: str, name: str, *written: str
) -> Callable[[Callable[Concatenate[str | Path, P], R]], Callable[Concatenate[str | Path, P], R]]:
    """Lock the run folder that a function gets first, while it runs (decorator with the arguments of `lock`)."""

    def decorate(function: Callable[Concatenate[str | Path, P], R]) -> Callable[Concatenate[str | Path, P], R]:
        @wraps(function)
        def inside(folder: str | Path, /, *args: P.args, **options: P.kwargs) -> R:
            run.read_config(folder_of(folder))  # nothing is made in a folder without a run
            with lock(folder, doing, name, *written):
                return function(folder, *args, **options)

        return inside

    return decorate


def check_out(out: str | Path | None, resume: bool) -> None:
    """Refuse a run folder that cannot be trained into, before any work is done.

    Args:
        out: The folder. None: a new one will be chosen.
        resume: Whether to continue the run in it.

    Raises:
        BlockingIOError: Another process trains into it; the message names it.
        FileExistsError: It has a run already, and `resume` is not set.
    """
    if out is None or not is_first():  # the first process may have the lock already when another one looks
        return
    check_free(out)
    if not resume:
        run.new(Path(out))


@contextmanager
def folder_for(
    out: str | Path | None,
    name: str,
    settings: Mapping[str, Any],
    known: Callable[[Path], bool] = lambda path: False,
) -> Iterator[Path]:
    """Choose the run folder of an experiment (context manager). A new one that stays empty is removed at the end.

    Args:
        out: The folder. None: runs/NAME, or runs/NAME_2, runs/NAME_3, ... if that exists. With `resume`, the one that
            exists.
        name: Its usual name.
        settings: Keyword arguments of `flowmaps.train`.
        known: Whether a folder of this name may be continued.

    Yields:
        The folder, the same on all processes.

    Raises:
        ValueError: Several folders have the name, so that it is not clear which run to resume.
    """
    usual = Path("runs") / name
    if out is not None or settings.get("resume"):
        yield Path(out) if out is not None else existing(usual)
        return
    join(settings.get("timeout", settings_of_training()["timeout"]))
    names = run_on_all(lambda: str(free_folder(usual, known)) if is_first() else None, world_group())
    folder = Path(next(name for name in names if name is not None))
    try:
        yield folder
    finally:
        if is_first():
            with suppress(OSError):
                folder.rmdir()


def resumed_folder(out: str | Path | None, name: str, settings: Mapping[str, Any]) -> Path | None:
    """The run folder that an experiment continues, with the arguments of `folder_for`; None for a new run."""
    if not settings.get("resume"):
        return None
    return Path(out) if out is not None else existing(Path("runs") / name)


def free_folder(usual: Path, known: Callable[[Path], bool]) -> Path:
    """Make the first folder of a name that does not exist: NAME, NAME_2, NAME_3, ...

    Args:
        usual: The folder without a number.
        known: Whether a folder that exists may be taken.

    Returns:
        The folder. No other process is given the same one.
    """
    for number in count(1):
        path = usual if number == 1 else usual.with_name(f"{usual.name}_{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if not os.path.lexists(path):
                raise  # a file has the name of a folder above
            if not known(path):
                continue
        return path
    raise AssertionError


def existing(usual: Path) -> Path:
    """Return the folder of a name, with or without a number, that has a run."""
    pattern = re.compile(rf"{re.escape(usual.name)}(_\d+)?")
    inside = usual.parent.iterdir() if usual.parent.is_dir() else ()
    found = sorted(path for path in inside if pattern.fullmatch(path.name) and (path / "config.json").is_file())
    if len(found) > 1:
        raise ValueError(f"there are several runs of this name, {', '.join(map(str, found))}: choose one (--out)")
    return found[0] if found else usual
