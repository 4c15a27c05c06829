"""Rules for the layers of networks: affine maps, activations, dropout and softmax.

An operation with a symmetric Jacobian has equal forward and reverse derivatives. For such operations torch's fused
backward kernel, which can be differentiated again, computes the tangent.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..dual import Dual, TangentRule, primal, tangent
from ..fused import Kernel, SlopeTangent, by_hand
from .common import Result, composed, product_rule, rule, total
from .elementwise import SELU_ALPHA, SELU_SCALE


def _add_product(product: Callable[..., Tensor]) -> TangentRule:
    """Make the rule of beta x + alpha (a b)."""

    def rule(func: Any, x: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Result:
        def dy() -> Any:
            dp = product_rule(product, (a, b), {})
            return total(None if tangent(x) is None else beta * x.tangent, None if dp is None else alpha * dp)

        return func(primal(x), primal(a), primal(b), beta=beta, alpha=alpha), dy

    return rule


rule("addmm")(_add_product(torch.mm))
rule("addmv")(_add_product(torch.mv))
rule("addr")(_add_product(torch.outer))
rule("baddbmm")(_add_product(torch.bmm))
rule("addbmm")(_add_product(lambda a, b: torch.bmm(a, b).sum(0)))


@rule("linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d")
def _affine(func: Any, x: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Result:
    db = tangent(bias.reshape(-1, *[1] * (weight.ndim - 2))) if isinstance(bias, Dual) else None
    value = func(primal(x), primal(weight), primal(bias), *args, **kwargs)
    return value, lambda: total(product_rule(func, (x, weight, None, *args), kwargs), db)


@rule("bilinear")
def _bilinear(func: Any, a: Any, input2: Any, weight: Any, bias: Any = None) -> Result:
    value = func(primal(a), primal(input2), primal(weight), primal(bias))
    return value, lambda: total(product_rule(func, (a, input2, weight), {}), tangent(bias))


@rule("embedding")
def _embedding(func: Any, index: Tensor, weight: Dual, *args: Any, **kwargs: Any) -> Result:
    if kwargs.get("max_norm", args[1] if len(args) > 1 else None) is not None:
        raise TypeError("expected an embedding without max_norm, which changes its weight in place")
    return func(index, weight.primal, *args, **kwargs), lambda: func(index, weight.tangent, *args, **kwargs)


@rule("gelu")
def _gelu(func: Any, x: Dual, approximate: str = "none") -> Result:
    kernel = functools.partial(torch.ops.aten.gelu_backward, approximate=approximate)
    curvature = _gelu_curvature if approximate == "none" else _tanh_gelu_curvature
    return func(x.primal, approximate=approximate), lambda: _sloped(x, kernel, curvature)


@rule("silu")
def _silu(func: Any, x: Dual, inplace: bool = False) -> Result:
    return func(x.primal), lambda: _sloped(x, _silu_kernel, _silu_curvature)


def _sloped(x: Dual, kernel: Kernel, curvature: Callable[[Tensor], Tensor]) -> Any:
    if by_hand(x.tangent, x.primal):
        return SlopeTangent.apply(x.tangent, x.primal, kernel, curvature)
    return kernel(x.tangent, x.primal)


def _gelu_curvature(x: Tensor) -> Tensor:
    """(2 - x^2) exp(-x^2 / 2) / sqrt(2 pi)."""
    square = x * x
    return torch.exp(-0.5 * square) * ((2 - square) / math.sqrt(2 * math.pi))


def _tanh_gelu_curvature(x: Tensor) -> Tensor:
    """Second derivative of x (1 + tanh u) / 2, u = c (x + a x^3):  (1 - tanh^2 u) (c (1 + 6 a x^2) - x u'^2 tanh u)."""
    c, a = math.sqrt(2 / math.pi), 0.044715
    square = x * x
    tanh = torch.tanh(c * x * (1 + a * square))
    return (1 - tanh * tanh) * (c * (1 + 6 * a * square) - x * tanh * (c * (1 + 3 * a * square)).square())


def _silu_kernel(dx: Tensor, x: Tensor) -> Tensor:
    if not torch.is_grad_enabled():  # the fused kernel has no derivative of its own
        return torch.ops.aten.silu_backward(dx, x)
    gate = torch.sigmoid(x)
    return dx * gate * (1 + x * (1 - gate))


def _silu_curvature(x: Tensor) -> Tensor:
    gate = torch.sigmoid(x)
    return gate * (1 - gate) * (2 + x * (1 - 2 * gate))


@rule("pad")
def _pad(func: Any, x: Dual, pad: Any, mode: str = "constant", value: float | None = None) -> Result:
    return func(x.primal, pad, mode, value), lambda: func(x.tangent, pad, mode, None)


@rule("dropout dropout1d dropout2d dropout3d")
def _dropout(func: Any, x: Dual, p: float = 0.5, training: bool = True, inplace: bool = False) -> Result:
    if not training or p == 0:
        return x.primal, lambda: x.tangent
    mask = func(torch.ones_like(x.primal), p, training)
    return x.primal * mask, lambda: x.tangent * mask


@rule("alpha_dropout feature_alpha_dropout")
def _alpha_dropout(func: Any, x: Dual, p: float = 0.5, training: bool = False, inplace: bool = False) -> Result:
    """Kept units are y = a x + b; they are found by y(0) = b, which is positive for them alone."""
    if not training or p == 0:
        return x.primal, lambda: x.tangent
    of_zero = func(torch.zeros_like(x.primal), p, training)
    slope = (of_zero > 0).to(x.dtype) / math.sqrt((1 - p) * (1 + p * (SELU_SCALE * SELU_ALPHA) ** 2))
    return of_zero + x.primal * slope, lambda: x.tangent * slope


@rule("softmax special_softmax")
def _softmax(func: Any, x: Dual, dim: int, *args: Any, **kwargs: Any) -> Result:
    y = func(x.primal, dim, *args, **kwargs)
    return y, lambda: torch._softmax_backward_data(x.tangent.to(y.dtype), y, dim, y.dtype)


@rule("log_softmax special_log_softmax")
def _log_softmax(func: Any, x: Dual, dim: int, *args: Any, **kwargs: Any) -> Result:
    y = func(x.primal, dim, *args, **kwargs)
    return y, lambda: x.tangent - (y.exp() * x.tangent).sum(dim, keepdim=True)


@composed("softmin")
def _softmin(x: Any, dim: int, *args: Any, **kwargs: Any) -> Any:
    return F.softmax(-x, dim, *args, **kwargs)
