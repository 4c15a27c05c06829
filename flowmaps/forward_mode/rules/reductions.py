"""Rules for reductions, sorting, max pooling, norms and distances."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..dual import Dual, TangentRule, primal, single_jvp, tangent
from .common import Result, composed, rule
from .elementwise import extremum

Dims = int | Sequence[int] | None


def _axes(x: Any, dim: Dims) -> tuple[int, ...]:
    """Return the dimensions that are reduced: all of them for None or ()."""
    dims = (dim,) if isinstance(dim, int) else tuple(dim or range(x.ndim))
    return tuple(sorted([d % x.ndim for d in dims])) if x.ndim else ()


def _beside(y: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """Restore the reduced dimensions with size 1."""
    for axis in () if keepdim else axes:
        y = y.unsqueeze(axis)
    return y


def _summed(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    return x.sum(axes, keepdim=keepdim) if axes else x


# --- sums and moments -------------------------------------------------------------------------------------------------


@rule("nansum nanmean")
def _nansum(func: Any, x: Dual, *args: Any, **kwargs: Any) -> Result:
    return func(x.primal, *args, **kwargs), lambda: func(
        torch.where(x.primal.isnan(), x.primal, x.tangent), *args, **kwargs
    )


def _spread(root: bool, with_mean: bool) -> TangentRule:
    """Rule of v = sum (x - <x>)^2 / (N - c):  dv = 2 sum (x - <x>) dx / (N - c),  d sqrt(v) = dv / 2 sqrt(v)."""

    def rule(
        func: Any, x: Dual, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: Any = None
    ) -> Result:
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        correction = int(unbiased) if correction is None else correction
        value, axes = x.primal, _axes(x, dim)
        result = func(value, dim, correction=correction, keepdim=keepdim)

        def dy() -> Any:
            freedom = max(math.prod([x.shape[axis] for axis in axes]) - correction, 0)
            centred = value - value.mean(axes, keepdim=True)
            d = 2 * _summed(centred * x.tangent, axes, keepdim) / freedom
            if root:
                y = result[0] if with_mean else result
                d = torch.where(y == 0, 0, d / (2 * torch.where(y == 0, 1, y)))
            return (d, x.tangent.mean(axes, keepdim=keepdim)) if with_mean else d

        return result, dy

    return rule


for _name in ("var", "std", "var_mean", "std_mean"):
    rule(_name)(_spread(_name.startswith("std"), _name.endswith("mean")))


@rule("logsumexp special_logsumexp")
def _logsumexp(func: Any, x: Dual, dim: Dims, keepdim: bool = False) -> Result:
    y, axes = func(x.primal, dim, keepdim=keepdim), _axes(x, dim)

    def dy() -> Tensor:
        level = _beside(y, axes, keepdim)
        share = torch.exp(x.primal - torch.where(level.isinf(), 0, level))
        return _summed(share * x.tangent, axes, keepdim)

    return y, dy


@rule("prod")
def _prod(func: Any, x: Dual, dim: int | None = None, keepdim: bool = False, **kwargs: Any) -> Result:
    """Tangent dy = sum_i dx_i prod_(j < i) x_j prod_(j > i) x_j, also where factors are zero."""
    if dim is None:
        return _prod(func, x.reshape(-1), 0, **kwargs)
    value = x.primal

    def dy() -> Tensor:
        one = torch.ones_like(value.narrow(dim, 0, 1))
        before = torch.cat([one, value], dim).narrow(dim, 0, value.shape[dim]).cumprod(dim)
        after = torch.cat([value, one], dim).narrow(dim, 1, value.shape[dim]).flip(dim).cumprod(dim).flip(dim)
        return (before * after * x.tangent).sum(dim, keepdim=keepdim)

    return func(value, dim, keepdim=keepdim, **kwargs), dy


# --- maxima, medians, sorting, max pooling ----------------------------------------------------------------------------


@rule("amax amin")
def _extreme(func: Any, x: Dual, dim: Dims = (), keepdim: bool = False) -> Result:
    """The mean of the tangents of all elements equal to the extreme value, as in torch."""
    axes = _axes(x, dim)
    y = func(x.primal, axes, keepdim=keepdim)
    return y, lambda: _shared_tangent(x, y, axes, keepdim)


def _shared_tangent(x: Dual, y: Tensor, axes: tuple[int, ...] = (), keepdim: bool = False) -> Tensor:
    chosen = x.primal == _beside(y, axes, keepdim)
    return _summed(chosen * x.tangent, axes, keepdim) / _summed(chosen, axes, keepdim)


def _selection(place: int) -> TangentRule:
    """Make the rule of (values, indices) along dimension args[place]: the tangents at these indices."""

    def rule(func: Any, x: Dual, *args: Any, **kwargs: Any) -> Result:
        dim = kwargs.get("dim", args[place] if len(args) > place else -1)
        result = func(x.primal, *args, **kwargs)
        indices = result[1]

        def dy() -> tuple[Tensor, Tensor]:
            if indices.ndim == x.ndim:
                return x.tangent.gather(dim, indices), indices
            return x.tangent.gather(dim, indices.unsqueeze(dim)).squeeze(dim), indices

        return result, dy

    return rule


rule("sort mode cummax cummin")(_selection(0))
rule("topk kthvalue")(_selection(1))


def _max(of_two: Callable[..., Any]) -> TangentRule:
    """Make the rule of an extremum over all elements, along a dimension, or of two tensors."""

    def rule(func: Any, x: Any, *args: Any, **kwargs: Any) -> Result:
        other = args[0] if args else kwargs.get("other")
        if isinstance(other, (Tensor, Dual)):
            return extremum(of_two, x, other)
        if args or kwargs:
            return _selection(0)(func, x, *args, **kwargs)
        y = func(x.primal)
        return y, lambda: _shared_tangent(x, y, tuple(range(x.ndim)))

    return rule


rule("max median nanmedian")(_max(torch.maximum))
rule("min")(_max(torch.minimum))


def _max_pool(with_indices: Callable[..., Any], dims: int, always_both: bool) -> TangentRule:
    def rule(func: Any, x: Dual, *args: Any, return_indices: bool = False, **kwargs: Any) -> Result:
        y, indices = with_indices(x.primal, *args, **kwargs)

        def dy() -> Any:
            d = x.tangent.flatten(-dims).gather(-1, indices.flatten(-dims)).view_as(indices)
            return (d, indices) if return_indices or always_both else d

        return (y, indices) if return_indices or always_both else y, dy

    return rule


for _dims in (1, 2, 3):
    for _name in (f"max_pool{_dims}d", f"adaptive_max_pool{_dims}d"):
        _pool = getattr(F, f"{_name}_with_indices")
        rule(_name)(_max_pool(_pool, _dims, always_both=False))
        rule(f"{_name}_with_indices")(_max_pool(_pool, _dims, always_both=True))


# --- norms and distances ----------------------------------------------------------------------------------------------


@rule("linalg_vector_norm")
def _vector_norm(func: Any, x: Dual, ord: Any = 2, dim: Dims = None, keepdim: bool = False, **kwargs: Any) -> Result:
    """The p-norm y = (sum |x|^p)^(1/p):  dy = sum sign(x) (|x| / y)^(p - 1) dx, 0 at y = 0.

    For p = inf and -inf the tangent of the extreme element.
    """
    if ord in (math.inf, -math.inf):
        y = (torch.amax if ord > 0 else torch.amin)(x.abs(), _axes(x, dim), keepdim)
        return primal(y), lambda: tangent(y)
    axes = _axes(x, dim)
    y = torch.linalg.vector_norm(x.primal, ord, dim, keepdim, **kwargs)

    def dy() -> Tensor:
        level = _beside(y, axes, keepdim)
        n = x.primal / torch.where(level == 0, 1, level)
        slope = n if ord == 2 else torch.sgn(n) * (n.abs() ** (ord - 1) if ord != 1 else 1)
        d = slope.conj() * x.tangent
        return _summed(d.real if d.is_complex() else d, axes, keepdim)

    return y, dy if ord != 0 else None


@rule("norm")
def _norm(func: Any, x: Dual, p: Any = "fro", dim: Dims = None, keepdim: bool = False, **kwargs: Any) -> Result:
    if p == "nuc":
        return single_jvp(func, x, p, dim, keepdim, **kwargs)
    return _vector_norm(torch.linalg.vector_norm, x, 2 if p in (None, "fro") else p, dim, keepdim)


@rule("linalg_norm")
def _linalg_norm(func: Any, x: Dual, ord: Any = None, dim: Dims = None, keepdim: bool = False, **kwargs: Any) -> Result:
    """The rule of vector norms and the Frobenius norm; other matrix norms have no rule."""
    if ord not in (None, "fro") and not isinstance(dim, int) and x.ndim > 1:
        return single_jvp(func, x, ord, dim, keepdim, **kwargs)
    return _vector_norm(torch.linalg.vector_norm, x, 2 if ord in (None, "fro") else ord, dim, keepdim, **kwargs)


@rule("linalg_matrix_norm")
def _matrix_norm(
    func: Any, x: Dual, ord: Any = "fro", dim: Dims = (-2, -1), keepdim: bool = False, **kwargs: Any
) -> Result:
    return _linalg_norm(func, x, ord, dim, keepdim, **kwargs)


@composed("normalize")
def _normalize(x: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Any:
    return x / torch.linalg.vector_norm(x, p, dim, keepdim=True).clamp_min(eps)


@composed("cosine_similarity")
def _cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    x1, x2 = torch.broadcast_tensors(x1, x2)
    return (_normalize(x1, 2.0, dim, eps) * _normalize(x2, 2.0, dim, eps)).sum(dim)


@composed("pairwise_distance")
def _pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    return torch.linalg.vector_norm(x1 - x2 + eps, p, -1, keepdim)


@composed("cdist")
def _cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: str = "") -> Any:
    return torch.linalg.vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, -1)
