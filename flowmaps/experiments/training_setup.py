"""The parts of a training run: its recipe, the flow map to start from, couplings, and its length."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ..data import Data
from ..data import reflow as coupled_by
from ..flow_map import FlowMap
from ..methods import Row
from ..recipes.rows import MethodLike, row_of
from .build import ModelLike, flow_of, for_row, is_path, make_flow, rows_for
from .forecast import progress_of
from .trained_run import Say, device, silent

if TYPE_CHECKING:
    from ..recipes import Recipe

STEPS = 5000
"""Default number of training steps, without a recipe."""
COUPLINGS = 50_000
"""Default number of couplings of noise and data that a model makes."""


def recipe_of(
    recipe: str | Recipe | None,
    *,
    method: MethodLike | None = None,
    reduced: bool = False,
    checkpoint: bool = False,
    lr: float | None = None,
) -> Recipe | None:
    """Find a recipe, with another method or learning rate if given.

    Args:
        recipe: The recipe or its name. None: no recipe.
        method: Another method, trained without the recipe's guidance. None: the recipe's method.
        reduced: Whether to use a small network and three steps of eight rows.
        checkpoint: Whether activations are recomputed in the backward pass.
        lr: Another learning rate. None: the recipe's.

    Returns:
        The recipe; None without one.

    Raises:
        ValueError: The recipe or the method is unknown, or an argument needs a recipe.
    """
    if recipe is None:
        for name, given in (("reduced", reduced), ("checkpoint", checkpoint)):
            if given:
                raise ValueError(f"`{name}` is for recipes: it needs `recipe`")
        return None
    from ..recipes import find

    found = find(recipe) if isinstance(recipe, str) else recipe
    found = found.reduced() if reduced else found
    found = found.checkpointed() if checkpoint else found
    row = found.row if method is None else row_of(method)
    found = found if row == found.row else replace(found, method=row.build, guidance=None)
    return found if lr is None else replace(found, lr=lr)


def flow_to_train(
    data: Data,
    row: Row,
    recipe: Recipe | None,
    start: ModelLike | None,
    teacher: ModelLike | Any,
    seed: int,
    *,
    labels: bool,
    **networks: Any,
) -> FlowMap:
    """Make the flow map that training starts from: of another run, of a recipe, or with new weights.

    Args:
        data: The data set.
        row: The row of the method.
        recipe: The recipe. None: no recipe.
        start: Run folder or flow map to start from. None: new weights, or the teacher's if the recipe starts there.
        teacher: Run folder or flow map of the teacher.
        seed: Seed of new weights.
        labels: Whether the network takes class labels.
        **networks: network, width, depth and output, as for `make_flow`.

    Returns:
        The flow map; it is partial if the method learns only that.

    Raises:
        ValueError: The recipe starts from a run and none is given.
    """
    torch.manual_seed(seed)
    if recipe is None:
        return (
            make_flow(data, row, labels=labels, seed=seed, **networks) if start is None else _limited(start, row, data)
        )
    if recipe.start is not None and start is None:
        if recipe.start != recipe.teacher:
            raise ValueError(
                f"{recipe.name} starts from the weights of another model: `start`, a run of {recipe.start}"
            )
        start = teacher
    return recipe.flow() if start is None else _limited(start, row, data)


def check_network(**networks: Any) -> None:
    """Raise ValueError for a choice of network beside a recipe, that is, for any value except None and "auto"."""
    for name, value in networks.items():
        if value not in (None, "auto"):
            raise ValueError(f"a recipe brings its own network, so `{name}` does not apply")


def _limited(start: ModelLike, row: Row, data: Data) -> FlowMap:
    """The flow map of a method, with the weights of another flow map."""
    return for_row(flow_of(start), row, rows_for(row, data))


def couple(
    data: Data, model: ModelLike, couplings: int, seed: int, say: Say = silent, where: str | None = None
) -> Data:
    """Couple noise with data by the ODE of a trained model.

    Args:
        data: The data set, for its name and its labels.
        model: Run folder or flow map.
        couplings: Number of couplings.
        seed: Seed of the noise.
        say: Receives a line before the couplings are made, and one every ten seconds.
        where: The device. None: a GPU if there is one.

    Returns:
        The data set of the couplings.
    """
    by = model if is_path(model) else "a flow map"
    say(f"Making {couplings} couplings of noise and data by {by} ...")
    told = progress_of(say, "Making couplings")
    return coupled_by(flow_of(model).to(device(where)), data, couplings, seed=seed, progress=told)


def length_of(steps: int | None, seconds: float | None, usual: int) -> dict[str, Any]:
    """The length of training as keyword arguments of `flowmaps.train`.

    Args:
        steps: Number of steps. None: not given.
        seconds: Training time. None: not given.
        usual: Number of steps if neither is given.

    Returns:
        {"steps": n, "seconds": None} or {"steps": None, "seconds": t}.

    Raises:
        ValueError: Both are given.
    """
    if steps is not None and seconds is not None:
        raise ValueError(f"training has one length: `seconds={seconds:g}` or `steps={steps}`, not both")
    return {"steps": (usual if steps is None else steps) if seconds is None else None, "seconds": seconds}


def notes_of(**origins: Any) -> dict[str, str]:
    """Recipes and run folders by role, as text for config.json; flow maps without a folder are left out."""
    found = {name: value if is_path(value) else getattr(value, "name", None) for name, value in origins.items()}
    return {name: str(value) for name, value in found.items() if value is not None}
