"""`flowmaps train`."""

from __future__ import annotations

from dataclasses import replace

from ..experiments.training import check_network, recipe_of, train
from .arguments import keywords
from .options import Train
from .tables import say

OF_RECIPES = ("steps", "batch_size", "lr", "ema", "clip", "precision")
"""Options that a recipe brings."""


def run_train(options: Train) -> None:
    """Train, then say what to do next."""
    given = keywords(options)
    if options.seconds is not None:
        given["steps"] = None
    run = train(**given, say=say)
    if not run.steps:
        say(f"The run in {run.folder} is complete: there is nothing left to train.")
    out = run.folder
    say(f"Next:  flowmaps sample {out} -o samples.png    flowmaps evaluate {out}    flowmaps report {out}")


def defaults(options: Train) -> Train:
    """The options with the values of a recipe, which hold if nothing else is typed.

    Raises:
        ValueError: The recipe is unknown, or an option chooses a network.
    """
    check_network(**{name: getattr(options, name) for name in ("network", "width", "depth", "output")})
    recipe = recipe_of(options.recipe, reduced=options.reduced, checkpoint=options.checkpoint)
    assert recipe is not None
    return replace(options, method=recipe.row.name, **{name: getattr(recipe, name) for name in OF_RECIPES})
