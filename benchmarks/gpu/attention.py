"""Attention under a derivative: its error in each dtype, and the time of blocks, of the fused kernel, and of torch."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.cost.measure import Work, seconds
from benchmarks.cost.networks import DEVICE
from benchmarks.cost.steps import failure
from benchmarks.gpu.stage import Skipped
from flowmaps.forward_mode import Detached, Dual, flash
from flowmaps.forward_mode.blocks import AttentionTangent, Scores

CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "heads of 64": ((2, 3, 64, 64), (2, 3, 64, 64), {}),
    "causal": ((2, 3, 64, 32), (2, 3, 64, 32), {"is_causal": True}),
    "heads of 72": ((2, 2, 77, 72), (2, 2, 77, 72), {}),
    "other keys": ((2, 2, 40, 64), (2, 2, 77, 64), {"scale": 0.2}),
    "mask": ((2, 2, 40, 64), (2, 2, 77, 64), {"attn_mask": True}),
    "grouped": ((2, 4, 64, 64), (2, 2, 64, 64), {"enable_gqa": True}),
}
SHAPES = {"DiT-B/2": (128 * 12, 256, 64), "DiT-XL/2": (64 * 16, 256, 72), "long": (16, 4096, 64)}
SMALL = {"small": (4, 32, 32)}


def error(dtype: torch.dtype, gradients: bool) -> float:
    """The largest relative error of all cases: of value and derivative, or of the gradients through both."""
    return max(error_of(case, dtype, gradients) for case in CASES.values())


def error_of(case: Any, dtype: torch.dtype, gradients: bool) -> float:
    """Compare with float64 on the CPU by torch's own forward mode, from the same rounded inputs."""
    queries, keys, options = case
    random = torch.Generator().manual_seed(0)
    shapes = (queries, keys, keys)
    inputs = [torch.randn(*shape, generator=random).to(dtype) for shape in (*shapes, *shapes)]
    options = dict(options)
    mask = torch.rand(queries[2], keys[2], generator=random) > 0.3
    mask[:, 0] = True
    there = [x.to(DEVICE).requires_grad_(gradients) for x in inputs]
    exact = [x.double().requires_grad_(gradients) for x in inputs]
    masked = {"attn_mask": mask} if options.pop("attn_mask", False) else {}
    moved = {name: value.to(DEVICE) for name, value in masked.items()}
    ours = by_duals(there, {**options, **moved}, Dual if gradients else Detached)
    theirs = by_torch(exact, {**options, **masked})
    if gradients:
        ours, theirs = torch.autograd.grad(weighted(ours), there), torch.autograd.grad(weighted(theirs), exact)
    return max(float((a.detach().cpu().double() - b).norm() / b.norm()) for a, b in zip(ours, theirs, strict=True))


def by_duals(inputs: list[Tensor], options: dict[str, Any], kind: Any) -> tuple[Tensor, ...]:
    """Value and derivative by the library."""
    y = F.scaled_dot_product_attention(*map(kind, inputs[:3], inputs[3:]), **options)
    return y.primal, y.tangent


def by_torch(inputs: list[Tensor], options: dict[str, Any]) -> tuple[Tensor, ...]:
    """Value and derivative by torch's own forward mode, with all scores stored."""
    with sdpa_kernel(SDPBackend.MATH):
        attend: Callable[..., Tensor] = lambda *x: F.scaled_dot_product_attention(*x, **options)  # noqa: E731
        return torch.func.jvp(attend, tuple(inputs[:3]), tuple(inputs[3:]))


def weighted(results: tuple[Tensor, ...]) -> Tensor:
    """One number of value and derivative, with fixed weights."""
    numbers = [torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape).to(y) for y in results]
    return sum(((y * w).sum() for y, w in zip(results, numbers, strict=True)), start=results[0].new_zeros(()))


def kernel() -> Any:
    """The fused kernel in bfloat16.

    Raises:
        Skipped: It is not installed, or does not work here; the reason is a warning.
    """
    import warnings

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        flash.kernel.cache_clear()
        found = flash.kernel(DEVICE, torch.bfloat16)
    if found is None:
        raise Skipped("; ".join(str(warning.message) for warning in seen))
    return found


def flash_error() -> float:
    """Relative error of the fused kernel in bfloat16."""
    return flash.relative_error(kernel(), DEVICE, torch.bfloat16)


def timed(small: bool) -> list[dict[str, Any]]:
    """Milliseconds of value and derivative of attention in bfloat16: blocks, the fused kernel, torch's forward mode."""
    return [
        {"shape": name, **{way: milliseconds(make, shape) for way, make in WAYS.items()}}
        for name, shape in (SMALL if small else SHAPES).items()
    ]


def milliseconds(make: Callable[[list[Tensor]], Any], shape: tuple[int, ...]) -> float | str:
    """Median time of one way, or why it does not run."""
    try:
        inputs = [torch.randn(shape, device=DEVICE).to(torch.bfloat16) for _ in range(6)]
        with torch.no_grad():
            work = Work(lambda: make(inputs))
            work.run()
            return 1e3 * median(seconds(work) for _ in range(7))
    except Exception as error:
        return str(error) if isinstance(error, Skipped) else failure(error)


def _value(inputs: list[Tensor]) -> Tensor:
    return F.scaled_dot_product_attention(*inputs[:3])


def _blocks(inputs: list[Tensor]) -> Any:
    return _value(inputs), AttentionTangent.apply(Scores(inputs[0].shape[-1] ** -0.5), *inputs)


def _fused(inputs: list[Tensor]) -> Any:
    if not flash.fits(*inputs[:3]):
        raise Skipped("does not fit")
    used = flash.kernel(DEVICE, torch.bfloat16)
    if used is None:
        raise Skipped("not installed")
    scale, values, tangents = inputs[0].shape[-1] ** -0.5, tuple(inputs[:3]), tuple(inputs[3:])
    return _value(inputs), flash.tangent(used, scale, False, values, tangents)


def _torch(inputs: list[Tensor]) -> Any:
    return by_torch(inputs, {})


WAYS = {"value alone": _value, "blocks": _blocks, "fused kernel": _fused, "torch": _torch}
