"""`flowmaps distill`."""

from __future__ import annotations

from ..experiments.distillation import distill
from ..experiments.dry_run import STEPS, DryRun
from .arguments import keywords
from .options_distill import Distill
from .tables import print_table, say


def run_distill(options: Distill) -> None:
    """Distil, then say what to do next; of a dry run print the cost."""
    run = distill(**keywords(options), say=say)
    if isinstance(run, DryRun):
        print_table("A run as this one takes, about", ["", ""], run.table())
        print(f"\n{STEPS} steps of {run.tried} rows went through, {run.seconds:.2g} s each; nothing was kept")
        return
    if not run.steps:
        say(f"The run in {run.folder} is complete: there is nothing left to train.")
    say(f"Next:  flowmaps sample {run.folder} -o samples.png    flowmaps export {run.folder} FOLDER")
