"""The command line: flowmaps train, distill, sample, evaluate, report, methods, explain, compare, plan, export."""

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

from .options import Command, Compare, Evaluate, Explain, Methods, Plan, Report, Sample, Train
from .options_distill import Distill
from .options_export import Export

COMMANDS = (Train, Distill, Sample, Evaluate, Report, Compare, Methods, Explain, Plan, Export)
KEPT = {
    Train: "; what was learned is kept, go on with --resume",
    Distill: "; what was encoded and learned is kept, go on with --resume",
    Compare: "; what was learned is kept, the same command goes on",
}
"""What a command that was stopped says."""
DESCRIPTION = "Flow maps: learn the integral of a diffusion model, and sample it in one step."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. The exit code is 0, 2 for wrong input, 1 for a loss that is not finite, 130 after Ctrl-C and 143
    after SIGTERM."""
    try:
        options = parse(argv)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
            run(options)
    except (KeyboardInterrupt, SystemExit) as stop:
        print("stopped" + KEPT.get(type(options), ""), file=sys.stderr)
        return 130 if isinstance(stop, KeyboardInterrupt) else int(stop.code or 0)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, FloatingPointError) else 2
    part()
    return 0


def part() -> None:
    """Leave the processes that this one was started with: threads that still wait for them would abort it at its
    end.
    """
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def parse(argv: Sequence[str] | None) -> Command | Distill | Export:
    """The options of the command that was typed. Leaves with exit code 2 for what cannot be read, 0 after --help."""
    options = _parse(argv)
    if not isinstance(options, Train) or options.recipe is None:
        return options
    from .train import defaults

    return _parse(argv, train=defaults(options))


def _parse(argv: Sequence[str] | None, train: Train | None = None) -> Command | Distill | Export:
    """train: options of `train` with the values that hold where nothing is typed."""
    commands = tuple(Annotated[kind, tyro.conf.subcommand(kind.__name__.lower())] for kind in COMMANDS)
    if train is not None:
        commands = (Annotated[Train, tyro.conf.subcommand("train", default=train)], *commands[1:])
    kind: Any = Union[commands]  # noqa: UP007
    return tyro.cli(kind, args=argv, prog="flowmaps", description=DESCRIPTION)


def run(options: Command | Distill | Export) -> None:
    """Do what was asked for; what a command needs is imported when it is called."""
    if isinstance(options, Train):
        from .train import run_train

        run_train(options)
    elif isinstance(options, Compare):
        from .compare import run_compare

        run_compare(options)
    elif isinstance(options, Sample):
        from .sample import run_sample

        run_sample(options)
    elif isinstance(options, Methods):
        from .landscape import run_methods

        run_methods(options)
    elif isinstance(options, Explain):
        from .explain import run_explain

        run_explain(options)
    elif isinstance(options, Plan):
        from .plan import run_plan

        run_plan(options)
    elif isinstance(options, Distill):
        from .distill import run_distill

        run_distill(options)
    elif isinstance(options, Export):
        from .export import run_export

        run_export(options)
    else:
        run_evaluate(options)


def run_evaluate(options: Evaluate | Report) -> None:
    """`flowmaps evaluate` and `flowmaps report`."""
    if isinstance(options, Report):
        from ..experiments.report import report

        print(report(options.run))
        return
    from ..experiments.evaluation import evaluate
    from .scales import interval_of
    from .tables import print_evaluation, print_json, say

    interval = interval_of(options.guidance_interval)
    say(f"Measuring {options.run} (a large network takes minutes) ...")
    result = evaluate(options.run, options.reference, guidance=options.guidance, guidance_interval=interval)
    (print_json if options.json else print_evaluation)(result)
