"""The methods of post-training: a name and its arguments, and the method, rows and flow map that they stand for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from .. import methods, steering, steps
from ..arguments import did_you_mean, shown
from ..data import Data
from ..data import filtered as kept_of
from ..flow_map import FlowMap
from ..method.method import Method
from ..methods import LANDSCAPE, Row
from ..methods.beside import beside_named
from ..methods.landscape import known_rows
from ..recipes import method_for, method_name
from ..recipes.rows import MethodLike, row_of
from ..steering.reward import Rewards
from ..steering.smc import default_value
from .build import check_method_arguments, make_method
from .forecast import progress_of
from .trained_run import Say

REWARDED: dict[str, Callable[..., Method]] = {
    name: getattr(methods, name) for name in ("tilting", "reward_backpropagation", "grpo")
}
"""Methods that are made of a reward, a temperature and a reference."""
FILTERED = "filtered"
"""Name of training on the samples that have a high reward."""
NAMES = (*REWARDED, FILTERED)
GIVEN = ("reward", "beta", "reference")
"""Arguments of a method that `posttrain` gives."""
ODE_STEPS = 50
"""Steps of a sample of a run without jumps."""


@dataclass(frozen=True)
class Task:
    """The parts of a post-training before its method is made.

    Args:
        reference: The flow map of the run, with frozen weights.
        reward: The reward.
        beta: The temperature.
        rows: The data of the run.
        trained_by: Name of the method of the run.
        seed: Seed of samples.
        say: Receives messages.
    """

    reference: FlowMap
    reward: Rewards
    beta: float
    rows: Data
    trained_by: str
    seed: int
    say: Say


class Made(NamedTuple):
    """A method, the rows that it learns from, and the row that limits its flow map; None if it keeps the times."""

    method: Method
    rows: Data
    limits: Row | None = None


def maker(method: MethodLike, arguments: Mapping[str, Any]) -> tuple[str, Callable[[Task], Made]]:
    """Find a method of post-training.

    Args:
        method: Its name, the row or function of a distillation method, or a function of yours (reward, beta,
            reference) -> `Method`.
        arguments: Its keyword arguments.

    Returns:
        Its name, and the function that makes it.

    Raises:
        TypeError: It is something else.
        ValueError: It is unknown or does not follow a reward, or an argument is unknown.
    """
    build = function_of(method)
    for name in GIVEN:
        if name in arguments:
            raise ValueError(f"`{name}` is given to `posttrain` itself, and not among the arguments of the method")
    check_method_arguments(build, arguments)
    row = row_of(build)
    if row.name == FILTERED:
        return FILTERED, lambda task: filtered(task, **arguments)
    return row.name, partial(_distilled if row.needs_teacher else _rewarded, row, dict(arguments))


def function_of(method: MethodLike) -> Callable[..., Any]:
    """The function whose keyword arguments are the arguments of a method of post-training, as for `maker`."""
    if isinstance(method, str):
        name = method.replace("-", "_")
        if name == FILTERED:
            build: Callable[..., Made] = filtered
            return partial(build, None)
        if name in REWARDED:
            return _without_given(REWARDED[name])
        if name not in {row.name for row in known_rows()} and beside_named(name) is None:
            raise ValueError(f"unknown method of post-training {method!r}{did_you_mean(name, _known())}; {_advice()}")
        method = name
    elif isinstance(method, Method):
        raise TypeError(
            "post-training gives the method its reward and its reference: pass the function that makes it, instead of "
            "a Method"
        )
    elif callable(method) and not hasattr(method, "row"):
        missing = [name for name in GIVEN if name not in inspect.signature(method).parameters]
        if missing:
            raise TypeError(
                f"a method of post-training of your own is a function (reward, beta, reference) -> Method, and "
                f"{shown(method)} has no argument {', '.join(missing)}"
            )
        return _without_given(method)
    row = row_of(method)
    if not row.needs_teacher:
        raise ValueError(f"{row.name} learns from data alone and follows no reward; {_advice()}")
    return row.build


def _without_given(build: Callable[..., Method]) -> Callable[..., Method]:
    """The function of a method with places for the arguments that post-training gives."""
    return partial(build, **dict.fromkeys(GIVEN))


def _known() -> list[str]:
    """Names of all methods of post-training."""
    return [*NAMES, *(row.name for row in LANDSCAPE if row.needs_teacher)]


def _advice() -> str:
    """The methods of post-training, for messages."""
    return f"these are {', '.join(NAMES)}, and to learn from the steered velocity {', '.join(_known()[len(NAMES) :])}"


def _rewarded(row: Row, arguments: Mapping[str, Any], task: Task) -> Made:
    """A method that is made of the reward."""
    given = {"reward": task.reward, "beta": task.beta, "reference": task.reference}
    return Made(make_method(partial(row.build, **given), arguments), task.rows)


def _distilled(row: Row, arguments: Mapping[str, Any], task: Task) -> Made:
    """A method of distillation, with the steered velocity as its teacher."""
    teacher = steering.tilt(task.reference, default_value(task.reward, 1 / task.beta))
    return Made(make_method(row, arguments, teacher), task.rows, row)


def filtered(
    task: Task,
    *,
    n: int = 10_000,
    candidates: int = 8,
    best: bool = False,
    jumps: int | None = None,
    then: str | None = None,
) -> Made:
    """Train on samples of the run that have a high reward.

    Args:
        task: The parts of the post-training.
        n: Number of samples that are kept.
        candidates: Samples that are made for each kept one.
        best: Whether the best of `candidates` is kept, instead of n of all by their weights e^{r/beta}.
        jumps: Steps of a sample. None: 1, or 50 of the ODE for a run without jumps.
        then: Name of the method that learns them. None: the method of the run, with its usual settings.

    Returns:
        The method and the kept rows.

    Raises:
        ValueError: The method needs a teacher, or a number is out of range.
    """
    trained, device = task.reference.trained, task.reference.like.device
    count = jumps or (ODE_STEPS if trained is not None and not trained.jumps else 1)
    task.say(f"Making {n * candidates:,} samples to keep {n:,} of them ...")
    kept = kept_of(
        task.reference, task.rows, lambda x0: task.reward(x0.to(device)), n, candidates=candidates,
        beta=None if best else task.beta, steps=count, step=steps.default(task.reference, count), seed=task.seed,
        progress=progress_of(task.say, "Making samples"),
    )  # fmt: skip
    row = row_of(then or _own(task.trained_by, kept))
    if row.needs_teacher:
        raise ValueError(f"{row.name} learns from a teacher, and filtered samples are data alone: then=imf")
    made = method_for(kept) if row.name == method_name(kept) else row.build()
    # evaluations load the data of the run before, as after every post-training
    return Made(made, replace(kept, recipe=task.rows.recipe), row)


def _own(name: str, data: Data) -> str:
    """The method of a run, if it learns from data alone, else the usual method of the data."""
    known = {row.name for row in known_rows() if not row.needs_teacher}
    return name if name in known else method_name(data)
