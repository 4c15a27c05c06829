"""The rules of forward mode, one per operation: `rule(func, *args, **kwargs) -> (primal, tangent)`, where `tangent()` is computed by the
engine (`flowmaps.dual`) with or without a graph, and None stands for a zero tangent.

Three tables cover most operations: those linear in their first argument (the tangent passes through the operation itself), those linear in
each argument (the product rule) and the elementwise ones (their slope). The others have a rule of their own, or are written out in
operations that have one. Some rules use that an operation whose Jacobian is symmetric has equal forward and reverse derivatives, so that
torch's fused backward kernel is its tangent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flowmaps.dual import FORMULAS, RULES, Dual, Rule, Tangent, primal, single_jvp, tangent

Result = tuple[Any, Tangent | None]

SCORES_PER_BLOCK = 2**26
"""Attention works on blocks of queries of at most this many scores, which bounds its working memory."""


def _functions(names: Sequence[str]) -> list[Any]:
    """The functions and methods of torch that bear these names."""
    owners = (torch, Tensor, F)
    return [getattr(owner, name) for name in names for owner in owners if callable(getattr(owner, name, None))]


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(_functions(names), rule))
        return rule

    return register


def _formula(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(formula: Callable[..., Any]) -> Callable[..., Any]:
        FORMULAS.update(dict.fromkeys(_functions(names), formula))
        return formula

    return register


# --- operations that carry no derivative ------------------------------------------------------------------------------


@_rule(
    *(
        "size",
        "dim",
        "ndimension",
        "numel",
        "nelement",
        "stride",
        "element_size",
        "is_floating_point",
        "is_complex",
        "is_contiguous",
        "item",
    ),
    *(
        "tolist",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "__eq__",
        "__ne__",
        "__lt__",
        "__le__",
        "__gt__",
        "__ge__",
        "isnan",
        "isinf",
        "isfinite",
    ),
    *(
        "argmax",
        "argmin",
        "argsort",
        "allclose",
        "equal",
        "all",
        "any",
        "sign",
        "floor",
        "ceil",
        "round",
        "trunc",
        "detach",
    ),
    *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "bernoulli"),
    *("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"),
)
def _plain(func: Any, *args: Any, **kwargs: Any) -> Result:
    return func(*map(primal, args), **kwargs), None


# --- operations linear in their first argument ------------------------------------------------------------------------


@_rule(
    *(
        "view",
        "reshape",
        "view_as",
        "reshape_as",
        "permute",
        "transpose",
        "swapaxes",
        "swapdims",
        "t",
        "movedim",
        "moveaxis",
        "flatten",
    ),
    *(
        "unflatten",
        "squeeze",
        "unsqueeze",
        "expand",
        "expand_as",
        "broadcast_to",
        "repeat",
        "repeat_interleave",
        "tile",
        "contiguous",
        "clone",
    ),
    *(
        "__getitem__",
        "narrow",
        "select",
        "index_select",
        "gather",
        "take_along_dim",
        "masked_select",
        "unbind",
        "chunk",
        "split",
        "tensor_split",
    ),
    *(
        "diagonal",
        "diag_embed",
        "tril",
        "triu",
        "flip",
        "roll",
        "rot90",
        "unfold",
        "fold",
        "pixel_shuffle",
        "pixel_unshuffle",
    ),
    *(
        "channel_shuffle",
        "interpolate",
        "upsample",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
    ),
    *(
        "to",
        "type",
        "type_as",
        "float",
        "double",
        "half",
        "bfloat16",
        "cpu",
        "cuda",
        "neg",
        "negative",
        "positive",
        "__neg__",
    ),
    *("sum", "mean", "nansum", "cumsum", "trace", "diff", "deg2rad", "rad2deg"),
)
def _linear(func: Any, x: Any, *args: Any, **kwargs: Any) -> Result:
    args = tuple(map(primal, args))
    if not isinstance(x, Dual):  # only the shape or the dtype of a dual number was asked for
        return func(x, *args, **kwargs), None
    return func(x.primal, *args, **kwargs), lambda: func(x.tangent, *args, **kwargs)


@_rule("pad")
def _pad(func: Any, x: Dual, pad: Any, mode: str = "constant", value: float | None = None) -> Result:
    return func(x.primal, pad, mode, value), lambda: func(x.tangent, pad, mode, None)


@_rule("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout")
def _dropout(func: Any, x: Dual, *args: Any, **kwargs: Any) -> Result:
    mask = func(torch.ones_like(x.primal), *args, **kwargs)
    return x.primal * mask, lambda: x.tangent * mask


@_rule("cat", "concat", "concatenate", "stack", "hstack", "vstack")
def _join(func: Any, xs: Sequence[Any], *args: Any, **kwargs: Any) -> Result:
    def joined_tangents() -> Tensor:
        return func([x.tangent if isinstance(x, Dual) else torch.zeros_like(x) for x in xs], *args, **kwargs)

    return func([primal(x) for x in xs], *args, **kwargs), joined_tangents


# --- sums, products, powers -------------------------------------------------------------------------------------------


@_rule("add", "__add__", "__radd__")
def _add(func: Any, a: Any, b: Any, *, alpha: float = 1) -> Result:
    b = b if alpha == 1 else b * alpha
    return primal(a) + primal(b), lambda: _sum(tangent(a), tangent(b))


@_rule("sub", "subtract", "__sub__")
def _sub(func: Any, a: Any, b: Any, *, alpha: float = 1) -> Result:
    b = b if alpha == 1 else b * alpha
    da, db = tangent(a), tangent(b)
    return primal(a) - primal(b), lambda: da if db is None else -db if da is None else da - db


@_rule("rsub", "__rsub__")
def _rsub(func: Any, a: Any, b: Any, *, alpha: float = 1) -> Result:
    return _sub(func, b, a, alpha=alpha)


@_rule(
    "mul",
    "multiply",
    "__mul__",
    "__rmul__",
    "matmul",
    "__matmul__",
    "bmm",
    "mm",
    "mv",
    "dot",
    "inner",
    "outer",
    "cross",
)
def _product(func: Any, *args: Any, **kwargs: Any) -> Result:
    return func(*map(primal, args), **kwargs), lambda: _product_rule(func, args, kwargs)


@_rule("__rmatmul__")
def _rmatmul(func: Any, a: Any, b: Any) -> Result:
    return _product(torch.matmul, b, a)


@_rule("einsum")
def _einsum(func: Any, equation: str, *operands: Any) -> Result:
    listed = len(operands) == 1 and isinstance(operands[0], (list, tuple))
    return _product(func, equation, *(operands[0] if listed else operands))


@_rule("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _affine(func: Any, x: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Result:
    if isinstance(bias, Dual):
        return single_jvp(func, x, weight, bias, *args, **kwargs)
    value = func(primal(x), primal(weight), bias, *args, **kwargs)
    return value, lambda: _product_rule(func, (x, weight, None, *args), kwargs)


def _product_rule(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """d(a b ...) = da b ... + a db ... + ...: one call of `func` for each dual number among its arguments."""
    values = [primal(a) for a in args]
    return _sum(
        *(func(*values[:i], a.tangent, *values[i + 1 :], **kwargs) for i, a in enumerate(args) if isinstance(a, Dual))
    )


@_rule("div", "divide", "true_divide", "__truediv__", "__div__")
def _div(func: Any, a: Any, b: Any, *, rounding_mode: str | None = None) -> Result:
    if rounding_mode is not None:
        return torch.div(primal(a), primal(b), rounding_mode=rounding_mode), None
    y, da, db = primal(a) / primal(b), tangent(a), tangent(b)
    return y, lambda: (da if db is None else -y * db if da is None else da - y * db) / primal(b)


@_rule("__rtruediv__", "__rdiv__")
def _rdiv(func: Any, a: Any, b: Any) -> Result:
    return _div(func, b, a)


@_rule("pow", "__pow__")
def _pow(func: Any, x: Any, n: Any) -> Result:
    if not isinstance(n, (int, float)):
        return single_jvp(torch.pow, x, n)
    return x.primal**n, (lambda: x.tangent * (n * x.primal ** (n - 1))) if n != 0 else None


def _sum(*tangents: Tensor | None) -> Tensor | None:
    total = None
    for term in tangents:
        total = term if total is None else total if term is None else total + term
    return total


# --- elementwise functions: dy = slope(x, y) dx -----------------------------------------------------------------------


def _silu_slope(x: Tensor, y: Tensor) -> Tensor:
    gate = torch.sigmoid(x)
    return gate + y * (1 - gate)


def _sinc_slope(x: Tensor, y: Tensor) -> Tensor:
    zero = x == 0
    safe = torch.where(zero, 1, x)
    return torch.where(zero, -(math.pi**2) / 3 * x, (torch.cos(math.pi * safe) - torch.sinc(safe)) / safe)


def _clamp_slope(x: Tensor, y: Tensor, min: Any = None, max: Any = None) -> Tensor:
    below, above = (False if bound is None else outside for bound, outside in ((min, x < min), (max, x > max)))
    return ~(below | above)


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
    "leaky_relu": lambda x, y, negative_slope=0.01: torch.where(x > 0, 1, negative_slope),
    "elu": lambda x, y, alpha=1.0: torch.where(x > 0, 1, y + alpha),
    "sigmoid": lambda x, y: y * (1 - y),
    "logsigmoid": lambda x, y: torch.sigmoid(-x),
    "softplus": lambda x, y, beta=1, threshold=20: torch.where(beta * x > threshold, 1, torch.sigmoid(beta * x)),
    "silu": _silu_slope,
    "clamp": _clamp_slope,
}


def _elementwise(slope: Callable[..., Tensor]) -> Rule:
    def rule(func: Any, x: Any, *args: Any, **kwargs: Any) -> Result:
        if any(isinstance(a, Dual) for a in (*args, *kwargs.values())):
            return single_jvp(func, x, *args, **kwargs)
        y = func(x.primal, *args, **kwargs)
        return y, lambda: x.tangent * slope(x.primal, y, *args, **kwargs)

    return rule


for _name, _slope in SLOPES.items():
    _rule(_name)(_elementwise(_slope))


@_rule("gelu")
def _gelu(func: Any, x: Dual, *args: Any, **kwargs: Any) -> Result:
    return func(x.primal, *args, **kwargs), lambda: torch.ops.aten.gelu_backward(x.tangent, x.primal, *args, **kwargs)


@_rule("where")
def _where(func: Any, condition: Any, a: Any, b: Any) -> Result:
    if func is Tensor.where:  # a method of the first choice, not of the condition
        condition, a = a, condition
    da, db = tangent(a), tangent(b)
    value = torch.where(condition, primal(a), primal(b))
    return value, lambda: torch.where(condition, 0.0 if da is None else da, 0.0 if db is None else db)


@_rule("masked_fill")
def _masked_fill(func: Any, x: Any, mask: Tensor, value: Any) -> Result:
    return _where(torch.where, mask, value, x)


@_rule("maximum", "minimum")
def _extremum(func: Any, a: Any, b: Any) -> Result:
    y, x, z = func(primal(a), primal(b)), primal(a), primal(b)
    da, db = (0.0 if d is None else d for d in (tangent(a), tangent(b)))
    return y, lambda: torch.where(x == z, (da + db) / 2, torch.where(y == x, da, db))


@_formula("lerp")
def _lerp(a: Any, b: Any, weight: Any) -> Any:
    return a + weight * (b - a)


@_formula("addcmul")
def _addcmul(x: Any, a: Any, b: Any, *, value: float = 1) -> Any:
    return x + a * b * value


# --- normalisation and attention --------------------------------------------------------------------------------------


@_rule("softmax")
def _softmax(func: Any, x: Dual, dim: int, *args: Any, **kwargs: Any) -> Result:
    y = func(x.primal, dim, *args, **kwargs)
    return y, lambda: torch._softmax_backward_data(x.tangent.to(y.dtype), y, dim, y.dtype)


@_rule("log_softmax")
def _log_softmax(func: Any, x: Dual, dim: int, *args: Any, **kwargs: Any) -> Result:
    y = func(x.primal, dim, *args, **kwargs)
    return y, lambda: x.tangent - (y.exp() * x.tangent).sum(dim, keepdim=True)


@_rule("layer_norm")
def _layer_norm(
    func: Any, x: Any, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5, *args: Any
) -> Result:
    if isinstance(weight, Dual) or isinstance(bias, Dual):
        return single_jvp(func, x, shape, weight, bias, eps, *args)
    y = func(x.primal, shape, weight, bias, eps, *args)
    return y, lambda: _weighted(_normalised_tangent(x, tuple(shape), eps, y.dtype), weight)


@_rule("group_norm")
def _group_norm(
    func: Any, x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *args: Any
) -> Result:
    if isinstance(weight, Dual) or isinstance(bias, Dual):
        return single_jvp(func, x, groups, weight, bias, eps, *args)

    def normalised_tangent() -> Tensor:
        rows = x.reshape(x.shape[0], groups, -1)
        dn = _normalised_tangent(rows, rows.shape[-1:], eps, y.dtype).reshape(x.shape)
        return _weighted(dn, None if weight is None else weight.reshape(-1, *[1] * (x.ndim - 2)))

    y = func(x.primal, groups, weight, bias, eps, *args)
    return y, normalised_tangent


def _normalised_tangent(x: Dual, shape: Sequence[int], eps: float, dtype: torch.dtype) -> Tensor:
    """Tangent of n = (x - mean) / std: r (dx - <dx> - n <n dx>), a symmetric Jacobian."""
    value, dx = x.primal.to(dtype), x.tangent.to(dtype)
    _, mean, r = torch.native_layer_norm(value, shape, None, None, eps)
    return torch.ops.aten.native_layer_norm_backward(dx, value, shape, mean, r, None, None, [True, False, False])[0]


@_rule("rms_norm")
def _rms_norm(func: Any, x: Any, shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Result:
    if isinstance(weight, Dual):
        return single_jvp(func, x, shape, weight, eps)

    def normalised_tangent() -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        value, dx = x.primal.to(wide), x.tangent.to(wide)
        dims = tuple(range(-len(shape), 0))
        r = torch.rsqrt(value.square().mean(dims, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps))
        n = value * r
        return _weighted(r * (dx - n * (n * dx).mean(dims, keepdim=True)), weight)

    return func(x.primal, shape, weight, eps), normalised_tangent


def _weighted(x: Tensor, weight: Tensor | None) -> Tensor:
    return x if weight is None else x * weight


@_formula("scaled_dot_product_attention")
def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """softmax(q k^T / sqrt(d) + mask) v: fused attention has no forward mode, so it is written out, by blocks of queries."""
    length, source = query.shape[-2], key.shape[-2]
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    if is_causal:
        attn_mask = torch.ones(length, source, dtype=torch.bool, device=query.device).tril()
    scaled = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    block = max(1, SCORES_PER_BLOCK // (math.prod(key.shape[:-2]) * source))
    parts = []
    for first in range(0, length, block):
        mask = attn_mask if attn_mask is None or attn_mask.shape[-2] == 1 else attn_mask[..., first : first + block, :]
        parts.append(_attend(scaled[..., first : first + block, :], key, value, mask, dropout_p))
    return parts[0] if len(parts) == 1 else torch.cat(parts, -2)


def _attend(query: Any, key: Any, value: Any, mask: Tensor | None, dropout_p: float) -> Any:
    scores = query @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return F.dropout(scores.softmax(-1), dropout_p) @ value
