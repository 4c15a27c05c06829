"""Rules for elementwise functions: slopes, choices and clamps.

With one argument dy = slope(x, y) dx; with two dy = slope_a(a, b, y) da + slope_b(a, b, y) db. The slopes are ordinary
torch, so they can be differentiated again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..dual import Dual, TangentRule, primal, single_jvp, tangent
from .common import Result, composed, rule, total

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _sinc_slope(x: Tensor, y: Tensor) -> Tensor:
    zero = x == 0
    safe = torch.where(zero, 1, x)
    return torch.where(zero, -(math.pi**2) / 3 * x, (torch.cos(math.pi * safe) - torch.sinc(safe)) / safe)


def _mish_slope(x: Tensor, y: Tensor) -> Tensor:
    gate = torch.tanh(torch.nn.functional.softplus(x))
    return gate + x * torch.sigmoid(x) * (1 - gate * gate)


def _i1e_slope(x: Tensor, y: Tensor) -> Tensor:
    zero = x == 0
    safe = torch.where(zero, 1, x)
    return torch.where(zero, 0.5, torch.special.i0e(x) - y * (x.sign() + 1 / safe))


def _logit_slope(x: Tensor, y: Tensor, eps: float | None = None) -> Tensor:
    slope = 1 / (x * (1 - x))
    return slope if eps is None else torch.where((x < eps) | (x > 1 - eps), 0, slope)


SLOPES: dict[str, Callable[..., Tensor]] = {
    "sin": lambda x, y: torch.cos(x),
    "cos": lambda x, y: -torch.sin(x),
    "tan": lambda x, y: 1 + y * y,
    "sinc special_sinc": _sinc_slope,
    "asin arcsin": lambda x, y: torch.rsqrt(1 - x * x),
    "acos arccos": lambda x, y: -torch.rsqrt(1 - x * x),
    "atan arctan": lambda x, y: 1 / (1 + x * x),
    "sinh": lambda x, y: torch.cosh(x),
    "cosh": lambda x, y: torch.sinh(x),
    "tanh": lambda x, y: 1 - y * y,
    "asinh arcsinh": lambda x, y: torch.rsqrt(x * x + 1),
    "acosh arccosh": lambda x, y: torch.rsqrt(x * x - 1),
    "atanh arctanh": lambda x, y: 1 / (1 - x * x),
    "exp": lambda x, y: y,
    "exp2 special_exp2": lambda x, y: y * math.log(2),
    "expm1 special_expm1": lambda x, y: y + 1,
    "log": lambda x, y: 1 / x,
    "log1p special_log1p": lambda x, y: 1 / (1 + x),
    "log2": lambda x, y: 1 / (x * math.log(2)),
    "log10": lambda x, y: 1 / (x * math.log(10)),
    "sqrt": lambda x, y: 0.5 / y,
    "rsqrt": lambda x, y: -0.5 * y * y * y,
    "square": lambda x, y: 2 * x,
    "reciprocal": lambda x, y: -y * y,
    "frac": lambda x, y: torch.ones_like(x),
    "erf special_erf": lambda x, y: 2 / math.sqrt(math.pi) * torch.exp(-x * x),
    "erfc special_erfc": lambda x, y: -2 / math.sqrt(math.pi) * torch.exp(-x * x),
    "erfinv special_erfinv": lambda x, y: math.sqrt(math.pi) / 2 * torch.exp(y * y),
    "lgamma special_gammaln": lambda x, y: torch.digamma(x),
    "digamma special_digamma special_psi": lambda x, y: torch.polygamma(1, x),
    "special_i0e": lambda x, y: torch.special.i1e(x) - x.sign() * y,
    "special_i1e": _i1e_slope,
    "logit special_logit": _logit_slope,
    "nan_to_num": lambda x, y, *limits, **named: torch.isfinite(x),
    "relu": lambda x, y: x > 0,
    "relu6": lambda x, y: (x > 0) & (x < 6),
    "leaky_relu": lambda x, y, negative_slope=0.01: torch.where(x > 0, torch.ones_like(x), negative_slope),
    "elu": lambda x, y, alpha=1.0: torch.where(x > 0, 1, y + alpha),
    "celu": lambda x, y, alpha=1.0: torch.exp(x.clamp(max=0) / alpha),
    "selu": lambda x, y: torch.where(x > 0, SELU_SCALE, y + SELU_SCALE * SELU_ALPHA),
    "sigmoid special_expit": lambda x, y: y * (1 - y),
    "log_sigmoid": lambda x, y: torch.sigmoid(-x),
    "softplus": lambda x, y, beta=1, threshold=20: torch.where(beta * x > threshold, 1, torch.sigmoid(beta * x)),
    "mish": _mish_slope,
    "softsign": lambda x, y: (1 + x.abs()) ** -2,
    "tanhshrink": lambda x, y: (x - y).square(),
    "hardtanh": lambda x, y, min_val=-1.0, max_val=1.0: (x > min_val) & (x < max_val),
    "hardsigmoid": lambda x, y: torch.where(x.abs() < 3, torch.full_like(x, 1 / 6), 0),
    "hardswish": lambda x, y: torch.where(x.abs() < 3, x / 3 + 0.5, x > 0),
    "hardshrink": lambda x, y, lambd=0.5: x.abs() > lambd,
    "softshrink": lambda x, y, lambd=0.5: x.abs() > lambd,
    "threshold": lambda x, y, threshold, value: x > threshold,
    "rrelu": lambda x, y, *bounds, **named: torch.where(x > 0, 1, y / x).detach(),
    "clamp_min": lambda x, y, min: x >= min,
    "clamp_max": lambda x, y, max: x <= max,
}


def _elementwise(slope: Callable[..., Tensor]) -> TangentRule:
    def rule(func: Any, x: Any, *args: Any, **kwargs: Any) -> Result:
        if any(isinstance(a, Dual) for a in (*args, *kwargs.values())):
            return single_jvp(func, x, *args, **kwargs)
        args = tuple(a for a in args if not isinstance(a, bool))  # `inplace`: the tangent needs the input
        y = func(x.primal, *args, **kwargs)
        return y, lambda: x.tangent * slope(x.primal, y, *args, **kwargs)

    return rule


for _names, _slope in SLOPES.items():
    rule(_names)(_elementwise(_slope))


@rule("abs absolute")
def _abs(func: Any, x: Dual) -> Result:
    if x.is_complex():
        return func(x.primal), lambda: (x.primal.sgn().conj() * x.tangent).real
    return func(x.primal), lambda: x.tangent * x.primal.sign()


# --- two arguments ----------------------------------------------------------------------------------------------------


def _base_slope(a: Any, n: Any, y: Tensor) -> Any:
    if isinstance(n, (int, float)):
        return n * a ** (n - 1) if n != 0 else 0.0
    return torch.where(n == 0, 0, n * a ** (n - 1))


def _exponent_slope(a: Any, n: Any, y: Tensor) -> Any:
    base = torch.as_tensor(a, dtype=y.dtype, device=y.device)
    return torch.where(base == 0, 0, y * torch.log(torch.where(base == 0, 1, base)))


SLOPES_OF_TWO: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "pow": (_base_slope, _exponent_slope),
    "atan2 arctan2": (lambda a, b, y: b / (a * a + b * b), lambda a, b, y: -a / (a * a + b * b)),
    "hypot": (lambda a, b, y: a / y, lambda a, b, y: b / y),
    "logaddexp": (lambda a, b, y: torch.exp(a - y), lambda a, b, y: torch.exp(b - y)),
    "logaddexp2": (lambda a, b, y: torch.exp2(a - y), lambda a, b, y: torch.exp2(b - y)),
    "remainder __mod__": (lambda a, b, y: 1, lambda a, b, y: -torch.div(a, b, rounding_mode="floor")),
    "fmod": (lambda a, b, y: 1, lambda a, b, y: -torch.div(a, b, rounding_mode="trunc")),
    "xlogy special_xlogy": (
        lambda a, b, y: torch.where(torch.as_tensor(a == 0), 0, torch.log(torch.as_tensor(b))),
        lambda a, b, y: a / b,
    ),
    "copysign": (lambda a, b, y: torch.sign(a) * torch.sign(y), lambda a, b, y: 0),
    "float_power": (_base_slope, _exponent_slope),
}


def _of_two(slope_a: Callable[..., Any], slope_b: Callable[..., Any]) -> TangentRule:
    def rule(func: Any, a: Any, other: Any = None, *, exponent: Any = None) -> Result:
        b = other if exponent is None else exponent
        da, db, x, z = tangent(a), tangent(b), primal(a), primal(b)
        y = func(x, z)

        def dy() -> Any:
            along_a = None if da is None else da * slope_a(x, z, y)
            return total(along_a, None if db is None else db * slope_b(x, z, y))

        return y, dy

    return rule


for _names, (_slope_a, _slope_b) in SLOPES_OF_TWO.items():
    rule(_names)(_of_two(_slope_a, _slope_b))


@rule("__rpow__")
def _rpow(func: Any, x: Dual, base: Any) -> Result:
    return _of_two(_base_slope, _exponent_slope)(torch.pow, base, x)


@rule("__rmod__")
def _rmod(func: Any, x: Dual, number: Any) -> Result:
    return _of_two(*SLOPES_OF_TWO["remainder __mod__"])(torch.remainder, number, x)


# --- choices ----------------------------------------------------------------------------------------------------------


@rule("where")
def _where(func: Any, condition: Any, a: Any = None, other: Any = None, *, input: Any = None) -> Result:
    a = input if a is None else a
    if primal(condition).dtype != torch.bool:  # called as a method of the first choice
        condition, a = a, condition
    da, db = tangent(a), tangent(other)
    value = torch.where(condition, primal(a), primal(other))
    return value, lambda: torch.where(condition, 0.0 if da is None else da, 0.0 if db is None else db)


@rule("masked_fill")
def _masked_fill(func: Any, x: Any, mask: Tensor, value: Any) -> Result:
    return _where(torch.where, mask, value, x)


@rule("maximum minimum fmax fmin")
def extremum(func: Any, a: Any, other: Any) -> Result:
    """The rule of the larger or smaller of two tensors; where they are equal, the mean of their tangents."""
    y, x, z = func(primal(a), primal(other)), primal(a), primal(other)
    da, db = (0.0 if d is None else d for d in (tangent(a), tangent(other)))
    return y, lambda: torch.where(x == z, (da + db) / 2, torch.where(y == x, da, db))


@rule("clamp clip")
def _clamp(func: Any, x: Any, min: Any = None, max: Any = None) -> Result:
    """min(max(x, lowest), highest), whose bounds may have tangents too; at a bound the tangent is x's."""
    value, lowest, highest = primal(x), primal(min), primal(max)

    def dy() -> Tensor:
        inner, d = value, torch.zeros_like(value) if tangent(x) is None else x.tangent
        if min is not None:
            d = torch.where(value < lowest, 0.0 if tangent(min) is None else min.tangent, d)
            inner = torch.clamp(value, min=lowest)
        return d if max is None else torch.where(inner > highest, 0.0 if tangent(max) is None else max.tangent, d)

    return func(value, lowest, highest), dy


# --- composed of others -----------------------------------------------------------------------------------------------


@composed("lerp")
def _lerp(a: Any, end: Any, weight: Any) -> Any:
    return a + weight * (end - a)


@composed("addcmul")
def _addcmul(x: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    return x + tensor1 * tensor2 * value


@composed("addcdiv")
def _addcdiv(x: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    return x + tensor1 / tensor2 * value


@composed("polar")
def _polar(magnitude: Any, angle: Any) -> Any:
    return torch.complex(magnitude * angle.cos(), magnitude * angle.sin())


@composed("prelu")
def _prelu(x: Any, weight: Any) -> Any:
    if weight.numel() > 1:
        weight = weight.reshape(-1, *[1] * (x.ndim - 2))
    return torch.where(x > 0, x, weight * x)


@composed("glu")
def _glu(x: Any, dim: int = -1) -> Any:
    value, gate = x.chunk(2, dim)
    return value * gate.sigmoid()
