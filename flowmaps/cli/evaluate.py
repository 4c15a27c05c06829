"""`flowmaps evaluate` and `flowmaps report`."""

from __future__ import annotations

from .. import experiments
from .arguments import interval_of
from .options import Evaluate, Report
from .tables import print_evaluation, print_json, say


def run_evaluate(options: Evaluate) -> None:
    """Measure a run and print the table."""
    interval = interval_of(options.guidance_interval)
    say(f"Measuring {options.run} (a large network takes minutes) ...")
    result = experiments.evaluate(
        options.run,
        options.reference,
        device=options.device,
        guidance=options.guidance,
        guidance_interval=interval,
    )
    (print_json if options.json else print_evaluation)(result)


def run_report(options: Report) -> None:
    """Write the page and print its path."""
    print(experiments.report(options.run))
