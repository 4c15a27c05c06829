"""The command line: flowmaps train, distill, posttrain, sample, evaluate, likelihood, report, methods and others."""

from __future__ import annotations

import inspect
import io
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import fields
from importlib import import_module
from typing import Any

from ..arguments import did_you_mean, install

try:
    import rich  # noqa: F401
    import tyro
except ImportError as error:
    raise ImportError(f"the command line needs {error.name}: {install('train')}") from None

from .failures import CLOSED, explained, is_closed, once, out_of_box, say_error
from .help import command_help, program_help, unknown_option
from .options import Command, Compare, Evaluate, Explain, Explore, Methods, Plan, Report, Sample, Train
from .options_distill import Distill
from .options_export import Export
from .options_likelihood import Likelihood
from .options_posttrain import Posttrain

RUN: dict[type, tuple[str, str]] = {
    Train: ("train", "run_train"),
    Distill: ("distill", "run_distill"),
    Posttrain: ("posttrain", "run_posttrain"),
    Sample: ("sample", "run_sample"),
    Evaluate: ("evaluate", "run_evaluate"),
    Likelihood: ("likelihood", "run_likelihood"),
    Report: ("evaluate", "run_report"),
    Explore: ("explore", "run_explore"),
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
    Posttrain: "; the run is kept, go on with --resume",
    Compare: "; finished parts are kept, the same command goes on",
}
"""Last words of a command that is stopped."""
BY_NAME = {kind.__name__.lower(): kind for kind in COMMANDS}
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
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        options = parse(words)
        with warnings.catch_warnings():
            warnings.showwarning = once(lambda message: say_error(f"warning: {message}"))
            run(options)
        sys.stdout.flush()
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich leaves like this
            return CLOSED
        if options is None and isinstance(stop, SystemExit):
            raise  # after --help and --version
        say_error("stopped" + KEPT.get(type(options), ""))
        return 130 if isinstance(stop, KeyboardInterrupt) else int(stop.code or 0)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and any([is_closed(stream) for stream in (sys.stdout, sys.stderr)]):
            return CLOSED
        if "--debug" in words:
            raise
        code, text = explained(error, options)
        say_error(f"error: {in_options(text, None if options is None else type(options))}")
        return code
    part()
    return 0


def asked(words: Sequence[str]) -> int | None:
    """Answer a call for help or for the versions, or refuse a command that does not exist.

    Args:
        words: The words after `flowmaps`.

    Returns:
        The exit code; None for a command that is to be run.
    """
    name = words[0] if words else "--help"
    if name in ("-h", "--help", "--help-all"):
        print(program_help(BY_NAME, DESCRIPTION))
        return 0 if words else 2
    if name == "--version":
        from ..runs.folder import versions

        found = versions()
        print(", ".join(f"{package} {found[package]}" for package in ("flowmaps", "torch", "python")))
        return 0
    if name not in BY_NAME:
        raise ValueError(f"unknown command {name!r}{did_you_mean(name, BY_NAME)}; commands are {', '.join(BY_NAME)}")
    if any(word in ("-h", "--help", "--help-all") for word in words):
        print(command_help(BY_NAME[name], name, "--help-all" in words))
        return 0
    for word in words:
        if word.startswith("--") and word != "--" and (text := unknown_option(word, BY_NAME[name], name, _values())):
            raise ValueError(text)
    return None


def _values() -> dict[str, Sequence[str]]:
    """Names that are typed as NAME=VALUE, by their option."""
    from ..data.load import option_names
    from ..methods.landscape import known_rows

    methods = {name for row in known_rows() for name in inspect.signature(row.build).parameters}
    return {"data_args": option_names(), "method_args": sorted(methods - {"teacher"})}


def in_options(text: str, kind: type | None = None) -> str:
    """A message, with names of arguments replaced by options.

    Args:
        text: The message.
        kind: The dataclass of the command's options, for the options of data sets.

    Returns:
        The message as it is said at the command line.
    """
    from .tables import as_data_options, as_options

    if kind is not None and any(field.name == "data_args" for field in fields(kind)):
        from ..data.load import option_names

        names = option_names()
        own = [name for name in names if name in NAMES and name != "standardise"]
        text = as_data_options(text, [name for name in names if name not in own], own)
    return as_options(text, NAMES)


def part() -> None:
    """Leave the process group: its waiting threads would abort this process at its end."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def parse(argv: Sequence[str]) -> Command | Distill | Posttrain | Export | Likelihood:
    """Parse the words of a command. Exits with code 0 after --help and --version; ValueError if the line is wrong."""
    if (ended := asked(argv)) is not None:
        raise SystemExit(ended)
    options = _parse(argv)
    if not isinstance(options, Train) or options.recipe is None:
        return options
    from .train import defaults

    return _parse(argv, train=defaults(options))


def _parse(argv: Sequence[str], train: Train | None = None) -> Command | Distill | Posttrain | Export | Likelihood:
    """Parse a command line, with `train` as the defaults of the command of that name.

    Raises:
        ValueError: It is wrong, in the words of the parser.
    """
    kind: Any = BY_NAME[argv[0]]
    prog, box = f"flowmaps {argv[0]}", io.StringIO()
    try:
        with redirect_stderr(box):
            return tyro.cli(kind, args=argv[1:], prog=prog, default=train, add_help=False)
    except SystemExit:
        raise ValueError(f"{out_of_box(box.getvalue())}; {prog} --help explains the command") from None


def run(options: Any) -> None:
    """Run a command, importing the packages that it needs."""
    module, function = RUN[type(options)]
    getattr(import_module(f".{module}", __name__), function)(options)
