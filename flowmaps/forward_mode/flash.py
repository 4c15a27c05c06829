"""The fused CUDA kernel of jvp_flash_attention for the tangent of attention: the extra `flash`.

It takes all tangents at once and stores no scores (Lu and Song 2024, arXiv 2410.11081). It has no gradient through the
tangent, no masks here, and multiplies float32 in TF32. So it is used for tangents without a graph in half precision;
`blocks` computes all others.
"""

from __future__ import annotations

import functools
import logging
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..arguments import install
from .blocks import AttentionTangent, Scores

Maybe = Tensor | None

DEVICE = "cuda"
DTYPES = torch.float16, torch.bfloat16
WIDTHS = 32, 64, 128, 256
QUERIES = 32
"""Block size of the kernel: the numbers of queries and of keys must be multiples of it."""
HEADS = 65535
"""Largest number of blocks along one axis of a CUDA grid."""


def fits(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Tell whether the kernel supports q, k and v: one shape (N, L, E), half precision, on CUDA."""
    return (
        q.device.type == DEVICE
        and q.dtype in DTYPES
        and q.shape == k.shape == v.shape
        and q.shape[2] in WIDTHS
        and q.shape[1] % QUERIES == 0
        and q.shape[0] <= HEADS
    )


def tangent(kernel: Any, scale: float, causal: bool, values: tuple[Tensor, ...], tangents: tuple[Maybe, ...]) -> Tensor:
    """Compute the tangent of attention by the kernel.

    Args:
        kernel: the attention of jvp_flash_attention.
        scale: factor of q k^T.
        causal: whether a query sees only keys up to its own position.
        values: q, k and v, each (N, L, E).
        tangents: dq, dk and dv of the same shape; None for zero.

    Returns:
        do (N, L, E), without a graph.
    """
    with torch.no_grad(), forward_ad.dual_level():
        duals = (
            forward_ad.make_dual(
                x.detach()[None], (torch.zeros_like(x) if dx is None else dx.detach()).contiguous()[None]
            )
            for x, dx in zip((x.contiguous() for x in values), tangents, strict=True)
        )
        with torch.cuda.device_of(values[0]):  # triton starts kernels on the current device
            o = kernel.fwd_dual(*duals, causal=causal, sm_scale=scale, USE_TMA=False)
        return forward_ad.unpack_dual(o).tangent[0]


@functools.cache
def kernel(device: torch.device, dtype: torch.dtype) -> Any:
    """Load the package's attention after a trial against `blocks` on this device.

    Args:
        device: the CUDA device.
        dtype: half precision type of the trial.

    Returns:
        The kernel, or None with a warning if it is not installed, fails or is inaccurate.
    """
    try:
        from jvp_flash_attention.jvp_attention import JVPAttn
    except ImportError:
        return _warn(f"{install('flash')} for a fused kernel")
    try:
        error = relative_error(JVPAttn, device, dtype)
    except Exception as reason:  # the package, triton and torch must fit each other, and say it in many ways
        return _warn(f"jvp_flash_attention fails here ({reason!r})")
    if not error < 0.02:
        return _warn(f"jvp_flash_attention is off by a share of {error:.2g} here, in {dtype}")
    logging.getLogger(__name__).info("attention under a derivative runs on jvp_flash_attention")
    return JVPAttn


def relative_error(kernel: Any, device: torch.device, dtype: torch.dtype) -> float:
    """Measure |do - do*| / |do*| of a small random attention in the Frobenius norm, with do* from `blocks` in float32.

    Args:
        kernel: the attention of jvp_flash_attention.
        device: the CUDA device.
        dtype: half precision type of the inputs.

    Returns:
        The relative error.
    """
    random = torch.Generator().manual_seed(0)
    drawn = [torch.randn(2, 2 * QUERIES, 64, generator=random).to(device, dtype) for _ in range(6)]
    values, tangents = tuple(drawn[:3]), tuple(drawn[3:])
    exact = AttentionTangent.apply(Scores(0.125), *(x.float() for x in drawn))
    return float((tangent(kernel, 0.125, False, values, tangents).float() - exact).norm() / exact.norm())


def _warn(reason: str) -> None:
    warnings.warn(f"attention under a derivative runs by blocks of scores: {reason}", stacklevel=4)
