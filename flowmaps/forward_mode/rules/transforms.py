"""Rules for Fourier transforms, running products, inverses, sampled images and weight normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..dual import Dual, TangentRule, primal, single_jvp, tangent
from .common import Result, composed, linear, product, rule, total

rule(
    "fft_fft fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 fft_fftn fft_ifftn "
    "fft_rfftn fft_irfftn fft_fftshift fft_ifftshift stft istft"
)(linear)


def _running(combine: Callable[..., tuple[Tensor, Tensor]], blank: float) -> TangentRule:
    """Make the rule of y_k = x_1 o ... o x_k along one dimension, for an associative operation o, by doubling.

    Args:
        combine: combine(y, dy, before, d_before) returns value and tangent of `before o y`.
        blank: neutral element, put before the first one.

    Returns:
        The rule.
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
    """Solution of a y = b:  a dy = db - da y."""
    if not left or b.ndim < a.ndim:
        return single_jvp(func, a, b, left=left)
    y = func(primal(a), primal(b))
    return y, lambda: func(primal(a), total(tangent(b), -(a.tangent @ y) if isinstance(a, Dual) else None))


@rule("linalg_multi_dot")
def _multi_dot(func: Any, tensors: Any) -> Result:
    return product(lambda *parts: func(parts), *tensors)


@rule("grid_sampler")
def _grid_sampler(func: Any, x: Any, grid: Any, *args: Any) -> Result:
    """Linear in the images; tangents of the grid points fall back to torch."""
    if isinstance(grid, Dual):
        return single_jvp(func, x, grid, *args)
    return linear(func, x, grid, *args)


@composed("msort")
def _msort(x: Any) -> Any:
    return torch.sort(x, 0)[0]


@composed("_weight_norm")
def _weight_norm(v: Any, g: Any, dim: int = 0) -> Any:
    axes = [axis for axis in range(v.ndim) if axis != dim % v.ndim]
    return v * (g / torch.linalg.vector_norm(v, 2, axes, keepdim=True))
