"""The command line: flowmaps train, distill, sample, evaluate, report, methods, explain, compare, plan, export."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from typing import Annotated, Any, Union

from ..arguments import install

try:
    import rich  # noqa: F401
    import tyro
except ImportError as error:
    raise ImportError(f"the command line needs {error.name}: {install('train')}") from None

from .failures import CLOSED, explained, is_closed, once, say_error
from .options import Command, Compare, Evaluate, Explain, Methods, Plan, Report, Sample, Train
from .options_distill import Distill
from .options_export import Export

RUN: dict[type, tuple[str, str]] = {
    Train: ("train", "run_train"),
    Distill: ("distill", "run_distill"),
    Sample: ("sample", "run_sample"),
    Evaluate: ("evaluate", "run_evaluate"),
    Report: ("evaluate", "run_report"),
    Compare: ("compare", "run_compare"),
    Methods: ("landscape", "run_methods"),
    Explain: ("explain", "run_explain"),
    Plan: ("plan", "run_plan"),
    Export: ("export", "run_export"),
}
"""The module and function of each command, in the order of `flowmaps --help`."""
COMMANDS = tuple(RUN)
KEPT = {
    Train: "; the run is kept, go on with --resume",
    Distill: "; the cache and the run are kept, go on with --resume",
    Compare: "; finished parts are kept, the same command goes on",
}
"""Last words of a command that is stopped."""
NAMES = {field.name for kind in COMMANDS for field in fields(kind)}
"""Names of all options."""
DESCRIPTION = "Flow maps: learn the integral of a diffusion model, and sample it in one step."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after `flowmaps`. None: the arguments of this process.

    Returns:
        The exit code: 0; 2 for wrong input; 1 for work that fails, such as a loss that is not finite, and for an
        unexpected error; 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP and 75 after SIGUSR1; 141 if the reader
        of the output has closed it.
    """
    options: Any = None
    try:
        options = parse(argv)
        with warnings.catch_warnings():
            warnings.showwarning = once(lambda message: say_error(f"warning: {message}"))
            run(options)
        sys.stdout.flush()
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich leaves like this
            return CLOSED
        if options is None and isinstance(stop, SystemExit):
            raise  # of the parser: a wrong command line, or --help
        say_error("stopped" + KEPT.get(type(options), ""))
        return 130 if isinstance(stop, KeyboardInterrupt) else int(stop.code or 0)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and any([is_closed(stream) for stream in (sys.stdout, sys.stderr)]):
            return CLOSED
        if "--debug" in (sys.argv[1:] if argv is None else argv):
            raise
        code, text = explained(error, options)
        say_error(f"error: {in_options(text)}")
        return code
    part()
    return 0


def in_options(text: str) -> str:
    """A message, with names of arguments replaced by options."""
    from .tables import as_options

    return as_options(text, NAMES)


def part() -> None:
    """Leave the process group: its waiting threads would abort this process at its end."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def parse(argv: Sequence[str] | None) -> Command | Distill | Export:
    """Parse a command line. Exits with code 2 for a wrong command line, and 0 after --help."""
    options = _parse(argv)
    if not isinstance(options, Train) or options.recipe is None:
        return options
    from .train import defaults

    return _parse(argv, train=defaults(options))


def _parse(argv: Sequence[str] | None, train: Train | None = None) -> Command | Distill | Export:
    """Parse a command line, with `train` as the defaults of the command of that name."""
    commands = tuple(Annotated[kind, tyro.conf.subcommand(kind.__name__.lower())] for kind in COMMANDS)
    if train is not None:
        commands = (Annotated[Train, tyro.conf.subcommand("train", default=train)], *commands[1:])
    kind: Any = Union[commands]  # noqa: UP007
    return tyro.cli(kind, args=argv, prog="flowmaps", description=DESCRIPTION)


def run(options: Any) -> None:
    """Run a command, importing the packages that it needs."""
    module, function = RUN[type(options)]
    getattr(import_module(f".{module}", __name__), function)(options)
