"""`flowmaps train`."""

from __future__ import annotations

from dataclasses import replace

from ..experiments.sample_files import usual_file
from ..experiments.training import train
from ..experiments.training_setup import check_network, recipe_of
from ..training.config import TrainConfig, among, names
from .arguments import keywords
from .options import Train
from .tables import say


def run_train(options: Train) -> None:
    """Train, and print the next commands."""
    given = keywords(options)
    if options.seconds is not None:
        given["steps"] = None
    run = train(**given, say=say)
    if not run.steps:
        say(f"The run in {run.folder} is already complete.")
    out = run.folder
    say(f"Next:  flowmaps sample {out} -o {usual_file(run.config)}    flowmaps evaluate {out}    flowmaps report {out}")


def defaults(options: Train) -> Train:
    """The options with the values of a recipe, as defaults for the options that are not given.

    Raises:
        ValueError: The recipe is unknown, or an option chooses a network.
    """
    check_network(**{name: getattr(options, name) for name in ("network", "width", "depth", "output")})
    recipe = recipe_of(options.recipe, reduced=options.reduced, checkpoint=options.checkpoint)
    assert recipe is not None
    brought = [name for name in names(TrainConfig) if hasattr(options, name)]
    return replace(options, method=recipe.row.name, **among(recipe, brought))
