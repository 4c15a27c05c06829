"""`train`: a method on a data set, into a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..data import Data
from ..data import reflow as coupled_by
from ..flow_map import FlowMap
from ..methods import Row
from .build import (
    MethodLike,
    ModelLike,
    NetworkName,
    OutputName,
    flow_of,
    for_row,
    is_path,
    make_flow,
    make_method,
    row_of,
)
from .guide import Scales, guide_of_training
from .guided_run import TimeInterval
from .trained_run import Say, TrainedRun, check_settings, data_of, device, settings_of_training, silent, train_into

if TYPE_CHECKING:
    from ..recipes import Recipe

METHOD, STEPS = "imf", 5000
"""Method and length where neither the caller nor a recipe says."""
COUPLINGS = 50_000
"""Number of couplings of noise and data that a model makes."""


def train(
    data: Any,
    *,
    recipe: str | Recipe | None = None,
    reduced: bool = False,
    checkpoint: bool = False,
    method: MethodLike | None = None,
    method_args: Mapping[str, Any] | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    network: NetworkName = "auto",
    width: int | None = None,
    depth: int | None = None,
    output: OutputName = "auto",
    labels: bool = True,
    data_args: Mapping[str, Any] | None = None,
    teacher: ModelLike | Any = None,
    guidance: Scales | None = None,
    guidance_interval: TimeInterval | None = None,
    label_dropout: float | None = None,
    reflow: ModelLike | None = None,
    couplings: int = COUPLINGS,
    out: str | Path | None = None,
    start: ModelLike | None = None,
    say: Say = silent,
    **settings: Any,
) -> TrainedRun:
    """Train a flow map and keep everything in a run folder, as `flowmaps train` does.

    The seed fixes the initial weights too, by torch's global generator.

    Args:
        data: Name, folder or file of a data set as for `data.load`, or a `Data`, a tensor, ... as for `data.as_data`.
        recipe: Recipe, or its name, that sets everything but the data; other arguments come before it.
        reduced: Whether to try the recipe with a small network and three steps of eight rows.
        checkpoint: Whether the recipe's network computes activations again in the backward pass, to save memory.
        method: Name of a method, its function, its row, or a method that such a function made. None: "imf", or the
            method of the recipe.
        method_args: Keyword arguments of the method's function.
        steps: Training steps. None: 5000, or those of the recipe, where there is no budget of `seconds`.
        seconds: Time to train instead of `steps`. Such a run does not give the same numbers twice.
        network: "mlp", "dit" or "unet". "auto": the recipe for the data, `recipes.flow_for`.
        width: Width of the network. None: its default.
        depth: Blocks of the network (a U-Net: blocks per resolution). None: its default.
        output: Prediction of the network: "average-velocity", "endpoint", "position" or "gaussian-skip". "auto": the
            one of the recipe for the data, the average velocity if `network` is given.
        labels: Whether the network takes the class labels of the data.
        data_args: Options of a data set that is named.
        teacher: Run folder or flow map that a distillation method learns from.
        guidance: Scale of guidance that is learned, or (smallest, largest) for a guidance-conditioned network. With
            `teacher`, the teacher is guided, and has to know the null class.
        guidance_interval: Times between which guidance acts, such as (0.2, 0.8). None: all.
        label_dropout: Share of rows without their label, which teaches the null class. None: 0.1 with guidance and
            without teacher, else 0.
        reflow: Run folder or flow map whose ODE couples noise with data; training is on these couplings.
        couplings: Number of couplings.
        out: Run folder. None: runs/DATA-METHOD, or runs/RECIPE.
        start: Run folder or flow map to start from; network and output are taken over. A flow map is copied.
        say: Receives messages on the way.
        **settings: Other keyword arguments of `flowmaps.train`: batch_size, lr, ema, seed, resume, trackers, ...

    Returns:
        The run; its `steps` are 0 if it was complete before.

    Raises:
        ValueError: Arguments do not fit together, or name something unknown.
        TypeError: A setting is unknown.
        FileExistsError: There is a run in the folder and `resume` is not set.
        FloatingPointError: The loss is not finite.
    """
    check_settings("train", settings)
    found = recipe_of(recipe, method=method, reduced=reduced, checkpoint=checkpoint, lr=settings.get("lr"))
    networks: dict[str, Any] = {"network": network, "width": width, "depth": depth, "output": output}
    if found is not None:
        check_network(**networks)
    chosen = method if method is not None else METHOD if found is None else found.row
    row, rows = row_of(chosen), data_of(data, data_args)
    name = f"{Path(rows.name).name}-{chosen if isinstance(chosen, str) else row.name}" if found is None else found.name
    seed = settings.get("seed", settings_of_training()["seed"])
    rows = rows if reflow is None else couple(rows, reflow, couplings, seed, say)
    guide = guide_of_training(
        rows,
        guidance=guidance,
        guidance_interval=guidance_interval,
        label_dropout=label_dropout,
        labels=labels,
        teacher=teacher,
        recipe=recipe,
    )
    made = guide.method(make_method(chosen, method_args, teacher, found and found.make, guide.teacher))
    rows = guide.data(rows if found is None else found.prepare(rows))
    flow = guide.flow(flow_to_train(rows, row, found, start, teacher, seed, labels=labels, **networks))
    notes = notes_of(recipe=recipe, teacher=teacher, reflow=reflow) | guide.notes() | dict(settings.pop("notes", {}))
    settings = ({} if found is None else found.settings()) | settings
    settings |= length_of(steps, seconds, STEPS if found is None else found.steps)
    return train_into(out or Path("runs") / name, flow, made, rows, say, notes=notes, **settings)


def recipe_of(
    recipe: str | Recipe | None,
    *,
    method: MethodLike | None = None,
    reduced: bool = False,
    checkpoint: bool = False,
    lr: float | None = None,
) -> Recipe | None:
    """Find a recipe, with the method and the learning rate that are asked for.

    Args:
        recipe: The recipe or its name. None: none.
        method: Another method for it, which is trained unguided. None: its own.
        reduced: Whether to take a small network and three steps of eight rows.
        checkpoint: Whether the network computes activations again in the backward pass.
        lr: Another learning rate. None: its own.

    Returns:
        The recipe, None if there is none.

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
    found = found if row is found.row else replace(found, method=row.build, guidance=None)
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
    """The flow map that training starts from: of another run, of a recipe, or with new weights.

    Args:
        data: The data set.
        row: The row of the method.
        recipe: The recipe, if there is one.
        start: Run folder or flow map to start from. None: new weights, or the teacher's if the recipe starts there.
        teacher: Run folder or flow map of the teacher.
        seed: Seed of new weights.
        labels: Whether the network takes class labels.
        **networks: network, width, depth and output, as for `make_flow`.

    Returns:
        The flow map, a partial one if the method learns no other.

    Raises:
        ValueError: The recipe starts from a run and there is none.
    """
    torch.manual_seed(seed)
    if recipe is None:
        return make_flow(data, row, labels=labels, seed=seed, **networks) if start is None else _limited(start, row)
    if recipe.start is not None and start is None:
        if recipe.start != recipe.teacher:
            raise ValueError(
                f"{recipe.name} starts from the weights of another model: `start`, a run of {recipe.start}"
            )
        start = teacher
    return recipe.flow() if start is None else _limited(start, row)


