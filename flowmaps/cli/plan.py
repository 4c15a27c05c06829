"""`flowmaps plan`: the cost of a recipe, and the list of recipes."""

from __future__ import annotations

from typing import Any

from ..experiments.planning import plan
from ..recipes import PRETRAINED, RECIPES, find_any
from ..recipes.planned import Planned
from ..recipes.planning import CostEstimate
from ..recipes.rows import row_of
from .arguments import keywords, method_arguments
from .options import Plan
from .tables import print_json, print_table

GB = 1e9


def run_plan(options: Plan) -> None:
    """Print an estimate; without a recipe, list all recipes."""
    if options.recipe is None:
        return list_recipes(options.json)
    estimate = plan(**given(options))
    hours = None if options.rate is None else estimate.hours(options.rate * 1e12)
    if options.json:
        return print_json({**estimate.as_dict(), "rate_tflops": options.rate, "hours": hours})
    print_estimate(estimate, options, hours)


def given(options: Plan) -> dict[str, Any]:
    """The options as keyword arguments of `plan`."""
    found = keywords(options, "rate", "memory", "method_args")
    if options.method_args:
        row = find_any(options.recipe or "").row if options.method is None else row_of(found["method"])
        found["method_args"] = method_arguments(row.build, options.method_args)
    return found


def list_recipes(json: bool) -> None:
    """Print the names, lengths and sources of all recipes."""
    known: list[Planned] = [*RECIPES.values(), *PRETRAINED.values()]
    if json:
        return print_json([recipe.listed() for recipe in known])
    rows = [
        [recipe.name, recipe.row.name, f"{recipe.steps:,}", str(recipe.batch_size), f"{recipe.lr:g}", recipe.source]
        for recipe in known
    ]
    print_table("One in full: flowmaps plan RECIPE", ["recipe", "method", "steps", "batch", "rate", "from"], rows)


def print_estimate(estimate: CostEstimate, options: Plan, hours: float | None) -> None:
    """Print the run, the memory of one GPU and the command lines."""
    recipe, cost = estimate.recipe, estimate.cost
    spread = "spread over them (FSDP2)" if estimate.shard else "whole on each (DDP)"
    frozen = f" trained, {cost.frozen / 1e6:,.1f} million frozen" if cost.frozen else ""
    parts = f" in {estimate.accumulate} parts" if estimate.accumulate > 1 else ""
    time = "pass --rate, the speed of a GPU" if hours is None else f"{hours:,.1f} at {options.rate:g} TFLOPS a GPU"
    rows = [
        ["method", f"{recipe.row.name}, {recipe.row.paper.short}"],
        ["data", recipe.data],
        ["parameters", f"{cost.parameters / 1e6:,.1f} million{frozen}, {spread}"],
        ["batch", f"{recipe.batch_size} rows on {estimate.gpus} GPUs{parts}: {estimate.rows} at a time"],
        ["precision", "bfloat16 where that is safe" if recipe.precision == "bf16" else "float32"],
        ["operations", f"{estimate.flops / 1e12:,.2f} TFLOP for each GPU and step"],
        ["steps", f"{recipe.steps:,}, {estimate.images / 1e6:,.1f} million rows"],
        ["hours", time],
        *([name, words] for name, words in recipe.about.items()),
    ]
    print_table(recipe.name, ["", ""], rows)
    sizes = [[name, f"{size / GB:.2f} GB"] for name, size in {**estimate.memory, "together": estimate.total}.items()]
    print_table("\nmemory of one GPU" + fits(estimate, options.memory), ["", ""], sizes)
    print("")
    for line in estimate.launch.values():
        print(line)


def fits(estimate: CostEstimate, memory: float | None) -> str:
    """The used share of the memory of a GPU, in words."""
    if memory is None:
        return ""
    share = estimate.total / (memory * GB)
    return f": {share:.0%} of {memory:g} GB" + (
        "" if share < 1 else ", which is not enough: --accumulate, --checkpoint, --shard"
    )
