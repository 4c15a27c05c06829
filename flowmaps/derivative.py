"""Directional derivatives of a function of the state and of times, in exchangeable modes.

A derivative is called as `value, d = derivative(f, inputs, tangents)`: the value f(*inputs) and d = sum_i (df / dinputs_i) tangents_i, in one
go because the two share work. `inputs` is (x, *times), the state first. A tangent is a tensor of its input's shape or a number: 1 for
"per unit of this time", 0 for an input that stands still, which is then passed plain and costs nothing. f may return a tensor or a tuple of tensors.

| mode | extra cost in forward passes | gradient through value | gradient through d | stores |
|---|---|---|---|---|
| `jvp` | 1 | yes | yes | value and tangent |
| `detached` | 1 | yes | no | value |
| `separate` | 2 | yes | no | value |
| `finite_difference()` | 2 (1 if not central) | yes | yes | every evaluation |
| `functorch` | torch's own forward mode, to compare with | yes | yes | value and tangent |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from flowmaps import dual
from flowmaps.dual import Detached, Dual

Function = Callable[..., Any]
Derivative = Callable[[Function, Sequence[Tensor], Sequence[Any]], tuple[Any, Any]]


def jvp(f: Function, inputs: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Value and derivative from one forward pass of dual numbers; gradients flow through both."""
    return _forward_mode(Dual, f, inputs, tangents)


def detached(f: Function, inputs: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """As `jvp`, with the tangent computed without a graph: d is stopped, and no activation is stored for it."""
    return _forward_mode(Detached, f, inputs, tangents)


def separate(f: Function, inputs: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The value from a plain pass, a stopped d from a pass of dual numbers of its own; random operations draw the same numbers in both."""
    with _rewind(inputs):
        value = f(*inputs)
    with torch.no_grad():
        _, d = jvp(f, inputs, tangents)
    return value, d


def functorch(f: Function, inputs: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Value and derivative by `torch.func.jvp`: a second engine that the others are compared with."""
    directions = _directions(inputs, tangents)
    moving = [i for i, direction in enumerate(directions) if direction is not None]

    def along(*values: Tensor) -> Any:
        moved = dict(zip(moving, values, strict=True))
        return f(*(moved.get(i, x) for i, x in enumerate(inputs)))

    if not moving:
        return _forward_mode(Dual, f, inputs, tangents)
    with sdpa_kernel(SDPBackend.MATH):  # torch's fused attention has no forward mode
        value, d = torch.func.jvp(along, tuple(inputs[i] for i in moving), tuple(directions[i] for i in moving))
    return value, d


def keep(x: Any) -> Any:
    """Leave the gradient of this part of a formula alone."""
    return x


def stop(x: Any) -> Any:
    """sg[x]: a tensor without its graph; a function becomes the same function run without a graph."""
    if isinstance(x, (Tensor, Dual)):
        return x.detach()
    if not callable(x):
        raise TypeError(f"expected a tensor or a function to stop the gradient of, got {type(x).__name__}")

    def stopped(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            return x(*args, **kwargs)

    return stopped


def time_part(derivative: Derivative = jvp, rest: Derivative = detached) -> Derivative:
    """d = (df/ds ds + df/dt dt) + sg[grad_x f . dx]: the gradient is kept along the times and stopped along the state.

    The value is the first derivative's. Eulerian self-distillation: Boffi et al. 2025, arXiv 2505.18825.
    """

    def split(f: Function, inputs: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Any, Any]:
        value, along_times = derivative(f, inputs, (0, *tangents[1:]))
        _, along_state = stop(rest)(f, inputs, (tangents[0], *[0] * (len(tangents) - 1)))
        return value, along_times + along_state

    return split


def _forward_mode(kind: type[Dual], f: Function, inputs: Sequence[Tensor], tangents: Sequence[Any]) -> tuple[Any, Any]:
    directions = _directions(inputs, tangents)
    result = f(*(x if dx is None else kind(x, dx) for x, dx in zip(inputs, directions, strict=True)))
    if isinstance(result, (tuple, list)):
        return type(result)(map(dual.primal, result)), type(result)(map(_tangent, result))
    return dual.primal(result), _tangent(result)


def _tangent(result: Any) -> Tensor:
    return result.tangent if isinstance(result, Dual) else torch.zeros_like(result)


def _directions(inputs: Sequence[Tensor], tangents: Sequence[Any]) -> list[Tensor | None]:
    """One tangent for each input, None where it is the number 0. Raises ValueError or TypeError where they do not fit."""
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


def _rewind(inputs: Sequence[Tensor]) -> Any:
    """A context that leaves the random generators as it found them, so that what follows draws the same numbers again."""
    device = inputs[0].device
    devices = [] if device.type == "cpu" else [device]
    return torch.random.fork_rng(devices, device_type="cuda" if device.type == "cpu" else device.type)
