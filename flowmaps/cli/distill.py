"""`flowmaps distill`."""

from __future__ import annotations

from ..experiments.distillation import distill
from ..experiments.dry_run import STEPS, DryRun
from ..experiments.sample_files import usual_file
from .arguments import keywords
from .options_distill import Distill
from .tables import print_motion, print_table, say


def run_distill(options: Distill) -> None:
    """Distil and print the next commands, or the cost if it is a dry run."""
    run = distill(**keywords(options), say=say)
    if isinstance(run, DryRun):
        print_table("Approximate cost of this run", ["", ""], run.table())
        print(f"\ntried {STEPS} steps of {run.tried} rows, {run.seconds:.2g} s each; nothing was written")
        return
    if not run.steps:
        say(f"The run in {run.folder} is already complete.")
    if run.motion:
        print_motion(run.motion)
    say(f"Next:  flowmaps sample {run.folder} -o {usual_file(run.config)}    flowmaps export {run.folder} FOLDER")
