"""The command line: flowmaps train, sample, evaluate, report, methods, compare."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, Union

try:
    import rich  # noqa: F401
    import tyro
except ImportError as error:
    raise ImportError(f"the command line needs {error.name}: pip install flowmaps[train]") from None

from .options import Command, Compare, Evaluate, Methods, Report, Sample, Train

COMMANDS = (Train, Sample, Evaluate, Report, Compare, Methods)
DESCRIPTION = "Flow maps: learn the integral of a diffusion model, and sample it in one step."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. The exit code is 0, 2 for wrong input, 1 for a loss that is not finite, 130 after Ctrl-C and 143
    after SIGTERM."""
    options = parse(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
            run(options)
    except (KeyboardInterrupt, SystemExit) as stop:
        training = isinstance(options, (Train, Compare))
        print("stopped" + "; what was learned is kept, go on with --resume" * training, file=sys.stderr)
        return 130 if isinstance(stop, KeyboardInterrupt) else int(stop.code or 0)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, FloatingPointError) else 2
    return 0


def parse(argv: Sequence[str] | None) -> Command:
    """The options of the command that was typed. Leaves with exit code 2 for what cannot be read, 0 after --help."""
    commands = tuple(Annotated[kind, tyro.conf.subcommand(kind.__name__.lower())] for kind in COMMANDS)
    kind: Any = Union[commands]  # noqa: UP007
    return tyro.cli(kind, args=argv, prog="flowmaps", description=DESCRIPTION)


def run(options: Command) -> None:
    """Do what was asked for; what a command needs is imported when it is called."""
    if isinstance(options, Train):
        from .train import run_train

        run_train(options)
    elif isinstance(options, Compare):
        from .train import run_compare

        run_compare(options)
    elif isinstance(options, Sample):
        from .sample import run_sample

        run_sample(options)
    elif isinstance(options, Methods):
        run_methods(options)
    else:
        run_evaluate(options)


def run_evaluate(options: Evaluate | Report) -> None:
    """`flowmaps evaluate` and `flowmaps report`."""
    if isinstance(options, Report):
        from ..visualise import report

        print(report(options.run))
        return
    from ..evaluate import evaluate_run
    from .tables import print_evaluation, print_json, say

    say(f"Measuring {options.run} (a large network takes minutes) ...")
    result = evaluate_run(options.run, options.reference)
    (print_json if options.json else print_evaluation)(result)


def run_methods(options: Methods) -> None:
    """`flowmaps methods`."""
    from ..methods import LANDSCAPE
    from .tables import print_json, print_table

    if options.json:
        print_json([row.as_dict() for row in LANDSCAPE])
        return
    columns = ("method", "rule", "learning", "cost", "own shares", "notes", "paper")
    rows = [(r.name, r.rule, r.learning, f"{r.cost:g}", f"{r.shared:g}", r.notes, r.reference) for r in LANDSCAPE]
    print_table(
        "cost: forward passes of one training step, on a full batch and with the method's own shares of it",
        columns,
        rows,
    )
