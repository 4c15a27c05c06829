"""`train`: a method on a data set, into a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import at_least, given, truth
from ..data import Data
from ..data.standardise import by_channel
from ..method.method import Method
from ..networks.with_backbone import has_backbone
from ..path import linear
from ..recipes import method_for, method_name
from ..recipes.by_data import rate_for
from ..recipes.manifolds import path_for
from ..recipes.rows import MethodLike, row_of
from ..recipes.sequences import for_sequences
from ..training.schedule import WarmUpStableDecay
from .build import ModelLike, NetworkName, OutputName, make_method, opened
from .checks import check_by_name, check_networks, check_settings_of_training, check_share
from .guide import LABEL_DROPOUT, Scales, guide_of_training, with_null
from .guided_run import TimeInterval
from .run_data import with_all_classes_of, with_classes_of_all
from .run_folder import check_out, folder_for, resumed_folder
from .sizing import sized, sizes_before
from .trained_run import (
    Say,
    TrainedRun,
    check_settings,
    data_of,
    rows_in_units,
    settings_of_training,
    silent,
    train_into,
)
from .training_setup import (
    COUPLINGS,
    STEPS,
    check_network,
    couple,
    flow_to_train,
    length_of,
    notes_of,
    recipe_of,
)

if TYPE_CHECKING:
    from ..recipes import Recipe


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
    batch_size: int | None = None,
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

    The seed also fixes the initial weights, by torch's global generator.

    Args:
        data: Name, folder or file of a data set as for `data.load`, or a `Data`, a tensor, ... as for `data.as_data`.
        recipe: Recipe, or its name, for everything except the data; other arguments take precedence.
        reduced: Whether to try the recipe with a small network and three steps of eight rows.
        checkpoint: Whether activations of the recipe's network are recomputed in the backward pass, to save memory.
        method: Name of a method, its function, its row, or a `Method`; a name stands for the settings of its paper.
            None: the method of the recipe, or `recipes.method_for(data)`.
        method_args: Keyword arguments of the method's function.
        steps: Training steps. None: the steps of the recipe or 5000, unless `seconds` is given.
        seconds: Training time, instead of `steps`. Such a run does not give the same numbers twice.
        network: "mlp", "dit", "unet", "transformer" for tokens, or "autoregressive" for sequences (T, C). "auto": the
            recipe for the data, `recipes.flow_for`.
        width: Width of the network. None: its default.
        depth: Blocks of the network (a U-Net: blocks per resolution). None: its default.
        batch_size: Rows of a step. None: 256. For large images on a CPU, `recipes.sizes_for` chooses it together with
            width and depth, if these are not given. Of tokens on a CPU, as many rows as have 2048 tokens.
        output: Prediction of the network: "average-velocity", "endpoint", "position" or "gaussian-skip". "auto": chosen
            by the recipe for the data, or the average velocity if `network` is given.
        labels: Whether the network takes the class labels of the data.
        data_args: Options of a data set that is given by name.
        teacher: Run folder, flow map or file of `fm.save` that a distillation method learns from.
        guidance: Scale of guidance that is baked in, or (smallest, largest) for a guidance-conditioned network. With
            `teacher` the teacher is guided; it must know the null class.
        guidance_interval: Times between which guidance acts, such as (0.2, 0.8). None: all.
        label_dropout: Share of rows without their label, which teaches the null class. None: 0.1 with guidance and
            without teacher, or if the method compares with the null class, else 0.
        reflow: Run folder, flow map or file of `fm.save` that couples noise with data by its ODE; training uses
            these couplings.
        couplings: Number of couplings.
        out: Run folder. None: runs/DATA-METHOD, or runs/RECIPE, with a number if that exists.
        start: Run folder, flow map or file of `fm.save` to start from, with its network and output. A flow map is
            copied.
        say: Receives progress messages.
        **settings: Other keyword arguments of `flowmaps.train`: lr, ema, seed, resume, trackers, ...

    Returns:
        The run; its `steps` are 0 if it was already complete.

    Raises:
        ValueError: Arguments do not fit together, or name something unknown.
        TypeError: A setting is unknown, or a value is of another type.
        BlockingIOError: Another process trains into the folder; the message names it.
        FileExistsError: The folder holds a run and `resume` is not set.
        FloatingPointError: The loss is not finite.
    """
    check_settings("train", settings)
    at_least(1, **given(batch_size=batch_size))
    truth(reduced=reduced, checkpoint=checkpoint)
    check_networks(network=network, output=output, width=width, depth=depth, labels=labels)
    check_settings_of_training(settings, steps, seconds, out)
    check_by_name(method_args=method_args, data_args=data_args)
    check_share(label_dropout=label_dropout)
    at_least(1, couplings=couplings)
    check_out(out, settings.get("resume", False))
    found = recipe_of(recipe, method=method, reduced=reduced, checkpoint=checkpoint, lr=settings.get("lr"))
    networks: dict[str, Any] = {"network": network, "width": width, "depth": depth, "output": output}
    if found is not None:
        check_network(**networks)
    origins = {"teacher": teacher, "reflow": reflow}
    teacher, start, reflow = opened(teacher), opened(start), opened(reflow)
    rows = with_classes_of_all((teacher, start, reflow), data_of(data, data_args))
    for note in rows.notes:
        say(note)
    chosen = method if method is not None else method_name(rows) if found is None else found.row
    row = row_of(chosen)
    if guidance is not None:
        rows = with_all_classes_of(teacher, rows)
    name = run_name(rows, chosen, found)
    seed = settings.get("seed", settings_of_training()["seed"])
    resumed = resumed_folder(out, name, settings)
    if network == "autoregressive" and rows.units is not None and rows.units.axis == 0:
        rows = by_channel(rows)
    rows = rows_in_units(rows, (start, teacher, reflow), resumed)
    rows = rows if reflow is None else couple(rows, reflow, couplings, seed, say, settings.get("device"))
    if row.null and not isinstance(method, Method):
        label_dropout = LABEL_DROPOUT if label_dropout is None else label_dropout
        method_args = with_null(row, rows, method_args, labels=labels, label_dropout=label_dropout)
    guide = guide_of_training(
        rows, guidance=guidance, guidance_interval=guidance_interval, label_dropout=label_dropout, labels=labels,
        teacher=teacher, recipe=recipe,
    )  # fmt: skip
    build = partial(method_for, rows) if found is None and method is None else found and found.make
    made = guide.method(make_method(chosen, method_args, teacher, build, guide.teacher))
    for term in made.terms:
        term.check_path(path_for(rows) or linear)
    rows = guide.data(rows if found is None else found.prepare(rows))
    if found is None and start is None:
        before = None if resumed is None else sizes_before(resumed)
        length = length_of(steps, seconds, STEPS)
        sizes = {"width": width, "depth": depth, "batch_size": batch_size}
        sizes = sized(rows, sizes, network=network, before=before, say=say, where=settings.get("device"), **length)
        batch_size = sizes.pop("batch_size")
        networks |= sizes
    flow = guide.flow(flow_to_train(rows, row, found, start, teacher, seed, labels=labels, **networks))
    if guidance is not None and has_backbone(flow.network) and not guide.taught:
        raise ValueError(
            "the guidance of a head on a backbone mixes contexts and is not baked into its head: train with "
            "`label_dropout=0.1`, and sample with guidance, or train a student of this run by `teacher` and `guidance`"
        )
    made = for_sequences(made, flow)
    notes = notes_of(recipe=recipe, **origins) | guide.notes() | dict(settings.pop("notes", {}))
    usual: dict[str, Any] = {"schedule": WarmUpStableDecay()} if method is None else {}
    if found is None and start is None and (rate := rate_for(flow)) is not None:
        usual["lr"] = rate
    settings = (usual if found is None else found.settings()) | settings
    settings |= length_of(steps, seconds, STEPS if found is None else found.steps)
    settings |= {} if batch_size is None else {"batch_size": batch_size}
    with folder_for(out, name, settings) as folder:
        return train_into(folder, flow, made, rows, say, notes=notes, **settings)


def run_name(data: Data, method: MethodLike, recipe: Recipe | None) -> str:
    """The name of the run folder: the recipe, or the data set and the method."""
    if recipe is not None:
        return recipe.name
    return f"{Path(data.name).name}-{method if isinstance(method, str) else row_of(method).name}"
