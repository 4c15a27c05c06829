"""The rules of forward mode for Fourier transforms, running products, inverses, sampled images and rescaled weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..dual import Dual, Rule, primal, single_jvp, tangent
from .common import Result, _linear, _product, _put, composed, rule, total

rule(
    "fft_fft fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 fft_fftn fft_ifftn "
    "fft_rfftn fft_irfftn fft_fftshift fft_ifftshift stft istft"
)(_linear)


def _running(combine: Callable[..., tuple[Tensor, Tensor]], blank: float) -> Rule:
    """y_k = x_1 o ... o x_k along one dimension, of an operation that groups as it likes: the tangent by doubling.

    combine(y, dy, before, d_before) is the dual number before o y; before the first stands `blank`.
    """

    def rule(func: Any, x: Dual, dim: int, **kwargs: Any) -> Result:
        def dy() -> Tensor:
            y, d, size, step = x.primal, x.tangent, x.shape[dim], 1
            while step < size:
                blanks = y.narrow(dim, 0, step)
                before = torch.cat([torch.full_like(blanks, blank), y.narrow(dim, 0, size - step)], dim)
                d_before = torch.cat([torch.zeros_like(blanks), d.narrow(dim, 0, size - step)], dim)
                y, d = combine(y, d, before, d_before)
                step *= 2
            return d

        return func(x.primal, dim, **kwargs), dy

    return rule


def _log_sum(y: Tensor, d: Tensor, before: Tensor, d_before: Tensor) -> tuple[Tensor, Tensor]:
    both = torch.logaddexp(y, before)
    return both, torch.exp(y - both) * d + torch.exp(before - both) * d_before


rule("cumprod")(_running(lambda y, d, before, d_before: (y * before, d * before + y * d_before), 1.0))
rule("logcumsumexp")(_running(_log_sum, -math.inf))


@rule("inverse linalg_inv")
def _inverse(func: Any, x: Dual) -> Result:
    y = func(x.primal)
    return y, lambda: -(y @ x.tangent @ y)


@rule("linalg_solve")
def _solve(func: Any, a: Any, b: Any, *, left: bool = True) -> Result:
    """a y = b:  a dy = db - da y."""
    if not left or b.ndim < a.ndim:
        return single_jvp(func, a, b, left=left)
    y = func(primal(a), primal(b))
    return y, lambda: func(primal(a), total(tangent(b), -(a.tangent @ y) if isinstance(a, Dual) else None))


@rule("linalg_multi_dot")
def _multi_dot(func: Any, tensors: Any) -> Result:
    return _product(lambda *parts: func(parts), *tensors)


@rule("scatter_reduce")
def _scatter_reduce(func: Any, x: Any, dim: int, index: Tensor, src: Any, reduce: str, **kwargs: Any) -> Result:
    if reduce not in ("sum", "mean"):
        return single_jvp(func, x, dim, index, src, reduce, **kwargs)
    return _put(func, x, dim, index, src, reduce, **kwargs)


@rule("grid_sampler")
def _grid_sampler(func: Any, x: Any, grid: Any, *args: Any) -> Result:
    """Of images that move; torch has no forward mode for points that do."""
    if isinstance(grid, Dual):
        return single_jvp(func, x, grid, *args)
    return _linear(func, x, grid, *args)


@composed("msort")
def _msort(x: Any) -> Any:
    return torch.sort(x, 0)[0]


@composed("_weight_norm")
def _weight_norm(v: Any, g: Any, dim: int = 0) -> Any:
    axes = [axis for axis in range(v.ndim) if axis != dim % v.ndim]
    return v * (g / torch.linalg.vector_norm(v, 2, axes, keepdim=True))
