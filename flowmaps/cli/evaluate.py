"""`flowmaps evaluate` and `flowmaps report`."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path

from .. import experiments
from ..arguments import at_least, given, numbered
from .arguments import interval_of
from .options import Evaluate, Report
from .tables import print_evaluation, print_json, say


def run_evaluate(options: Evaluate) -> None:
    """Measure a run and print the table."""
    interval = interval_of(options.guidance_interval)
    at_least(1, **numbered(**given(steps=options.steps)))  # its name here; it is `jumps` in Python
    say(f"Measuring {options.run} ...")
    result = experiments.evaluate(
        options.run,
        options.reference,
        guidance=options.guidance,
        guidance_interval=interval,
        device=options.device,
        quick=options.quick,
        say=say,
        **given(n=options.n, jumps=options.steps, ode_steps=options.ode_steps),
    )
    (print_json if options.json else print_evaluation)(result)


def run_report(options: Report) -> None:
    """Write the page, print its path, and open it if that is asked for."""
    quick = {"quick": True} if options.quick else {}
    device = {"device": options.device} if options.device != "cpu" else {}
    page = experiments.report(options.run, say=say, **quick, **device)
    print(page)
    if options.open:
        show(page)


def show(page: Path) -> None:
    """Open a page in the browser; without a browser, say so."""
    if os.environ.get("RANK", "0") == "0" and not webbrowser.open(page.resolve().as_uri()):
        say(f"no browser could be started: open {page} yourself")
