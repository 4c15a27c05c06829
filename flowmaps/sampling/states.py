"""States of samplers: the noise that they start from, conditions, devices, and the units of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, check_seed, expect_floating, numbered, shown
from ..flow_map import FlowMap, like_weights
from ..path import linear
from ..units import units_of

Condition = Tensor | Mapping[str, Any] | None


def by_name(condition: Condition) -> dict[str, Any]:
    """The conditions by name: a tensor means {"label": tensor}, None means no condition.

    Args:
        condition: A tensor, conditions by name, or None.

    Returns:
        The conditions.

    Raises:
        TypeError: It is something else.
    """
    if condition is None or isinstance(condition, Tensor):
        return {} if condition is None else {"label": condition}
    if not isinstance(condition, Mapping) or not all(isinstance(name, str) for name in condition):
        raise TypeError(
            "a condition is a tensor of labels, or conditions by name such as {'label': labels}, got "
            f"{shown(condition)}"
        )
    return dict(condition)


def noise(flow: Any, n: int, *, shape: int | Sequence[int] | None = None, seed: int | None = None) -> Tensor:
    """Draw noise to sample from: sigma(1) times standard normal numbers, or points of a manifold's prior.

    Args:
        flow: The flow map.
        n: Number of rows.
        shape: Shape of one row. None: the shape that the map was trained on, or the one of its network.
        seed: Seed; the numbers do not depend on the device then, and the global generator is left alone. None: the
            numbers are drawn from the global generator of the CPU.

    Returns:
        The noise, (n, *shape), for `fm.sample(flow, noise)`, on the device and in the dtype of the weights.

    Raises:
        TypeError: The flow map is something else.
        ValueError: There is less than one row, or the shape is not known.
    """
    at_least(1, n=n)
    known = (getattr(part, "shape", None) for part in (getattr(flow, "trained", None), getattr(flow, "network", flow)))
    chosen = next((one for one in (shape, *known) if isinstance(one, int | Sequence)), None)
    if chosen is None:
        raise ValueError("the shape of a row is not known from this flow map: pass shape=, such as shape=(3, 32, 32)")
    rows = (chosen,) if isinstance(chosen, int) else tuple(chosen)
    at_least(1, **numbered(shape=rows))
    if seed is not None:
        check_seed(seed)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    x = torch.randn(n, *rows, generator=generator)
    like = getattr(flow, "like", x)
    return getattr(flow, "path", linear).noise(x).to(like)


def placed(like: Tensor | None, value: Any) -> Any:
    """Move a state or a condition to the device of a model's weights, and floating-point numbers to their dtype.

    Numbers are not rounded to half precision: a network with such weights may compute its states in float32.

    Args:
        like: An empty tensor like the weights, `flow_map.like_weights(flow)`. None: nothing is moved.
        value: The tensor; anything else is returned as it is.

    Returns:
        The tensor; the same one if it is in place.

    Raises:
        ValueError: It has no values, and the weights have some.
    """
    if like is None or not isinstance(value, Tensor):
        return value
    if value.is_meta and not like.is_meta:
        raise ValueError(f"a tensor on the meta device has no values, and the weights are on {like.device}")
    cast = value.is_floating_point() and torch.promote_types(like.dtype, torch.float32) == like.dtype
    return value.to(like.device, like.dtype if cast else None)


def rows_of(value: Any, rows: slice) -> Any:
    """Select some rows of a condition; a value without rows, or with one row for all, is returned unchanged."""
    return value[rows] if isinstance(value, Tensor) and value.ndim and len(value) != 1 else value


def standardised(flow: Any, x: Tensor, t: float) -> Tensor:
    """The standardised state of a state at time t in the units of the flow, as samplers take it."""
    units = units_of(flow)
    return x if units is None or t == 1 else units.standardised(x)


def restored(flow: Any, z: Tensor, t: float) -> Tensor:
    """The state at time t in the units of the flow, as samplers return it, of a standardised one."""
    units = units_of(flow)
    return z if units is None or t == 1 else units.restored(z)


def check_noise(x: Any) -> None:
    """Check the noise that sampling starts from, which is no number of samples and no shape."""
    if isinstance(x, int | torch.Size) or (isinstance(x, list | tuple) and all(isinstance(one, int) for one in x)):
        raise TypeError(
            f"noise must be a tensor (B, ...) of random numbers, got {shown(x)}: fm.noise(flow, n) draws n rows of it"
        )
    check_state("noise", x)


def check_state(name: str, x: Any) -> None:
    """Check the state that sampling starts from; no value is read.

    Args:
        name: Its name in the message.
        x: The state, (B, ...).

    Raises:
        TypeError: It is no tensor.
        ValueError: It is not floating-point: whole numbers would stay whole numbers at every step.
    """
    expect_floating(name, x)


def bound_to(flow: Any, condition: Mapping[str, Any], rows: int) -> Any:
    """Bind a condition to a flow, after a check of its rows."""
    if not condition:
        return flow
    check_rows(condition, rows)
    if not hasattr(flow, "given"):
        raise TypeError(f"{type(flow).__name__} takes no condition: it has no method given(**condition)")
    return flow.given(**condition)


def prepared(flow: Any) -> Any:
    """The flow with its condition computed once, if it is a flow map whose network does so."""
    return flow.prepared() if isinstance(flow, FlowMap) else flow


def conditions_of(flow: Any, condition: Condition, rows: int) -> dict[str, Any]:
    """The conditions of a call by name, also those that are bound to the flow, on the device of its weights.

    Args:
        flow: The flow.
        condition: Conditions of the call.
        rows: Number of rows of the state.

    Returns:
        The conditions, for `bound_to_rows`.

    Raises:
        ValueError: A condition has another number of rows than the state.
    """
    like = like_weights(flow)
    given = {name: placed(like, one) for name, one in by_name(condition).items()}
    known = {**(getattr(flow, "condition", None) or {}), **given}
    check_rows(known, rows)
    return known


def bound_to_rows(flow: Any, conditions: Mapping[str, Any], x: Tensor, rows: slice) -> Any:
    """The flow for some rows of states x, with their conditions bound."""
    here = {name: rows_of(value, rows) for name, value in conditions.items()}
    return bound_to(flow, here, len(x[rows]))


def check_rows(condition: Mapping[str, Any], rows: int) -> None:
    """Check that conditions have one row, or one for each row of the state."""
    for name, value in condition.items():
        if isinstance(value, Tensor) and value.ndim and len(value) not in (1, rows):
            raise ValueError(f"the condition {name!r} needs a row for each of {rows}, got {tuple(value.shape)}")
