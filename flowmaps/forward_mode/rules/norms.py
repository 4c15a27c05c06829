"""Rules for normalisations: layer, group, instance, batch and root mean square.

The Jacobian of n = (x - <x>) / std is symmetric, so its forward and reverse derivatives are equal, and torch's fused
backward kernel computes tangents that need no gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..dual import Dual, primal, tangent
from ..fused import NormTangent, by_hand, root_mean_square_tangent
from .common import Result, rule, total


@rule("layer_norm")
def _layer_norm(
    func: Any,
    x: Any,
    normalized_shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *args: Any,
) -> Result:
    y = func(primal(x), normalized_shape, primal(weight), primal(bias), eps, *args)

    def dy() -> Tensor | None:
        dn = _standardised_tangent(x, normalized_shape, eps, y.dtype) if isinstance(x, Dual) else None
        return _rescaled_tangent(dn, lambda: func(primal(x), normalized_shape, None, None, eps), weight, bias)

    return y, dy


@rule("group_norm")
def _group_norm(
    func: Any, x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *args: Any
) -> Result:
    y = func(primal(x), num_groups, primal(weight), primal(bias), eps, *args)

    def dy() -> Tensor | None:
        dn = _standardised_groups(x, num_groups, eps, y.dtype) if isinstance(x, Dual) else None
        n = functools.partial(func, primal(x), num_groups, None, None, eps)
        return _rescaled_tangent(dn, n, *_of_channels(x, weight, bias))

    return y, dy


@rule("instance_norm")
def _instance_norm(
    func: Any,
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Result:
    scale, shift = primal(weight), primal(bias)
    y = F.instance_norm(primal(x), running_mean, running_var, scale, shift, use_input_stats, momentum, eps)

    def n() -> Tensor:
        mean, variance = (None, None) if use_input_stats else (running_mean, running_var)
        return F.instance_norm(primal(x), mean, variance, use_input_stats=use_input_stats, eps=eps)

    def dy() -> Tensor | None:
        dn = None
        if isinstance(x, Dual) and use_input_stats:
            dn = _standardised_groups(x, x.shape[1], eps, y.dtype)
        elif isinstance(x, Dual):
            dn = _channels(x, torch.rsqrt(running_var + eps)) * x.tangent
        return _rescaled_tangent(dn, n, *_of_channels(x, weight, bias))

    return y, dy


@rule("batch_norm")
def _batch_norm(
    func: Any,
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Result:
    """In training with the batch statistics, which are differentiated too."""
    y = F.batch_norm(primal(x), running_mean, running_var, primal(weight), primal(bias), training, momentum, eps)

    def n() -> Tensor:
        mean, variance = (None, None) if training else (running_mean, running_var)
        return F.batch_norm(primal(x), mean, variance, training=training, eps=eps)

    def dy() -> Tensor | None:
        dn = None
        if isinstance(x, Dual) and training:
            columns = x.transpose(0, 1).flatten(1)[None]
            dn = _standardised_tangent(columns, columns.shape[2:], eps, y.dtype)
            dn = dn.view(x.transpose(0, 1).shape).transpose(0, 1)
        elif isinstance(x, Dual):
            dn = _channels(x, torch.rsqrt(running_var + eps)) * x.tangent
        return _rescaled_tangent(dn, n, *_of_channels(x, weight, bias))

    return y, dy


@rule("rms_norm")
def _rms_norm(
    func: Any, x: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None
) -> Result:
    def dy() -> Tensor | None:
        dn = _root_mean_square_tangent(x, normalized_shape, eps) if isinstance(x, Dual) else None
        return _rescaled_tangent(dn, lambda: func(primal(x), normalized_shape, None, eps), weight, None)

    return func(primal(x), normalized_shape, primal(weight), eps), dy


def _channels(x: Any, of_channels: Any) -> Any:
    """Reshape a parameter (C,) to broadcast with x (B, C, ...)."""
    return of_channels.reshape(-1, *[1] * (x.ndim - 2))


def _of_channels(x: Any, *parameters: Any) -> tuple[Any, ...]:
    return tuple(None if p is None else _channels(x, p) for p in parameters)


def _standardised_groups(x: Dual, groups: int, eps: float, dtype: torch.dtype) -> Tensor:
    rows = x.reshape(x.shape[0], groups, -1)
    return _standardised_tangent(rows, rows.shape[2:], eps, dtype).reshape(x.shape)


def _standardised_tangent(x: Dual, shape: Sequence[int], eps: float, dtype: torch.dtype) -> Tensor:
    """Tangent of n = (x - <x>) r,  r = 1/std:  r (dx - <dx> - n <n dx>), in float32 at least."""
    wide = torch.promote_types(dtype, torch.float32)
    value, dx = x.primal.to(wide), x.tangent.to(wide)
    if by_hand(value, dx):
        dims = tuple(range(-len(shape), 0))
        value, dx = (z - z.mean(dims, keepdim=True) for z in (value, dx))
        return _scaled_tangent(value, dx, shape, eps)
    _, mean, r = torch.native_layer_norm(value, shape, None, None, eps)
    return torch.ops.aten.native_layer_norm_backward(dx, value, shape, mean, r, None, None, [True, False, False])[0]


def _root_mean_square_tangent(x: Dual, shape: Sequence[int], eps: float | None) -> Tensor:
    """Tangent of n = x r,  r = 1/sqrt(<x^2> + eps), in float32 at least."""
    wide = torch.promote_types(x.dtype, torch.float32)
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return _scaled_tangent(x.primal.to(wide), x.tangent.to(wide), shape, eps)


def _scaled_tangent(x: Tensor, dx: Tensor, shape: Sequence[int], eps: float) -> Tensor:
    d_rows, rows = (z.flatten(-len(shape)) for z in (dx, x))
    tangent_of_rows = NormTangent.apply if by_hand(d_rows, rows) else root_mean_square_tangent
    return tangent_of_rows(d_rows, rows, eps).view(x.shape)


def _rescaled_tangent(dn: Tensor | None, n: Callable[[], Tensor], weight: Any, bias: Any) -> Tensor | None:
    """Tangent of n w + b:  dn w + n dw + db."""
    if dn is not None and weight is not None:
        dn = dn * primal(weight)
    if isinstance(weight, Dual):
        dn = total(dn, n() * weight.tangent)
    return total(dn, tangent(bias))
