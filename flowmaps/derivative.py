"""Directional derivatives of a function of a state and of times, in exchangeable modes.

A derivative is called as `value, d = derivative(f, inputs, tangents)`. It returns value = f(*inputs) and d = sum_i
(df/dinputs_i) tangents_i together, because the two share work. `inputs` is (x, *times), the state (B, ...) first. A
tangent is a tensor of its input's shape or a number: 1 for the derivative in this time, 0 for a fixed input, which
costs nothing. f returns a tensor or a tuple of tensors.

| mode                    | extra forward passes  | gradient through d | activations kept        |
|-------------------------|-----------------------|--------------------|-------------------------|
| `jvp`                   | 1                     | yes                | of value and tangent    |
| `detached`              | 1                     | no                 | of the value            |
| `separate`              | 2                     | no                 | of the value            |
| `finite_difference()`   | 2, or 1 if one-sided  | yes                | of every evaluation     |
| `functorch`             | torch's forward mode  | yes                | of value and tangent    |
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .forward_mode import (
    LOST,
    Detached,
    Dual,
    InPlace,
    RefuseDetached,
    RefuseWrong,
    check,
    dual_number,
    moves,
    primal,
    random_state,
    set_random_state,
    warn_of,
)
from .path.time_shapes import is_per_frame

Function = Callable[..., Any]
Derivative = Callable[[Function, Sequence[Tensor], Sequence[Any]], tuple[Any, Any]]


INSTEAD = (
    "take derivative=fm.derivative.finite_difference(), or write this part with operations that make new tensors "
    "(torch.cat, F.pad, F.scaled_dot_product_attention)"
)
"""Advice for a network that forward mode cannot follow."""


def keep(x: Any) -> Any:
    """Keep the gradient of this part of a formula: the identity, the counterpart of `stop`."""
    return x


def stop(x: Any) -> Any:
    """Stop-gradient sg[x] of a tensor or of a function.

    Args:
        x: A tensor, or a function that returns tensors.

    Returns:
        The tensor detached from its graph, or the same function run without a graph.

    Raises:
        TypeError: x is neither a tensor nor a function.
    """
    if isinstance(x, (Tensor, Dual)):
        return x.detach()
    if not callable(x):
        raise TypeError(f"expected a tensor or a function to stop the gradient of, got {type(x).__name__}")

    def stopped(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            return x(*args, **kwargs)

    return stopped


def jvp(f: Function, inputs: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Value and derivative from one forward pass of dual numbers; gradients flow through both.

    Args:
        f: Function of the inputs that returns a tensor or a tuple of tensors.
        inputs: The state (B, ...) and the times.
        tangents: One tangent for each input: a tensor of its shape, or a number. 0 is a fixed input.

    Returns:
        The value f(*inputs) and the derivative d, of the same shapes.

    Raises:
        TypeError: An input is no floating-point tensor, or is a dual number already.
        ValueError: The tangents do not fit the inputs.
    """
    return _forward_mode(Dual, f, inputs, tangents)


