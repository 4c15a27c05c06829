"""The families of rules, and the rules for shapes, indices, sums and products.

A rule is `rule(func, *args, **kwargs) -> (primal, tangent)`. The engine (`forward_mode.dual`) calls `tangent()` with or
without a graph; None stands for a zero tangent. Most operations belong to one of five families: linear in the first
argument (`linear`) or in all arguments together (`jointly_linear`), where the tangents pass through the operation
itself; linear in each argument (`product`); elementwise, with a slope (`rules.elementwise`); and composed of other
operations (`composed`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..dual import RULES, Dual, Tangent, TangentRule, primal, tangent

Result = tuple[Any, Tangent | None]


def rule(names: str) -> Callable[[TangentRule], TangentRule]:
    """Register the decorated rule for all functions and methods with one of these names, separated by spaces."""

    def enter(entry: TangentRule) -> TangentRule:
        RULES.update(dict.fromkeys(names.split(), entry))
        return entry

    return enter


# --- operations that carry no derivative ------------------------------------------------------------------------------


@rule(
    "size dim ndimension numel nelement stride element_size is_floating_point is_complex is_contiguous item "
    "tolist eq ne lt le gt ge isnan isinf isfinite argmax argmin "
    "argsort allclose isclose equal all any sign sgn floor ceil round trunc fix floor_divide __floordiv__ "
    "__rfloordiv__ heaviside detach zeros_like ones_like full_like empty_like rand_like randn_like bernoulli "
    "new_zeros new_ones new_full new_empty new_tensor bucketize searchsorted count_nonzero nonzero "
    "logical_not logical_and logical_or signbit result_type get_device __int__ __float__ __contains__"
)
def _plain(func: Any, *args: Any, **kwargs: Any) -> Result:
    return func(*map(primal, args), **_primals(kwargs)), None


@rule("__get__")
def _attribute(func: Any, x: Dual) -> Result:
    transposed = func.__self__.__name__ in ("T", "mT", "H", "mH", "real", "imag")
    return func(x.primal), (lambda: func(x.tangent)) if transposed else None


def _primals(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: primal(value) for name, value in kwargs.items()}


# --- operations linear in their first argument ------------------------------------------------------------------------


@rule(
    "reshape reshape_as permute transpose swapaxes swapdims t movedim moveaxis flatten squeeze unsqueeze expand "
    "expand_as broadcast_to repeat repeat_interleave tile contiguous clone __getitem__ narrow select index_select "
    "gather take take_along_dim masked_select unbind chunk tensor_split hsplit vsplit dsplit split_with_sizes "
    "diagonal diag diag_embed tril triu flip fliplr flipud roll rot90 ravel adjoint atleast_1d atleast_2d atleast_3d "
    "unfold fold pixel_shuffle pixel_unshuffle channel_shuffle interpolate "
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d max_unpool1d "
    "max_unpool2d max_unpool3d affine_grid to type type_as float double half bfloat16 cpu cuda real imag conj "
    "resolve_conj view_as_real neg negative positive sum mean cumsum trace deg2rad "
    "rad2deg"
)
def linear(func: Any, x: Any, *args: Any, **kwargs: Any) -> Result:
    """The rule of operations linear in their first argument: the tangent passes through the operation."""
    args, kwargs = tuple(map(primal, args)), _primals(kwargs)
    if not isinstance(x, Dual):  # only the shape or the dtype of a dual number was asked for
        return func(x, *args, **kwargs), None
    return func(x.primal, *args, **kwargs), lambda: func(x.tangent, *args, **kwargs)


@rule("split")
def _split(func: Any, x: Dual, *args: Any, **kwargs: Any) -> Result:
    return linear(torch.split, x, *args, **kwargs)  # the method is written in Python and does not compile from here


@rule("unflatten")
def _unflatten(func: Any, x: Dual, *args: Any, **kwargs: Any) -> Result:
    return linear(torch.unflatten, x, *args, **kwargs)  # likewise


@rule("view_as_complex")
def _view_as_complex(func: Any, x: Dual) -> Result:
    return func(x.primal), lambda: func(x.tangent.contiguous())


@rule("view view_as")
def _view(func: Any, x: Any, *args: Any) -> Result:
    value = func(primal(x), *map(primal, args))
    return value, (lambda: x.tangent.reshape(value.shape)) if isinstance(x, Dual) else None  # strides may differ


@rule(
    "cat concat concatenate stack hstack vstack row_stack column_stack dstack block_diag broadcast_tensors meshgrid "
    "complex diff"
)
def _join(func: Any, *args: Any, **kwargs: Any) -> Result:
    return jointly_linear(func, args, kwargs, lambda x: isinstance(x, Tensor))


def jointly_linear(func: Any, args: Any, kwargs: Any, still: Callable[[Any], bool]) -> Result:
    """The rule of operations linear in all arguments together, f(a, b) = f(a, 0) + f(0, b).

    Args:
        func: the operation.
        args: its arguments; lists and tuples may hold dual numbers.
        kwargs: its keyword arguments, likewise.
        still: whether an argument without a tangent counts as a tensor with a zero tangent.

    Returns:
        The value, and a function that passes all tangents through the operation at once.
    """

    def moved(x: Any) -> Any:
        return x.tangent if isinstance(x, Dual) else torch.zeros_like(x) if still(x) else x

    def call(part: Callable[[Any], Any]) -> Any:
        return func(*(_mapped(part, x) for x in args), **{name: _mapped(part, x) for name, x in kwargs.items()})

    return call(primal), lambda: call(moved)


def _mapped(part: Callable[[Any], Any], x: Any) -> Any:
    return [_mapped(part, member) for member in x] if isinstance(x, (list, tuple)) else part(x)


# --- sums, products, powers -------------------------------------------------------------------------------------------


@rule("add __add__ __radd__")
def _add(func: Any, a: Any, other: Any, *, alpha: float = 1) -> Result:
    b = other if alpha == 1 else other * alpha
    return primal(a) + primal(b), lambda: total(tangent(a), tangent(b))


@rule("sub subtract __sub__")
def _sub(func: Any, a: Any, other: Any, *, alpha: float = 1) -> Result:
    b = other if alpha == 1 else other * alpha
    da, db = tangent(a), tangent(b)
    return primal(a) - primal(b), lambda: da if db is None else -db if da is None else da - db


@rule("rsub __rsub__")
def _rsub(func: Any, a: Any, other: Any, *, alpha: float = 1) -> Result:
    return _sub(func, other, a, alpha=alpha)


@rule("mul multiply __mul__ __rmul__")
def _mul(func: Any, a: Any, other: Any) -> Result:
    x, y, da, db = primal(a), primal(other), tangent(a), tangent(other)

    def dy() -> Any:
        if da is not None and db is not None and da.dtype == db.dtype:
            return torch.addcmul(da * y, x, db)
        return total(None if da is None else da * y, None if db is None else x * db)

    return func(x, y), dy


@rule("bmm mm mv dot vdot inner outer ger kron cross linalg_cross linalg_vecdot tensordot")
def product(func: Any, *args: Any, **kwargs: Any) -> Result:
    """The rule of operations linear in each argument: the product rule."""
    named = [name for name, value in kwargs.items() if isinstance(value, (Tensor, Dual))]
    args = (*args, *(kwargs.pop(name) for name in named))
    return func(*map(primal, args), **kwargs), lambda: product_rule(func, args, kwargs)


@rule("matmul __matmul__ linalg_matmul")
def _matmul(func: Any, a: Any, other: Any) -> Result:
    if torch.compiler.is_compiling() and func is Tensor.matmul and not isinstance(a, Dual):
        # torch's compiler hands over `dual @ tensor` as tensor.matmul(dual), its operands exchanged
        raise TypeError("a compiled derivative cannot tell a @ b from b @ a: write torch.matmul(a, b)")
    return product(func, a, other)


@rule("__rmatmul__")
def _rmatmul(func: Any, a: Any, b: Any) -> Result:
    return product(torch.matmul, b, a)


@rule("einsum")
def _einsum(func: Any, equation: str, *operands: Any) -> Result:
    listed = len(operands) == 1 and isinstance(operands[0], (list, tuple))
    return product(func, equation, *(operands[0] if listed else operands))


def product_rule(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute d(a b ...) = da b ... + a db ... + ..., by one call of `func` for each dual number among its arguments.

    Args:
        func: an operation linear in each argument.
        args: its arguments.
        kwargs: its keyword arguments, without dual numbers.

    Returns:
        The tangent; None (zero) if no argument is a dual number.
    """
    values = [primal(a) for a in args]
    return total(
        *(func(*values[:i], a.tangent, *values[i + 1 :], **kwargs) for i, a in enumerate(args) if isinstance(a, Dual))
    )


@rule("div divide true_divide __truediv__")
def _div(func: Any, a: Any, other: Any, *, rounding_mode: str | None = None) -> Result:
    b = other
    if rounding_mode is not None:
        return torch.div(primal(a), primal(b), rounding_mode=rounding_mode), None
    y, da, db = primal(a) / primal(b), tangent(a), tangent(b)
    return y, lambda: (da if db is None else -y * db if da is None else da - y * db) / primal(b)


@rule("__rdiv__")
def _rdiv(func: Any, a: Any, b: Any) -> Result:
    return _div(func, b, a)


def total(*terms: Tensor | None) -> Tensor | None:
    """Add the terms that are not None (zero); None if all are."""
    present = [term for term in terms if term is not None]
    return sum(present[1:], present[0]) if present else None


def composed(names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated formula, written with operations that have rules, for all these names."""

    def enter(formula: Callable[..., Any]) -> Callable[..., Any]:
        def entry(func: Any, *args: Any, **kwargs: Any) -> Result:
            y = formula(*args, **kwargs)
            return primal(y), (lambda: y.tangent) if isinstance(y, Dual) else None

        rule(names)(entry)
        return formula

    return enter
