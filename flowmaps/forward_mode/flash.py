"""The fused kernel of the package jvp_flash_attention for the tangent of an attention on CUDA: `pip install
flowmaps[flash]`.

It takes all tangents at once and holds no scores at all (Lu and Song 2024, arXiv 2410.11081). It has no gradient
through the tangent, no masks here, and multiplies float32 with the digits of TF32: it serves tangents without a graph
in half precision, and `dual_attention` has the rest.
"""

from __future__ import annotations

import functools
import logging
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .blocks import AttentionTangent, Scores

Maybe = Tensor | None

DEVICE = "cuda"
DTYPES = torch.float16, torch.bfloat16
WIDTHS = 32, 64, 128, 256
QUERIES = 32
"""The kernel's blocks: the number of queries and of keys is a multiple of it."""
HEADS = 65535
"""The most blocks that CUDA starts along one axis of its grid."""


def fits(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether the kernel has this case: q, k and v of one shape (N, L, E), in half precision on CUDA."""
    return (
        q.device.type == DEVICE
        and q.dtype in DTYPES
        and q.shape == k.shape == v.shape
        and q.shape[2] in WIDTHS
        and q.shape[1] % QUERIES == 0
        and q.shape[0] <= HEADS
    )


def tangent(kernel: Any, scale: float, causal: bool, values: tuple[Tensor, ...], tangents: tuple[Maybe, ...]) -> Tensor:
    """do (N, L, E) of q, k and v (N, L, E) and their tangents, None for zero."""
    with torch.no_grad(), forward_ad.dual_level():
        duals = (
            forward_ad.make_dual(
                x.detach()[None], (torch.zeros_like(x) if dx is None else dx.detach()).contiguous()[None]
            )
            for x, dx in zip((x.contiguous() for x in values), tangents, strict=True)
        )
        o = kernel.fwd_dual(*duals, causal=causal, sm_scale=scale, USE_TMA=False)
        return forward_ad.unpack_dual(o).tangent[0]


@functools.cache
def kernel(device: torch.device, dtype: torch.dtype) -> Any:
    """The package's attention, once a trial on this device has agreed with `dual_blocks`; None, with the reason as a
    warning, where it has not.
    """
    try:
        from jvp_flash_attention.jvp_attention import JVPAttn
    except ImportError:
        return _warn("pip install flowmaps[flash] for a fused kernel")
    try:
        error = relative_error(JVPAttn, device, dtype)
    except Exception as reason:  # the package, triton and torch must fit each other, and say it in many ways
        return _warn(f"jvp_flash_attention fails here ({reason!r})")
    if not error < 0.02:
        return _warn(f"jvp_flash_attention is off by a share of {error:.2g} here, in {dtype}")
    logging.getLogger(__name__).info("attention under a derivative runs on jvp_flash_attention")
    return JVPAttn


def relative_error(kernel: Any, device: torch.device, dtype: torch.dtype) -> float:
    """|do - do*| / |do*| of a small random attention, do* by blocks in float32; norms of Frobenius."""
    random = torch.Generator().manual_seed(0)
    drawn = [torch.randn(2, 2 * QUERIES, 64, generator=random).to(device, dtype) for _ in range(6)]
    values, tangents = tuple(drawn[:3]), tuple(drawn[3:])
    exact = AttentionTangent.apply(Scores(0.125), *(x.float() for x in drawn))
    return float((tangent(kernel, 0.125, False, values, tangents).float() - exact).norm() / exact.norm())


def _warn(reason: str) -> None:
    warnings.warn(f"attention under a derivative runs by blocks of scores: {reason}", stacklevel=4)
