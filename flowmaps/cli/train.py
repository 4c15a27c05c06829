"""`flowmaps train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..data import Data, load, reflow
from ..flow_map import FlowMap
from ..method.method import Method
from ..methods import Row
from ..runs.loading import load as load_run
from ..training import train
from ..training.config import KeepingConfig, LearningConfig, TrainConfig, among, names
from .arguments import data_arguments
from .guide import Guide, guide_of
from .models import device, for_row, make_flow, make_method, row_of
from .options import Train
from .options_shared import Learning
from .tables import say

if TYPE_CHECKING:
    from ..recipes import Recipe

SHARED = names(LearningConfig)
OWN = tuple(name for name in names(KeepingConfig) if name != "resume")


def run_train(options: Train) -> None:
    """Train, then say what to do next."""
    row, recipe = row_of(options.method), recipe_of(options)
    data = load(options.data, **data_arguments(options.data_args))
    out = options.out or Path("runs") / (f"{Path(data.name).name}-{options.method}" if recipe is None else recipe.name)
    if options.reflow is not None:
        say(f"Making {options.couplings} couplings of noise and data by {options.reflow} ...")
        data = reflow(load_run(options.reflow).to(device()), data, options.couplings, seed=options.seed)
    guide = guide_of(options, data)
    method = guide.method(method_of(options, row, recipe, guide))
    data = guide.data(data if recipe is None else recipe.prepare(data))
    flow = guide.flow(new_flow(options, data, row, recipe))
    length = {"steps": options.steps} if options.seconds is None else {"seconds": options.seconds}
    own = {name: getattr(options, name) for name in OWN}
    if recipe is not None:
        own |= {name: recipe.settings()[name] for name in ("optimizer", "schedule")}
    own["notes"] = {name: str(value) for name in ("recipe", "teacher", "reflow") if (value := getattr(options, name))}
    own["notes"] |= guide.notes()
    if not one_run(options, data, flow, method, out, resume=options.resume, **length, **own):
        say(f"The run in {out} is complete: there is nothing left to train.")
    say(f"Next:  flowmaps sample {out} -o samples.png    flowmaps evaluate {out}    flowmaps report {out}")


def method_of(options: Train, row: Row, recipe: Recipe | None, guide: Guide) -> Method:
    """The method that was named, or the recipe's, with its teacher loaded and guided."""
    build = None if recipe is None else recipe.make
    return make_method(row, options.method_args, options.teacher, build, guide.teacher)


def new_flow(options: Train, data: Data, row: Row, recipe: Recipe | None) -> FlowMap:
    """What training starts from: the map of another run, or one with new weights. Raises ValueError where a recipe is
    meant to start from a run and none is given.
    """
    torch.manual_seed(options.seed)
    start = options.start
    if recipe is not None and recipe.start is not None and start is None:
        if recipe.start != recipe.teacher:
            raise ValueError(
                f"{recipe.name} starts from the weights of another model: --start, a run of {recipe.start}"
            )
        start = options.teacher
    if start is not None:
        return for_row(load_run(start), row)
    if recipe is None:
        return make_flow(options, data, row)
    return recipe.flow()


def recipe_of(options: Train) -> Recipe | None:
    """The recipe that was named, with the method and the rate of the options. Raises ValueError for what only recipes
    have.
    """
    if options.recipe is None:
        for name in ("reduced", "checkpoint"):
            if getattr(options, name):
                raise ValueError(f"--{name} is for recipes: it needs --recipe")
        return None
    recipe, row = named(options), row_of(options.method)
    same = row is recipe.row
    return replace(recipe if same else replace(recipe, method=row.build, guidance=None), lr=options.lr)


def named(options: Train) -> Recipe:
    """The recipe as it is, with the network that is asked for."""
    from ..recipes import find

    recipe = find(options.recipe or "")
    recipe = recipe.reduced() if options.reduced else recipe
    return recipe.checkpointed() if options.checkpoint else recipe


def defaults(options: Train) -> Train:
    """The options with a recipe's values, which hold where nothing else was typed. Raises ValueError for an unknown
    recipe, and for options that choose a network.
    """
    for name in ("network", "width", "depth", "output"):
        if getattr(options, name) not in (None, "auto"):
            raise ValueError(f"a recipe brings a network of its own, so --{name} does not apply")
    recipe = named(options)
    both = [name for name in names(TrainConfig) if hasattr(options, name)]
    return replace(options, method=recipe.row.name, **among(recipe, both))


def one_run(options: Learning, data: Data, flow: FlowMap, method: Method, out: Path, **own: Any) -> int:
    """Train one method into a folder; how many steps there were to do."""
    weights = sum(weight.numel() for weight in flow.parameters())
    learned = sum(weight.numel() for weight in flow.parameters() if weight.requires_grad)
    some = f", {learned:,} of them trained" if learned < weights else ""
    say(f"{method.name} on {data.name}: a network of {weights:,} weights{some}, run folder {out}")
    shared = {name: getattr(options, name) for name in SHARED}
    return sum(1 for _ in train(flow, method, data, out=out, **shared, **own))
