"""The rules of forward mode for reductions, orders, pooling by maxima, norms and distances."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .dual import Dual, Rule, primal, single_jvp, tangent
from .dual_elementwise import _extremum
from .dual_rules import Result, composed, rule

Dims = int | Sequence[int] | None


def _axes(x: Any, dim: Dims) -> tuple[int, ...]:
    """The dimensions that are reduced, all of them for None or ()."""
    dims = (dim,) if isinstance(dim, int) else tuple(dim or range(x.ndim))
    return tuple(sorted(d % x.ndim for d in dims)) if x.ndim else ()


def _beside(y: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """The reduced tensor with its lost dimensions of size 1 back."""
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


@rule("var std var_mean std_mean")
def _spread(
    func: Any, x: Dual, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: Any = None
) -> Result:
    """v = sum (x - <x>)^2 / (N - c):  dv = 2 sum (x - <x>) dx / (N - c),  d sqrt(v) = dv / 2 sqrt(v)."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    correction = int(unbiased) if correction is None else correction
    value, axes = x.primal, _axes(x, dim)
    result = func(value, dim, correction=correction, keepdim=keepdim)

    def spread_tangent(y: Tensor) -> Tensor:
        freedom = max(math.prod(x.shape[axis] for axis in axes) - correction, 0)
        centred = value - value.mean(axes, keepdim=True)
        dv = 2 * _summed(centred * x.tangent, axes, keepdim) / freedom
        return dv if func.__name__.startswith("var") else torch.where(y == 0, 0, dv / (2 * torch.where(y == 0, 1, y)))

    if not func.__name__.endswith("mean"):
        return result, lambda: spread_tangent(result)
    return result, lambda: (spread_tangent(result[0]), x.tangent.mean(axes, keepdim=keepdim))


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
    """dy = sum_i dx_i prod_(j < i) x_j prod_(j > i) x_j, also where factors are zero."""
    if dim is None:
        return _prod(func, x.reshape(-1), 0, **kwargs)
    value = x.primal

    def dy() -> Tensor:
        one = torch.ones_like(value.narrow(dim, 0, 1))
        before = torch.cat([one, value], dim).narrow(dim, 0, value.shape[dim]).cumprod(dim)
        after = torch.cat([value, one], dim).narrow(dim, 1, value.shape[dim]).flip(dim).cumprod(dim).flip(dim)
        return (before * after * x.tangent).sum(dim, keepdim=keepdim)

    return func(value, dim, keepdim=keepdim, **kwargs), dy


# --- maxima, medians, orders, pooling by maxima -----------------------------------------------------------------------


@rule("amax amin")
def _extreme(func: Any, x: Dual, dim: Dims = (), keepdim: bool = False) -> Result:
    """Elements of equal value share their tangents, as in torch."""
    axes = _axes(x, dim)
    y = func(x.primal, axes, keepdim=keepdim)
    return y, lambda: _shared_tangent(x, y, axes, keepdim)


def _shared_tangent(x: Dual, y: Tensor, axes: tuple[int, ...] = (), keepdim: bool = False) -> Tensor:
    chosen = x.primal == _beside(y, axes, keepdim)
    return _summed(chosen * x.tangent, axes, keepdim) / _summed(chosen, axes, keepdim)


@rule("max min median nanmedian")
def _max(func: Any, x: Any, *args: Any, **kwargs: Any) -> Result:
    other = args[0] if args else kwargs.get("other")
    if isinstance(other, (Tensor, Dual)):
        return _extremum(torch.maximum if func.__name__ == "max" else torch.minimum, x, other)
    if args or kwargs:
        return _selection(func, x, *args, **kwargs)
    y = func(x.primal)
    return y, lambda: _shared_tangent(x, y, tuple(range(x.ndim)))


@rule("sort topk kthvalue mode cummax cummin")
def _selection(func: Any, x: Dual, *args: Any, **kwargs: Any) -> Result:
    """(values, indices) along one dimension: the tangents at these indices."""
    place = 1 if func.__name__ in ("topk", "kthvalue") else 0
    dim = kwargs.get("dim", args[place] if len(args) > place else -1)
    result = func(x.primal, *args, **kwargs)
    indices = result[1]

    def dy() -> tuple[Tensor, Tensor]:
        if indices.ndim == x.ndim:
            return x.tangent.gather(dim, indices), indices
        return x.tangent.gather(dim, indices.unsqueeze(dim)).squeeze(dim), indices

    return result, dy


def _max_pool(with_indices: Callable[..., Any], dims: int) -> Rule:
    def rule(func: Any, x: Dual, *args: Any, return_indices: bool = False, **kwargs: Any) -> Result:
        y, indices = with_indices(x.primal, *args, **kwargs)
        both = return_indices or func.__name__.endswith("indices")

        def dy() -> Any:
            d = x.tangent.flatten(-dims).gather(-1, indices.flatten(-dims)).view_as(indices)
            return (d, indices) if both else d

        return (y, indices) if both else y, dy

    return rule


for _dims in (1, 2, 3):
    for _name in (f"max_pool{_dims}d", f"adaptive_max_pool{_dims}d"):
        rule(f"{_name} {_name}_with_indices")(_max_pool(getattr(F, f"{_name}_with_indices"), _dims))


# --- norms and distances ----------------------------------------------------------------------------------------------


@rule("linalg_vector_norm")
def _vector_norm(func: Any, x: Dual, ord: Any = 2, dim: Dims = None, keepdim: bool = False, **kwargs: Any) -> Result:
    """y = (sum |x|^p)^(1/p):  dy = sum sign(x) (|x| / y)^(p - 1) dx,  0 at y = 0; at infinity the extreme element's."""
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


@rule("norm linalg_norm linalg_matrix_norm")
def _norm(func: Any, x: Dual, *args: Any, **kwargs: Any) -> Result:
    """Norms of the elements, which the Frobenius norm is too; other norms of matrices have no rule."""
    named = dict(zip(("p", "dim", "keepdim"), args, strict=False)) | kwargs
    p, dim = named.get("p", named.get("ord")), named.get("dim")
    if func.__name__ == "linalg_matrix_norm" and dim is None:
        p, dim = "fro" if p is None else p, (-2, -1)
    of_matrices = p not in (None, "fro") and func.__name__ != "norm" and not (isinstance(dim, int) or x.ndim == 1)
    if p == "nuc" or of_matrices:
        return single_jvp(func, x, *args, **kwargs)
    options = {"dtype": kwargs["dtype"]} if kwargs.get("dtype") is not None else {}
    ord = 2 if p in (None, "fro") else p
    return _vector_norm(torch.linalg.vector_norm, x, ord, dim, named.get("keepdim", False), **options)


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
