"""Dual numbers as ordinary tensor operations: the forward-mode engine behind `flowmaps.derivative`.

A dual number `x + e dx` with `e^2 = 0` carries a value and its derivative through a program: `f(x + e dx) = f(x) + e
Jf(x) dx`. A `Dual` travels through any network by `__torch_function__`, with one short rule per operation (in
`flowmaps.forward_mode.rules`). Rules are plain torch, so a derivative costs only its arithmetic, can be differentiated
again, and works under autocast, compilation and data parallelism. Torch functions that are written in Python run as
written. Any other operation without a rule is differentiated alone by `torch.func.jvp`, with a warning the first time.

There are no zero tangents: a result that does not depend on the perturbed inputs is a plain tensor.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Tangent = Callable[[], Any]
TangentRule = Callable[..., tuple[Any, Tangent | None]]

RULES: dict[str, TangentRule] = {}
"""Rules by operation name: `rule(func, *args, **kwargs) -> (primal, tangent)`.

`tangent()` computes the tangent; None stands for zero.
"""

IN_PLACE = (
    "__setitem__",
    "__iadd__",
    "__isub__",
    "__imul__",
    "__idiv__",
    "__itruediv__",
    "__ipow__",
    "__imatmul__",
)


SCRIPTED = (torch._C.ScriptMethod, torch._C.ScriptFunction)


@dataclasses.dataclass(frozen=True, eq=False)
class Dual:
    """A tensor and its tangent, with the functions, methods and operators of a tensor.

    Dual numbers are immutable: `x += y` makes a new number, and in-place methods raise `InPlace`, a TypeError. The one
    exception is a tensor made by `empty_like`, which may be filled (see `rules.writing`).

    Attributes:
        primal: the value.
        tangent: its derivative, of the same shape and dtype.
    """

    primal: Tensor
    tangent: Tensor

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs:
            kwargs.pop("inplace", None)
            if kwargs.pop("out", None) is not None:
                raise in_place(func)
            if "input" in kwargs:
                args = (kwargs.pop("input"), *args)
        rule = RULES.get(getattr(func, "__name__", ""))
        if rule is None:
            body = None if torch.compiler.is_compiling() else _python_body(func)
            if body is not None:
                return body(*args, **kwargs)
            rule = single_jvp
        primal, tangent = rule(func, *args, **kwargs)
        return primal if tangent is None else cls._pair(primal, tangent)

    @classmethod
    def _pair(cls, primal: Any, tangent: Tangent) -> Any:
        """Pair values with tangents as dual numbers, one for each output that can have a derivative."""
        return _zip(cls, primal, tangent())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python's own protocols, such as copying, are not a tensor's
            raise AttributeError(f"a dual number has no {name}")
        member = getattr(Tensor, name)
        if not callable(member):
            return getattr(self.primal, name)
        return functools.partial(type(self)._call, member, self)

    @classmethod
    def _call(cls, func: Any, *args: Any, **kwargs: Any) -> Any:
        return cls.__torch_function__(func, (cls,), args, kwargs)

    shape = property(lambda self: self.primal.shape)
    dtype = property(lambda self: self.primal.dtype)
    device = property(lambda self: self.primal.device)
    ndim = property(lambda self: self.primal.ndim)
    requires_grad = property(lambda self: False)  # the primal and the tangent have graphs, the pair has none
    grad_fn = property(lambda self: None)

    T = property(lambda self: self.permute(*reversed(range(self.ndim))))
    mT = property(lambda self: self.transpose(-2, -1))
    mH = property(lambda self: self.adjoint())
    H = property(lambda self: self.adjoint())
    real = property(lambda self: self._call(torch.real, self))
    imag = property(lambda self: self._call(torch.imag, self))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.unbind(0))

    def __len__(self) -> int:
        return len(self.primal)

    def __bool__(self) -> bool:
        return bool(self.primal)


class Detached(Dual):
    """A dual number whose tangents are computed without a graph, so that no activations are stored for them."""

    @classmethod
    def _pair(cls, primal: Any, tangent: Tangent) -> Any:
        with torch.no_grad():
            without_graph = tangent()
        return _zip(cls, primal, without_graph)


def _zip(cls: type[Dual], primal: Any, tangent: Any) -> Any:
    if isinstance(primal, (tuple, list)):
        return type(primal)(_zip(cls, p, t) for p, t in zip(primal, tangent, strict=True))
    return cls(primal, fit(tangent, primal)) if _can_move(primal) else primal


def _can_move(x: Any) -> bool:
    return isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())


def fit(tangent: Tensor, primal: Tensor) -> Tensor:
    """Cast and expand a tangent to the dtype and shape of its primal.

    They differ after an operation with a plain tensor of a wider dtype or a larger shape.

    Args:
        tangent: the tangent, of any shape that broadcasts to the primal's.
        primal: the value that it belongs to.

    Returns:
        The tangent in the primal's dtype and shape.
    """
    if tangent.dtype != primal.dtype:
        tangent = tangent.to(primal.dtype)
    return tangent if tangent.shape == primal.shape else tangent.expand_as(primal)


def primal(x: Any) -> Any:
    """Return the value of a dual number, and anything else unchanged."""
    return x.primal if isinstance(x, Dual) else x


def tangent(x: Any) -> Tensor | None:
    """Return the tangent of a dual number, and None (zero) for anything else."""
    return x.tangent if isinstance(x, Dual) else None


@functools.cache
def _python_body(func: Any) -> Callable[..., Any] | None:
    """Return a Python function of torch without its `has_torch_function` branch, so that its operations meet rules.

    None for functions that are not written in Python.
    """
    code = getattr(func, "__code__", None)
    asks = [name for name in getattr(code, "co_names", ()) if name.startswith("has_torch_function")]
    if code is None or not asks or any(name not in func.__globals__ for name in asks):
        return None
    names = {**func.__globals__, **dict.fromkeys(asks, lambda *args: False)}
    body = types.FunctionType(code, names, func.__name__, func.__defaults__, func.__closure__)
    body.__kwdefaults__ = func.__kwdefaults__
    return body


def single_jvp(func: Any, *args: Any, **kwargs: Any) -> tuple[Any, Tangent | None]:
    """Differentiate one operation without a rule by `torch.func.jvp`.

    Args:
        func: the operation.
        *args: its arguments, with dual numbers among them.
        **kwargs: its keyword arguments.

    Returns:
        The value, and a function that computes the tangent (None: zero).

    Raises:
        TypeError: for an operation in place, and for a network made by `torch.jit`.
    """
    if isinstance(func, SCRIPTED):
        raise TypeError("expected a network in Python, got one made by torch.jit, whose forward mode is wrong in torch")
    if func.__name__ == "__set__":
        raise TypeError(str(in_place(func)))  # of .data, which torch.func.jvp refuses too
    if func.__name__ in IN_PLACE or (func.__name__[-1:] == "_" and func.__name__[-2:] != "__"):
        raise in_place(func)
    leaves, spec = pytree.tree_flatten((args, kwargs), is_leaf=lambda leaf: isinstance(leaf, Dual))
    slots = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Dual)]

    def at(*values: Tensor) -> Any:
        filled = list(leaves)
        for i, value in zip(slots, values, strict=True):
            filled[i] = value
        plain_args, plain_kwargs = pytree.tree_unflatten(filled, spec)
        return func(*plain_args, **plain_kwargs)

    primals = tuple(leaves[i].primal for i in slots)
    value = at(*primals)
    if not any(_can_move(leaf) for leaf in pytree.tree_leaves(value)):
        return value, None
    if not torch.compiler.is_compiling():
        _warn_once(func.__name__)

    def tangent() -> Any:
        # the kernel of oneDNN has no forward mode
        plain = torch.backends.mkldnn.flags(enabled=False) if func.__name__ == "lstm" else contextlib.nullcontext()
        with plain:
            return torch.func.jvp(at, primals, tuple(leaves[i].tangent for i in slots))[1]

    return value, tangent


@functools.cache
def _warn_once(name: str) -> None:
    warnings.warn(
        f"no forward-mode rule for {name}: torch.func.jvp is used for it, which may cost more or fail", stacklevel=2
    )


class InPlace(TypeError):
    """An operation in place, which dual numbers cannot follow."""


def in_place(func: Any) -> InPlace:
    """Make the error for an operation that changes its argument."""
    return InPlace(
        f"expected an operation that makes a new tensor, got {func.__name__} in place: a derivative cannot follow it"
    )


def _operator(func: Any) -> Callable[..., Any]:
    def method(self: Dual, *args: Any) -> Any:
        return type(self).__torch_function__(func, (type(self),), (self, *args))

    return method


for _name in (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow matmul rmatmul "
    "neg pos abs int float getitem setitem contains"
).split():
    setattr(Dual, f"__{_name}__", _operator(getattr(Tensor, f"__{_name}__")))
for _name in "eq ne lt le gt ge".split():
    setattr(Dual, f"__{_name}__", _operator(getattr(torch, _name)))
Dual.__hash__ = object.__hash__  # type: ignore[method-assign]
