"""The rules of forward mode, one per operation; the layers of networks have theirs in `flowmaps.dual_layers`.

A rule is `rule(func, *args, **kwargs) -> (primal, tangent)`. The engine (`flowmaps.dual`) calls `tangent()` with or
without a graph; None stands for a zero tangent. Most operations belong to one of three families: linear in the first
argument (the tangent passes through the operation itself), linear in each argument (the product rule), elementwise
(their slope).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .dual import RULES, Dual, Rule, Tangent, primal, single_jvp, tangent

Result = tuple[Any, Tangent | None]


def rule(names: str) -> Callable[[Rule], Rule]:
    """Decorator: the rule of all functions and methods with one of these names."""

    def enter(entry: Rule) -> Rule:
        RULES.update(dict.fromkeys(names.split(), entry))
        return entry

    return enter


# --- operations that carry no derivative ------------------------------------------------------------------------------


@rule(
    "size dim ndimension numel nelement stride element_size is_floating_point is_complex is_contiguous item "
    "tolist eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ isnan isinf isfinite argmax argmin "
    "argsort allclose equal all any sign floor ceil round trunc detach zeros_like ones_like full_like empty_like "
    "rand_like randn_like bernoulli new_zeros new_ones new_full new_empty new_tensor"
)
def _plain(func: Any, *args: Any, **kwargs: Any) -> Result:
    return func(*map(primal, args), **kwargs), None


# --- operations linear in their first argument ------------------------------------------------------------------------


@rule(
    "reshape reshape_as permute transpose swapaxes swapdims t movedim moveaxis flatten squeeze unsqueeze expand "
    "expand_as broadcast_to repeat repeat_interleave tile contiguous clone __getitem__ narrow select index_select "
    "gather take_along_dim masked_select unbind chunk tensor_split diagonal diag_embed tril triu flip roll rot90 "
    "unfold fold pixel_shuffle pixel_unshuffle channel_shuffle interpolate upsample avg_pool1d avg_pool2d "
    "avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d to type type_as float double half bfloat16 cpu cuda neg "
    "negative positive __neg__ sum mean nansum cumsum trace diff deg2rad rad2deg"
)
def _linear(func: Any, x: Any, *args: Any, **kwargs: Any) -> Result:
    args = tuple(map(primal, args))
    if not isinstance(x, Dual):  # only the shape or the dtype of a dual number was asked for
        return func(x, *args, **kwargs), None
    return func(x.primal, *args, **kwargs), lambda: func(x.tangent, *args, **kwargs)


@rule("split")
def _split(func: Any, x: Dual, *args: Any, **kwargs: Any) -> Result:
    return _linear(torch.split, x, *args, **kwargs)  # the method is written in Python and does not compile from here


@rule("unflatten")
def _unflatten(func: Any, x: Dual, *args: Any, **kwargs: Any) -> Result:
    return _linear(torch.unflatten, x, *args, **kwargs)  # likewise


@rule("view view_as")
def _view(func: Any, x: Any, *args: Any) -> Result:
    value = func(primal(x), *map(primal, args))
    return value, (lambda: x.tangent.reshape(value.shape)) if isinstance(x, Dual) else None  # strides may differ


@rule("cat concat concatenate stack hstack vstack")
def _join(func: Any, xs: Sequence[Any], *args: Any, **kwargs: Any) -> Result:
    def joined_tangents() -> Tensor:
        return func([x.tangent if isinstance(x, Dual) else torch.zeros_like(x) for x in xs], *args, **kwargs)

    return func([primal(x) for x in xs], *args, **kwargs), joined_tangents


# --- sums, products, powers -------------------------------------------------------------------------------------------


@rule("add __add__ __radd__")
def _add(func: Any, a: Any, b: Any, *, alpha: float = 1) -> Result:
    b = b if alpha == 1 else b * alpha
    return primal(a) + primal(b), lambda: total(tangent(a), tangent(b))


@rule("sub subtract __sub__")
def _sub(func: Any, a: Any, b: Any, *, alpha: float = 1) -> Result:
    b = b if alpha == 1 else b * alpha
    da, db = tangent(a), tangent(b)
    return primal(a) - primal(b), lambda: da if db is None else -db if da is None else da - db


@rule("rsub __rsub__")
def _rsub(func: Any, a: Any, b: Any, *, alpha: float = 1) -> Result:
    return _sub(func, b, a, alpha=alpha)


@rule("mul multiply __mul__ __rmul__ bmm mm mv dot inner outer cross")
def _product(func: Any, *args: Any, **kwargs: Any) -> Result:
    return func(*map(primal, args), **kwargs), lambda: product_rule(func, args, kwargs)


@rule("matmul __matmul__")
def _matmul(func: Any, a: Any, b: Any) -> Result:
    if torch.compiler.is_compiling() and func is Tensor.matmul and not isinstance(a, Dual):
        # torch's compiler hands over `dual @ tensor` as tensor.matmul(dual), its operands exchanged
        raise TypeError("a compiled derivative cannot tell a @ b from b @ a: write torch.matmul(a, b)")
    return _product(func, a, b)


@rule("__rmatmul__")
def _rmatmul(func: Any, a: Any, b: Any) -> Result:
    return _product(torch.matmul, b, a)


@rule("einsum")
def _einsum(func: Any, equation: str, *operands: Any) -> Result:
    listed = len(operands) == 1 and isinstance(operands[0], (list, tuple))
    return _product(func, equation, *(operands[0] if listed else operands))


def product_rule(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """d(a b ...) = da b ... + a db ... + ...: one call of `func` for each dual number among its arguments."""
    values = [primal(a) for a in args]
    return total(
        *(func(*values[:i], a.tangent, *values[i + 1 :], **kwargs) for i, a in enumerate(args) if isinstance(a, Dual))
    )


@rule("div divide true_divide __truediv__ __div__")
def _div(func: Any, a: Any, b: Any, *, rounding_mode: str | None = None) -> Result:
    if rounding_mode is not None:
        return torch.div(primal(a), primal(b), rounding_mode=rounding_mode), None
    y, da, db = primal(a) / primal(b), tangent(a), tangent(b)
    return y, lambda: (da if db is None else -y * db if da is None else da - y * db) / primal(b)


@rule("__rtruediv__ __rdiv__")
def _rdiv(func: Any, a: Any, b: Any) -> Result:
    return _div(func, b, a)


@rule("pow __pow__")
def _pow(func: Any, x: Any, n: Any) -> Result:
    if not isinstance(n, (int, float)):
        return single_jvp(torch.pow, x, n)
    return x.primal**n, (lambda: x.tangent * (n * x.primal ** (n - 1))) if n != 0 else None


@rule("__rpow__")
def _rpow(func: Any, x: Dual, base: Any) -> Result:
    return single_jvp(torch.pow, base, x)


def total(*terms: Tensor | None) -> Tensor | None:
    """The sum of the terms that are not zero (None); None where all are."""
    present = [term for term in terms if term is not None]
    return sum(present[1:], present[0]) if present else None


# --- elementwise functions: dy = slope(x, y) dx -----------------------------------------------------------------------


def _sinc_slope(x: Tensor, y: Tensor) -> Tensor:
    zero = x == 0
    safe = torch.where(zero, 1, x)
    return torch.where(zero, -(math.pi**2) / 3 * x, (torch.cos(math.pi * safe) - torch.sinc(safe)) / safe)


def _clamp_slope(x: Tensor, y: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    inside = torch.ones_like(x, dtype=torch.bool)
    if min is not None:
        inside = inside & (x >= min)
    return inside if max is None else inside & (x <= max)


SLOPES: dict[str, Callable[..., Tensor]] = {
    "sin": lambda x, y: torch.cos(x),
    "cos": lambda x, y: -torch.sin(x),
    "tan": lambda x, y: 1 + y * y,
    "sinc": _sinc_slope,
    "asin": lambda x, y: torch.rsqrt(1 - x * x),
    "acos": lambda x, y: -torch.rsqrt(1 - x * x),
    "atan": lambda x, y: 1 / (1 + x * x),
    "sinh": lambda x, y: torch.cosh(x),
    "cosh": lambda x, y: torch.sinh(x),
    "tanh": lambda x, y: 1 - y * y,
    "exp": lambda x, y: y,
    "exp2": lambda x, y: y * math.log(2),
    "expm1": lambda x, y: y + 1,
    "log": lambda x, y: 1 / x,
    "log1p": lambda x, y: 1 / (1 + x),
    "log2": lambda x, y: 1 / (x * math.log(2)),
    "log10": lambda x, y: 1 / (x * math.log(10)),
    "sqrt": lambda x, y: 0.5 / y,
    "rsqrt": lambda x, y: -0.5 * y * y * y,
    "square": lambda x, y: 2 * x,
    "reciprocal": lambda x, y: -y * y,
    "erf": lambda x, y: 2 / math.sqrt(math.pi) * torch.exp(-x * x),
    "abs": lambda x, y: torch.sign(x),
    "relu": lambda x, y: x > 0,
    "leaky_relu": lambda x, y, negative_slope=0.01: torch.where(x > 0, torch.ones_like(x), negative_slope),
    "elu": lambda x, y, alpha=1.0: torch.where(x > 0, 1, y + alpha),
    "sigmoid": lambda x, y: y * (1 - y),
    "log_sigmoid": lambda x, y: torch.sigmoid(-x),
    "softplus": lambda x, y, beta=1, threshold=20: torch.where(beta * x > threshold, 1, torch.sigmoid(beta * x)),
    "clamp": _clamp_slope,
    "clamp_min": lambda x, y, min: x >= min,
    "clamp_max": lambda x, y, max: x <= max,
}


def _elementwise(slope: Callable[..., Tensor]) -> Rule:
    def rule(func: Any, x: Any, *args: Any, **kwargs: Any) -> Result:
        if any(isinstance(a, Dual) for a in (*args, *kwargs.values())):
            return single_jvp(func, x, *args, **kwargs)
        args = tuple(a for a in args if not isinstance(a, bool))  # `inplace`: the tangent needs the input
        y = func(x.primal, *args, **kwargs)
        return y, lambda: x.tangent * slope(x.primal, y, *args, **kwargs)

    return rule


for _name, _slope in SLOPES.items():
    rule(_name)(_elementwise(_slope))


@rule("where")
def _where(func: Any, condition: Any, a: Any, b: Any) -> Result:
    if primal(condition).dtype != torch.bool:  # called as a method of the first choice
        condition, a = a, condition
    da, db = tangent(a), tangent(b)
    value = torch.where(condition, primal(a), primal(b))
    return value, lambda: torch.where(condition, 0.0 if da is None else da, 0.0 if db is None else db)


@rule("masked_fill")
def _masked_fill(func: Any, x: Any, mask: Tensor, value: Any) -> Result:
    return _where(torch.where, mask, value, x)


@rule("maximum minimum")
def _extremum(func: Any, a: Any, b: Any) -> Result:
    y, x, z = func(primal(a), primal(b)), primal(a), primal(b)
    da, db = (0.0 if d is None else d for d in (tangent(a), tangent(b)))
    return y, lambda: torch.where(x == z, (da + db) / 2, torch.where(y == x, da, db))


@rule("lerp")
def _lerp(func: Any, a: Any, b: Any, weight: Any) -> Result:
    y = a + weight * (b - a)
    return primal(y), lambda: tangent(y)


@rule("addcmul")
def _addcmul(func: Any, x: Any, a: Any, b: Any, *, value: float = 1) -> Result:
    y = x + a * b * value
    return primal(y), lambda: tangent(y)