def detached(f: Function, inputs: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Value and stopped derivative from one pass: as `jvp`, with the tangent computed without a graph.

    No activation is stored for the tangent.

    Args:
        f: Function of the inputs that returns a tensor or a tuple of tensors.
        inputs: The state (B, ...) and the times.
        tangents: One tangent for each input, as in `jvp`.

    Returns:
        The value f(*inputs), with its gradient, and the derivative d, without.

    Raises:
        TypeError: An input is no floating-point tensor, or is a dual number already.
        ValueError: The tangents do not fit the inputs.
    """
    return _forward_mode(Detached, f, inputs, tangents)


def separate(f: Function, inputs: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Value from a plain pass, stopped derivative from a second pass.

    Random operations, such as dropout, draw the same numbers in both.

    Args:
        f: Function of the inputs that returns a tensor or a tuple of tensors.
        inputs: The state (B, ...) and the times.
        tangents: One tangent for each input, as in `jvp`.

    Returns:
        The value f(*inputs), with its gradient, and the derivative d, without.
    """
    with rewound(inputs[0].device):
        value = f(*inputs)
    with torch.no_grad():
        _, d = jvp(f, inputs, tangents)
    return value, d


def functorch(f: Function, inputs: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Value and derivative by `torch.func.jvp`: a second engine, to compare the others with.

    Args:
        f: Function of the inputs that returns a tensor or a tuple of tensors.
        inputs: The state (B, ...) and the times.
        tangents: One tangent for each input, as in `jvp`.

    Returns:
        The value f(*inputs) and the derivative d; gradients flow through both.

    In torch 2.13 the gradient through its d is wrong where f holds a layer norm (finite differences side with `jvp`).
    """
    directions = _directions(inputs, tangents)
    moving = [i for i, direction in enumerate(directions) if direction is not None]

    def along(*values: Tensor) -> Any:
        moved = dict(zip(moving, values, strict=True))
        return f(*(moved.get(i, x) for i, x in enumerate(inputs)))

    if not moving:
        return _forward_mode(Dual, f, inputs, tangents)
    with sdpa_kernel(SDPBackend.MATH):  # torch's fused attention has no forward mode
        return torch.func.jvp(along, tuple(inputs[i] for i in moving), tuple(directions[i] for i in moving))  # type: ignore[return-value]


def along_many(f: Function, x: Tensor, directions: Tensor, chunk: int = 16) -> tuple[Tensor, Tensor]:
    """Value of a function of a state, and its derivatives along several directions.

    Directions that are computed together share the value: K of them cost 1 + K forward passes, and not 2 K.

    Args:
        f: Function of the state, (B, ...) -> (B, ...).
        x: The state, (B, ...).
        directions: The directions, (K, B, ...) or (K, 1, ...).
        chunk: Number of directions at a time, by `torch.func`. 1 takes `jvp`, which follows more networks. A function
            that `torch.func` cannot follow takes it too, with a warning.

    Returns:
        The value, of x's shape, and the derivatives, (K, B, ...). No gradient flows through the derivatives.

    Raises:
        TypeError: The derivative is lost on the way, because the function detaches its state.
    """
    wide = directions.expand(len(directions), *x.shape)
    compiling = torch.compiler.is_compiling()  # training looks at an uncompiled loss first

    def kept(x: Tensor) -> Tensor:
        y = f(x)
        if not compiling and not moves(y):
            raise TypeError(LOST)
        return y

    with contextlib.nullcontext() if compiling else RefuseDetached():
        if chunk == 1 or len(wide) == 1:
            return _one_by_one(kept, x, wide)
        try:
            return _together(kept, x, wide, chunk)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            found = _one_by_one(kept, x, wide)  # which raises the error again if it has another reason
            warn_of_one_by_one(str(error).split("\n")[0].split(". ")[0])
            return found


def _one_by_one(f: Function, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Value and derivatives by `jvp`; random operations draw the same numbers for each direction."""
    found: list[tuple[Tensor, Tensor]] = []
    for direction in directions:
        with rewound(x.device) if len(found) + 1 < len(directions) else contextlib.nullcontext():
            found.append(jvp(f, (x,), (direction,)))
    return found[0][0], torch.stack([slope for _, slope in found])


def _together(f: Function, x: Tensor, directions: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Value and derivatives by `torch.func`, so many directions at a time."""

    def along(direction: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.jvp(f, (x,), (direction,))  # type: ignore[return-value]

    together = torch.func.vmap(along, out_dims=(None, 0))  # type: ignore[arg-type]
    with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # attention runs unfused, as in `functorch`
        found = [together(part) for part in directions.split(chunk)]
    return found[0][0], torch.cat([slopes for _, slopes in found])


@functools.cache
def warn_of_one_by_one(reason: str) -> None:
    """Warn once that derivatives are not computed together."""
    warnings.warn(
        f"torch.func cannot compute several derivatives of this function together ({reason}): they are computed one by "
        "one, in up to twice the passes. chunk=1 does so from the start",
        stacklevel=2,
    )


def finite_difference(h: float = 1e-2, central: bool = True, around: Callable = keep) -> Derivative:
    """Derivative from neighbouring values.

    Args:
        h: Step in units of the tangents, a difference of times in (0, 0.25]. In float32 the central form has a relative
            error near 3e-5 at 1e-2 and loses digits below; the one-sided form is best near 1e-3.
        central: Two neighbours, (f(z + h dz) - f(z - h dz)) / 2h; False: one, (f(z + h dz) - f(z)) / h.
        around: `keep` lets gradients flow through the neighbouring values, `stop` takes them without a graph.

    Returns:
        A derivative, called as `jvp`. It raises TypeError for half-precision inputs.

    Raises:
        ValueError: h is outside (0, 0.25].

    The evaluations run without autocast. A row with a time that would leave [0, 1] takes its neighbours on the inner
    side, two of them if central, which keeps the order. Random operations draw the same numbers in every evaluation,
    except in a compiled graph (`rewound`).
    """
    if not 0 < h <= 0.25:
        raise ValueError(f"expected a step h in (0, 0.25], a difference of times, got {h}")

    def difference(f: Function, inputs: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Any, Any]:
        directions = _directions(inputs, tangents)
        return _difference(f, inputs, directions, _offsets(inputs, directions, h, central), around)

    return difference


def difference_to(neighbour: Callable[[Tensor], Tensor], around: Callable = keep) -> Derivative:
    """Derivative in one time from the value at a neighbouring time, such as the next point of a grid.

    Args:
        neighbour: Function from times (B, 1, ..., 1) to neighbouring times in [0, 1].
        around: `keep` lets gradients flow through the neighbouring value, `stop` takes it without a graph.

    Returns:
        A derivative, called as `jvp`, for tangents that are 1 in one time and 0 otherwise. It raises ValueError for
        others, and TypeError for half-precision inputs.
    """

    def difference(f: Function, inputs: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Any, Any]:
        moving = [i for i, rate in enumerate(tangents) if not (isinstance(rate, (int, float)) and rate == 0)]
        if len(moving) != 1 or moving[0] == 0 or not isinstance(tangents[moving[0]], (int, float)):
            raise ValueError("a difference to a neighbouring time is a derivative in one time alone, as in pid")
        time = inputs[moving[0]]
        if is_per_frame(time):
            raise ValueError("a difference to a neighbouring time takes one time a row, and these are times per frame")
        offset = ((neighbour(time) - time) / tangents[moving[0]]).reshape(-1)
        return _difference(f, inputs, _directions(inputs, tangents), (offset,), around)

    return difference


def _difference(
    f: Function,
    inputs: Sequence[Tensor],
    directions: Sequence[Tensor | None],
    offsets: Sequence[Tensor],
    around: Callable,
) -> tuple[Any, Any]:
    """Value and slope from the values at offsets (B,) along the directions."""
    if any(x.dtype.itemsize < 4 for x in inputs):
        raise TypeError(f"expected float32 or float64 inputs, got {[x.dtype for x in inputs]}: too few digits")
    with torch.autocast(inputs[0].device.type, enabled=False):
        neighbours = []
        for offset in offsets:
            with rewound(inputs[0].device):
                neighbours.append(around(f)(*(_moved(x, dx, offset) for x, dx in zip(inputs, directions, strict=True))))
        value = f(*inputs)
        return value, _each(lambda y, *ys: _slope_at_zero(y, ys, offsets), value, *neighbours)


def time_part(derivative: Derivative = jvp, rest: Derivative = detached) -> Derivative:
    """Derivative with its gradient kept along the times and stopped along the state.

    Args:
        derivative: Mode for the value and the part along the times.
        rest: Mode for the part along the state.

    Returns:
        A derivative, called as `jvp`, with d = (df/ds ds + df/dt dt) + sg[grad_x f . dx]. Random operations draw the
        same numbers in both passes.

    For Eulerian self-distillation (Boffi et al. 2025, arXiv 2505.18825).
    """

    def split(f: Function, inputs: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Any, Any]:
        with rewound(inputs[0].device):
            value, along_times = derivative(f, inputs, (0, *tangents[1:]))
        _, along_state = stop(rest)(f, inputs, (tangents[0], *[0] * (len(tangents) - 1)))
        return value, _each(torch.add, along_times, along_state)

    return split


def _forward_mode(kind: type[Dual], f: Function, inputs: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Any, Any]:
    if torch.compiler.is_compiling():
        return _by_dual_numbers(kind, f, inputs, tangents)
    before = random_state(inputs[0].device)
    try:
        return _by_dual_numbers(kind, f, inputs, tangents)
    except InPlace as error:
        set_random_state(inputs[0].device, before)
        return _by_functorch(kind, f, inputs, tangents, error)
    except Exception as error:
        if type(error).__module__ == "torch._dynamo.exc":  # flex_attention, and functions that torch.compile made
            raise TypeError(
                "expected operations that dual numbers can follow, got one that torch compiles, such as "
                f"flex_attention: {INSTEAD}"
            ) from error
        raise


def _by_dual_numbers(
    kind: type[Dual], f: Function, inputs: Sequence[Tensor], tangents: Sequence[Any]
) -> tuple[Any, Any]:
    directions = _directions(inputs, tangents)
    result = f(*(x if dx is None else dual_number(kind, x, dx) for x, dx in zip(inputs, directions, strict=True)))
    _each(check, result)
    return _each(primal, result), _each(_tangent, result)


def _by_functorch(
    kind: type[Dual], f: Function, inputs: Sequence[Tensor], tangents: Sequence[Any], error: InPlace
) -> tuple[Any, Any]:
    """Differentiate a function that writes in place, with a warning the first time."""
    stopped = kind is Detached or not torch.is_grad_enabled()
    try:
        with contextlib.nullcontext() if stopped else RefuseWrong(error):
            value, d = functorch(f, inputs, tangents)
    except (RuntimeError, NotImplementedError) as second:
        if not any(word in str(second) for word in ("transform", "functorch", "forward AD")):
            raise
        raise TypeError(f"{error}, and torch's own forward mode cannot follow this network: {INSTEAD}") from second
    warn_of(str(error))
    return value, _each(torch.detach, d) if stopped else d


def _tangent(result: Any) -> Tensor:
    return result.tangent if isinstance(result, Dual) else torch.zeros_like(result)


def _each(function: Callable[..., Any], result: Any, *others: Any) -> Any:
    """Call function(result, *others), or call it for each member if the results are tuples."""
    if isinstance(result, (tuple, list)):
        return tuple(function(*members) for members in zip(result, *others, strict=True))
    return function(result, *others)


def _offsets(
    inputs: Sequence[Tensor], directions: Sequence[Tensor | None], h: float, central: bool
) -> tuple[Tensor, ...]:
    """Offsets of the neighbours in units of the tangents, each (B,)."""
    # central: (h, -h), or (h, 2h) or (-h, -2h) near an end of [0, 1]; one-sided: h or -h
    rows = inputs[0].shape[0]

    def inside(steps: int) -> Tensor:
        ok = torch.ones(rows, dtype=torch.bool, device=inputs[0].device)
        for time, rate in zip(inputs[1:], directions[1:], strict=True):
            if rate is not None:
                moved = (time + steps * h * rate).reshape(rows, -1)
                ok = ok & ((moved >= 0) & (moved <= 1)).all(1)
        return ok[:, None]

    def steps(*of_h: float) -> Tensor:
        return h * torch.tensor(of_h, dtype=inputs[0].dtype, device=inputs[0].device)

    if not central:
        return torch.where(inside(1), steps(1), steps(-1)).unbind(1)
    inwards = torch.where(inside(2), steps(1, 2), steps(-1, -2))
    return torch.where(inside(1) & inside(-1), steps(1, -1), inwards).unbind(1)


def _moved(x: Tensor, dx: Tensor | None, offset: Tensor) -> Tensor:
    return x if dx is None else x + _beside(offset, x) * dx


def _slope_at_zero(y: Tensor, ys: Sequence[Tensor], offsets: Sequence[Tensor]) -> Tensor:
    """Derivative at 0 of the polynomial through (0, y) and the (offset, y_i)."""
    # sum_i w_i (y_i - y),  w_i = prod_{j != i} o_j / (o_j - o_i) / o_i
    total = torch.zeros_like(y)
    for i, (a, y_a) in enumerate(zip(offsets, ys, strict=True)):
        weight = 1 / a
        for b in (*offsets[:i], *offsets[i + 1 :]):
            weight = weight * b / (b - a)
        total = total + _beside(weight, y) * (y_a - y)
    return total


def _beside(per_row: Tensor, x: Tensor) -> Tensor:
    return per_row.reshape(-1, *[1] * (x.ndim - 1))


def _directions(inputs: Sequence[Tensor], tangents: Sequence[Any]) -> list[Tensor | None]:
    """One tangent for each input, None for the number 0. Raises ValueError or TypeError if they do not fit."""
    if len(inputs) != len(tangents):
        raise ValueError(f"expected one tangent for each of the {len(inputs)} inputs, got {len(tangents)}")
    return [_direction(i, x, dx) for i, (x, dx) in enumerate(zip(inputs, tangents, strict=True))]


def _direction(i: int, x: Tensor, dx: Any) -> Tensor | None:
    if isinstance(x, Dual) or isinstance(dx, Dual):
        raise TypeError(
            "a derivative of a derivative is not supported by dual numbers: use derivative.functorch for both"
        )
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(
            f"expected input {i} to be a floating-point tensor, got {getattr(x, 'dtype', type(x).__name__)}"
        )
    if isinstance(dx, (int, float)):
        return None if dx == 0 else torch.full_like(x, dx)
    if dx.shape != x.shape:
        raise ValueError(f"expected a tangent of shape {tuple(x.shape)} for input {i}, got {tuple(dx.shape)}")
    return dx.to(x.dtype)


def _rewind(device: torch.device) -> AbstractContextManager[Any]:
    """Context that restores the random generators at its end, so that the next pass draws the same numbers."""
    if device.type == "cpu":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device], device_type=device.type)


def rewound(device: torch.device) -> AbstractContextManager[Any]:
    """Context that restores the random generators at its end, so that the next pass draws the same dropout masks.

    Args:
        device: Device of the generator to restore, beside the processor's.

    Returns:
        The context. It does nothing in a compiled graph, which draws its own numbers; training compiles no network with
        dropout.
    """
    return contextlib.nullcontext() if torch.compiler.is_compiling() else _rewind(device)