def check_network(**networks: Any) -> None:
    """Refuse a choice of network beside a recipe. Raises ValueError for a value that is not None or "auto"."""
    for name, value in networks.items():
        if value not in (None, "auto"):
            raise ValueError(f"a recipe brings a network of its own, so `{name}` does not apply")


def _limited(start: ModelLike, row: Row) -> FlowMap:
    """The map that a method learns, with the weights of another."""
    return for_row(flow_of(start), row)


def couple(data: Data, model: ModelLike, couplings: int, seed: int, say: Say = silent) -> Data:
    """Couple noise with data by the ODE of a trained model.

    Args:
        data: The data set, for its name and its labels.
        model: Run folder or flow map.
        couplings: Number of couplings.
        seed: Seed of the noise.
        say: Receives a line before they are made.

    Returns:
        The data set of these couplings.
    """
    by = model if is_path(model) else "a flow map"
    say(f"Making {couplings} couplings of noise and data by {by} ...")
    return coupled_by(flow_of(model).to(device()), data, couplings, seed=seed)


def length_of(steps: int | None, seconds: float | None, usual: int) -> dict[str, Any]:
    """The length of training, as keyword arguments of `flowmaps.train`.

    Args:
        steps: Number of steps.
        seconds: Time on them.
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
    """The origins of a run that have a name, as text for config.json: recipes and run folders."""
    found = {name: value if is_path(value) else getattr(value, "name", None) for name, value in origins.items()}
    return {name: str(value) for name, value in found.items() if value is not None}
