"""Conditions of guidance: their names, their checks, and the call of a model under two conditions at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..path import expand, expand_frames
from ..trained import NULL, TrainedSpec

SCALE, FROM, TO = "guidance", "guidance_from", "guidance_to"
"""Names of the guidance conditions, one number a row: the scale, and the first and last time at which it acts."""

Condition = Mapping[str, Any]
Evaluate = Callable[..., Tensor]
"""Function (model, x, *times) -> its velocity or average velocity, of x's shape."""


def conditioned_scale(condition: Condition, x: Tensor) -> Tensor:
    """Read the guidance scale of each row from the condition `guidance`.

    Args:
        condition: Conditions by name.
        x: State, (B, ...).

    Returns:
        The scale, (B, 1, ..., 1).

    Raises:
        ValueError: The condition is missing.
    """
    if SCALE not in condition:
        raise ValueError(
            f"the guidance scale is unknown, because the condition {SCALE!r} is missing: give it as B numbers (in "
            "training, data.transforms.GuidanceScales draws them), or pass scale="
        )
    return expand(condition[SCALE], x)


def conditioned_interval(condition: Condition, s: Tensor, x: Tensor) -> Tensor | float:
    """Indicator of the interval [`guidance_from`, `guidance_to`] at s: 1 inside, 0 outside; 1 if neither is given."""
    if FROM not in condition and TO not in condition:
        return 1.0
    start, end = (expand(condition.get(name, default), x) for name, default in ((FROM, 0.0), (TO, 1.0)))
    return ((s >= start) & (s <= end)).to(start.dtype)


def require(condition: Condition, null: Condition) -> None:
    """Raise ValueError if a condition that guidance replaces by its null value is missing."""
    for name in null:
        if name not in condition and "past" in condition:
            raise ValueError(
                f"the condition {name!r} belongs to the backbone of this head: guide its contexts instead of "
                f"velocities, fm.sequences.guided_contexts(flow, scale, null={{{name!r}: ...}})"
            )
        if name not in condition:
            raise ValueError(
                f"guidance replaces the condition {name!r} by its null value, but {name!r} is missing: give it as "
                f"condition= or .given({name}=...); in training, use data with labels and a network that takes them"
            )


def warn_untrained_null(model: Any, null: Condition) -> None:
    """Warn once if a flow map was never trained on the null conditions that guidance compares with.

    Args:
        model: The model that answers under the null conditions. One without a record of its training is not judged.
        null: Null conditions by name.
    """
    trained = getattr(model, "trained", None)
    if isinstance(trained, TrainedSpec) and not torch.compiler.is_compiling():
        if (sentence := trained.warning_of_null(null)) is not None:
            model.warn_once(sentence, stacklevel=5, kind=NULL)


def null_rows(condition: Condition, null: Condition, x: Tensor) -> Tensor:
    """Find the unconditional rows, whose conditions already equal the null conditions.

    Args:
        condition: Conditions by name.
        null: Null conditions by name.
        x: State, (B, ...).

    Returns:
        A Boolean tensor, (B,).

    Raises:
        ValueError: A condition is missing, or its rows differ in shape from the null condition.
    """
    require(condition, null)
    same = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
    for name, value in null.items():
        here, other = as_rows(condition[name], x, name), as_rows(value, x, name)
        check_row_shapes(name, here, other)
        same = same & (here == other.to(here.device)).reshape(x.shape[0], -1).all(1)
    return same


def evaluate_both(
    evaluate: Evaluate, model: Any, first: Condition, second: Condition, x: Tensor, *times: Any
) -> tuple[Tensor, Tensor]:
    """Evaluate a model at the same states under two conditions, in one call of 2 B rows.

    Args:
        evaluate: `velocity_of` or `average_velocity_of`.
        model: An object with `given(**condition)`. Its own bound condition completes both conditions.
        first: Conditions by name, for the first B rows.
        second: Conditions by name, for the other B rows.
        x: State, (B, ...).
        *times: Times, in any shape that `path.expand_frames` takes.

    Returns:
        The two answers, of x's shape.

    Raises:
        TypeError: The model takes no conditions, or a condition without rows differs between the two.
        ValueError: The rows of a condition differ in shape between the two, or their number is neither 1 nor B.
    """
    if not hasattr(model, "given"):
        raise TypeError(f"guidance needs a teacher with given(**condition), and {type(model).__name__} has none")
    own = getattr(model, "condition", None) or {}
    first, second = {**own, **first}, {**own, **second}
    both = {name: concatenate(name, first[name], second[name], x) for name in first}
    doubled = (torch.cat([t, t]) for t in (expand_frames(t, x) for t in times))
    one, other = evaluate(model.given(**both), torch.cat([x, x]), *doubled).chunk(2)
    return one, other


def concatenate(name: str, first: Any, second: Any, x: Tensor) -> Any:
    """Concatenate the rows of a condition's two values; a value without rows must be the same in both."""
    if not all(isinstance(value, Tensor | int | float) and not isinstance(value, bool) for value in (first, second)):
        if first is second or type(first) is type(second) and not isinstance(first, Tensor) and first == second:
            return first
        raise TypeError(
            f"the condition {name!r} must be a tensor or a number in both cases, got {first!r} and {second!r}"
        )
    one, other = as_rows(first, x, name), as_rows(second, x, name)
    check_row_shapes(name, one, other)
    return torch.cat([one, other.to(one)])


def as_rows(value: Any, x: Tensor, name: str) -> Tensor:
    """Expand a condition of B rows, one row or a number to one row for each row of x.

    Args:
        value: The condition.
        x: State, (B, ...).
        name: Name of the condition, for the error message.

    Returns:
        The condition, (B, ...).

    Raises:
        ValueError: The number of rows is neither 1 nor B.
    """
    value, n = torch.as_tensor(value, device=x.device), x.shape[0]
    if value.ndim == 0:
        return value.expand(n)
    if len(value) not in (1, n):
        raise ValueError(f"the condition {name!r} needs one row, or one for each of the {n}, got {tuple(value.shape)}")
    return value.expand(n, *value.shape[1:])


def check_row_shapes(name: str, first: Tensor, second: Tensor) -> None:
    """Raise ValueError if the rows of a condition's two values differ in shape."""
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"the two values of the condition {name!r} have rows of {tuple(first.shape[1:])} and "
            f"{tuple(second.shape[1:])}: pad them to one size"
        )


def bind(model: Any, condition: Condition) -> Any:
    """Bind a condition to a model with `given`; return any other model as it is."""
    return model.given(**condition) if condition and hasattr(model, "given") else model


def extrapolate(v: Tensor, other: Tensor, scale: Tensor) -> Tensor:
    """Extrapolate from `other` through v: other + scale (v - other), which is exactly v at scale 1."""
    return v + ((scale - 1) * (v - other)).to(v.dtype)


def velocity_of(model: Any, x: Tensor, t: Any) -> Tensor:
    """Evaluate the velocity v(x, t) of a model."""
    return model.velocity(x, t)


def average_velocity_of(model: Any, x: Tensor, s: Any, t: Any) -> Tensor:
    """Evaluate the average velocity V(x, s, t) of a model, or v(x, s) if it has no jumps."""
    jumps = getattr(model, "average_velocity", None)
    return model.velocity(x, s) if jumps is None else jumps(x, s, t)
