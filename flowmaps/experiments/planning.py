"""`plan`: the cost of a recipe before training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from ..arguments import at_least, shown, truth
from ..arguments import given as optional
from ..recipes import find_any
from ..recipes import planning as counted
from ..recipes.planned import Planned
from ..recipes.planning import CostEstimate
from ..recipes.rows import MethodLike, row_of
from ..training.config import Precision
from .build import check_method_arguments


def plan(
    recipe: str | Planned,
    *,
    gpus: int = 8,
    shard: bool = False,
    accumulate: int = 1,
    checkpoint: bool = False,
    batch_size: int | None = None,
    steps: int | None = None,
    precision: Precision | None = None,
    method: MethodLike | None = None,
    method_args: Mapping[str, Any] | None = None,
) -> CostEstimate:
    """Count the cost of a recipe: parameters, memory of a GPU, operations, command lines, as `flowmaps plan` does.

    Nothing is trained, and no GPU is needed. `estimate.hours(rate)` is the time at a measured rate.

    Args:
        recipe: Name of a recipe (`recipes.RECIPES`, `recipes.PRETRAINED`), or a recipe.
        gpus: Number of GPUs that share a batch.
        shard: Whether weights, gradients, optimizer states and averages are sharded over the GPUs.
        accumulate: Number of parts in which a GPU processes its share of a batch.
        checkpoint: Whether activations are recomputed in the backward pass, to save memory.
        batch_size: Rows of a step, over all GPUs. None: the recipe's.
        steps: Training steps. None: the recipe's.
        precision: "no" or "bf16". None: the recipe's.
        method: Another method for the same network and data.
        method_args: Keyword arguments of the method's function.

    Returns:
        The estimate.

    Raises:
        ValueError: The recipe or the method is unknown, the batch has too few rows, or the method depends on the values
            of the batch (`cmt`).
    """
    at_least(1, **optional(batch_size=batch_size, steps=steps))
    truth(shard=shard, checkpoint=checkpoint)
    if precision not in (None, *get_args(Precision)):
        raise ValueError(f"`precision` must be no or bf16, got {shown(precision)}")
    found = find_any(recipe) if isinstance(recipe, str) else recipe
    if isinstance(found, type) or not hasattr(found, "batch_size"):
        raise TypeError(f"a plan needs a recipe or its name, got {shown(recipe)}")
    given = {"batch_size": batch_size, "steps": steps, "precision": precision}
    found = adapted(found, checkpoint=checkpoint, method=method, method_args=method_args, **given)
    return counted.plan(found, gpus=gpus, accumulate=accumulate, shard=shard)


def adapted(
    recipe: Planned,
    *,
    checkpoint: bool = False,
    method: MethodLike | None = None,
    method_args: Mapping[str, Any] | None = None,
    **values: Any,
) -> Planned:
    """Make a variant of a recipe.

    Args:
        recipe: The recipe.
        checkpoint: Whether activations are recomputed in the backward pass.
        method: Another method. None: the recipe's.
        method_args: Keyword arguments of the method's function.
        **values: Other fields, such as batch_size; None leaves a field as it is.

    Returns:
        The variant.

    Raises:
        ValueError: The method or one of its arguments is unknown.
    """
    fields: Any = recipe  # a dataclass, of either kind
    recipe = replace(fields, **{name: value for name, value in values.items() if value is not None})
    recipe = recipe.checkpointed() if checkpoint else recipe
    if method is None and not method_args:
        return recipe
    row = recipe.row if method is None else row_of(method)
    check_method_arguments(row.build, method_args or {})
    return recipe.by(row, **(method_args or {}))
