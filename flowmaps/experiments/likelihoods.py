"""`likelihood`: log-densities of held-out, training and random rows, and of other data, under a trained run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from torch import Tensor

from ..arguments import at_least, check_seed, device_of, finite, given, truth, within
from ..arguments.memory import check_room
from ..flow_map import FlowMap
from ..likelihood import Estimator
from ..path import Geodesic
from ..runs.folder import read_config
from ..runs.loading import load_with_step, read_vocabulary
from .checks import check_by_name, folder_of
from .guided_run import TimeInterval, condition_names, jumps_are_guided
from .likelihood_estimate import Estimating, classes_for
from .likelihood_estimators import Named, check_fits, estimators_of, matrix_values, notes_of, usual_for
from .likelihood_files import keep
from .likelihood_rows import HELD_OUT, RANDOM, compared, other_data
from .likelihood_table import LikelihoodRow, LikelihoodTable, row_of
from .likelihood_tokens import USUAL, check_tokens, note
from .sampling import guided
from .text_conditioning import has_latents
from .trained_run import Say, silent
from .trained_run import device as default_device

COPIES = 8
"""Copies of the rows: four kinds, and their states."""
LATENTS = "The density is one of latents, and not of the images that their VAE decodes"


def likelihood(
    run: str | PathLike[str],
    data: Any = None,
    *,
    by: str | Estimator | Sequence[str | Estimator] | None = None,
    n: int = 64,
    label: int | None = None,
    labels: bool = True,
    guidance: float | None = None,
    guidance_interval: TimeInterval | None = None,
    data_args: Mapping[str, Any] | None = None,
    start: float | None = None,
    seed: int = 0,
    ema: bool = True,
    device: str | None = None,
    command: str | None = None,
    say: Say = silent,
) -> LikelihoodTable:
    """Log-densities of held-out, training and random rows under a trained run, as `flowmaps likelihood` computes them.

    Random images are uniform noise of the range of the data, random points of a manifold have its prior, and other
    random rows are Gaussian, of the mean and variance of the data. The bits per dimension of images of whole levels are
    an upper bound, by `fm.likelihood.noised`. The last result is kept in the run folder, as likelihood.json and
    likelihood.png, and shown by `report`.

    Args:
        run: The run folder.
        data: Another data set to compare with: a name, folder or file as for `train`, a `Data`, a tensor, ... Its
            held-out rows are taken, if there are any. Images are rounded to the levels of the run's data. It takes the
            place of the run's data if these were made from an object.
        by: Estimators by name: "ode:STEPS", "exact:STEPS" (the ODE with the exact trace), "hutchinson:PROBES",
            "jumps:STEPS", "joint:STEPS", "bound:DRAWS"; or estimators of `fm.likelihood`. Several in a list. None:
            "ode" for at most 16 values in a row, else "hutchinson:8".
        n: Number of rows of each kind, or all rows if there are fewer.
        label: Class of all rows, for a class-conditional run. None: each row has its own class.
        labels: Whether a class-conditional run is conditioned on classes, log p(x | class). False: log p(x), by the
            null class if the run knows it, else as the mean density over all classes, which costs as many times as
            there are classes; the most probable class of each held-out row is then compared with its own.
        guidance: Scale of guidance, as for `sample`.
        guidance_interval: Times between which guidance acts. None: all.
        data_args: Options of a data set that is given by name.
        start: Time at which log-densities begin. None: for images of whole levels the time whose noise fills the gaps
            between levels, about 0.001 for 256 levels, else 0. A later time gives the density of noisy data, without
            bits per dimension. 0: uniform noise in the gaps, which is the default for runs that were trained on
            `dequantised` images.
        seed: Seed of the choice of rows, of random rows, of the noise between levels, and of probes and draws.
        ema: Whether to use the averaged weights.
        device: The device to compute on. None: a GPU if there is one.
        command: The command line, for the record.
        say: Receives lines about the cost and the progress.

    Returns:
        The table, with the log-density of each row.

    Raises:
        FileNotFoundError: The run or the data do not exist.
        TypeError: An argument is of another type.
        ValueError: An estimator, a class or the data do not fit the run, there are no unseen rows, or the memory is too
            small.
        FloatingPointError: The log-density of a row is not finite.
    """
    estimators = [] if by is None else estimators_of(by)
    at_least(1, n=n)
    check_seed(seed)
    finite(**given(guidance=guidance))
    within(0, 0.5, **given(start=start))
    truth(ema=ema, labels=labels)
    check_by_name(data_args=data_args)
    if data_args and data is None:
        raise ValueError(
            "`data_args` are options of another data set, and there is none: give its name, folder or file"
        )
    where = device_of(default_device() if device is None else device)
    run = folder_of(run)
    config = read_config(run)
    is_text = config["data"]["kind"] == "tokens"
    if config["data"].get("columns") is not None:
        raise ValueError(
            "the rows of this run hold categories, which have no density: log-densities are of numbers alone"
        )
    estimators = estimators or estimators_of(USUAL if is_text else usual_for(math.prod(config["data"]["shape"])))
    check_tokens(config, estimators)
    classes = classes_for(run, config, label, labels)
    loaded = load_with_step(run, ema=ema)
    flow = loaded.flow.to(where).requires_grad_(False)
    _check(flow, config, estimators, n, guidance is not None, say)
    source, condition = guided(flow, config, 1, guidance, guidance_interval)
    other = None if data is None else other_data(run, data, data_args, classes.numbers is None)
    rows = compared(run, config, other, n, seed, classes.numbers is None, start, flow.path)
    shape = _shape(flow, config, is_text, rows.notes)
    table: list[LikelihoodRow] = []
    values: dict[str, dict[str, Tensor]] = {}
    accuracy: dict[str, float] = {}
    for one in estimators:
        found = Estimating(source, condition, classes, one, rows, seed, say)()
        values[one.name] = {part.name: value.value for part, (value, _, _) in zip(rows.rows, found, strict=True)}
        held = values[one.name].get(HELD_OUT)
        for part, (value, best, seconds) in zip(rows.rows, found, strict=True):
            is_held = part.name == HELD_OUT
            table.append(
                row_of(
                    one.name,
                    part.name,
                    value,
                    shape,
                    rows.levels,
                    seconds,
                    None if is_held else held,
                )  # fmt: skip
            )
            if is_held and best is not None and part.label is not None:
                accuracy[one.name] = float((best == part.label).float().mean())
    notes = [*rows.notes, *notes_of(estimators), *filter(None, [classes.note, LATENTS if has_latents(config) else ""])]
    if is_text:
        vocabulary, x = read_vocabulary(config, run / "config.json"), {part.name: part.x for part in rows.rows}
        notes += [note(row, x[row.rows], vocabulary) for row in table if row.rows != RANDOM]
    result = LikelihoodTable(
        table, values, {part.name: part.x for part in rows.rows}, accuracy, rows.name, rows.levels, classes.quantity,
        notes, loaded.step,
    )  # fmt: skip
    keep(run, result, command, say)
    return result


def _shape(flow: FlowMap, config: Mapping[str, Any], is_text: bool, notes: list[str]) -> Sequence[int]:
    """Shape of the values of a row that nats are shared out to: numbers, tokens, or dimensions of a manifold."""
    if isinstance(flow.path, Geodesic) and flow.path.curved:
        space = flow.path.manifold
        notes.append(
            f"Densities on {space} are with respect to its volume; a value is one of its {space.dim} dimensions"
        )
        return (space.dim,)
    return config["data"]["shape"][:1] if is_text else config["data"]["shape"]


def _check(
    flow: FlowMap, config: Mapping[str, Any], estimators: Sequence[Named], n: int, is_guided: bool, say: Say
) -> None:
    """Refuse estimators that do not fit a run or the memory, before anything is computed."""
    if "text" in condition_names(flow.network):
        raise ValueError(
            "this run is conditioned on texts, and rows of data sets have none here: compute log-densities given a "
            "text by fm.likelihood.log_prob(flow, x0, condition=...)"
        )
    for one in estimators:
        check_fits(one, flow, is_guided and not jumps_are_guided(flow))
    values = math.prod(config["data"]["shape"])
    check_room(COPIES * n * values * flow.like.element_size(), f"{n:,} rows of each kind take", "take fewer, `n`", say)
    needed = 3 * matrix_values(estimators, values) * flow.like.element_size()  # the Jacobian, and its decomposition
    check_room(
        needed, f"the Jacobian of rows of {values:,} values takes", "take hutchinson or bound, which need none", say
    )
