"""Tangents whose gradients are written by hand, in fewer passes over memory than autograd would take.

Each is an operation that autograd can differentiate twice more. In a compiled graph, where the compiler fuses passes
itself, the rules write them out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

PIECE = 2**15
"""Elements of a tensor that several operations go through together, which a processor's cache holds."""

Kernel = Callable[[Tensor, Tensor], Tensor]


def by_hand(*tensors: Any) -> bool:
    """Whether a tangent of these tensors has a graph, outside of a compiled one."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return False
    return any(isinstance(x, Tensor) and x.requires_grad for x in tensors)


def in_pieces(formula: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """formula(*tensors), of each element, by pieces that fit in a processor's cache."""
    first = tensors[0]
    if first.device.type != "cpu" or first.numel() <= PIECE or torch.is_grad_enabled():
        return formula(*tensors)
    flat = [x.reshape(-1) for x in tensors]
    result = torch.empty_like(flat[0])
    for i in range(0, len(result), PIECE):
        result[i : i + PIECE] = formula(*(x[i : i + PIECE] for x in flat))
    return result.view(first.shape)


class SlopeTangent(torch.autograd.Function):
    """dy = f'(x) dx, with kernel(dx, x) = f'(x) dx and curvature(x) = f''(x)."""

    @staticmethod
    def forward(ctx: Any, dx: Tensor, x: Tensor, kernel: Kernel, curvature: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(dx, x)
        ctx.kernel, ctx.curvature = kernel, curvature
        return kernel(dx, x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        dx, x = ctx.saved_tensors
        of_dx = ctx.kernel(g, x) if ctx.needs_input_grad[0] else None
        of_x = in_pieces(lambda g, dx, x: ctx.curvature(x) * dx * g, g, dx, x) if ctx.needs_input_grad[1] else None
        return of_dx, of_x, None, None


class NormTangent(torch.autograd.Function):
    """dn of n = r x over the last dimension,  r = (<x^2> + eps)^(-1/2):  dn = r dx - r^3 <x dx> x."""

    @staticmethod
    def forward(ctx: Any, dx: Tensor, x: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(dx, x)
        ctx.eps = eps
        return root_mean_square_tangent(dx, x, eps)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        """With g the gradient of dn, dx has the gradient r g - r^3 <x g> x, and x has

        -r^3 (<x dx> g + <x g> dx + (<g dx> - 3 r^2 <x dx> <x g>) x).
        """
        dx, x = ctx.saved_tensors
        of_dx = root_mean_square_tangent(g, x, ctx.eps) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return of_dx, None, None
        square = 1 / (row_mean(x, x) + ctx.eps)
        cube, along_dx, along_g = -square * square.sqrt(), row_mean(x, dx), row_mean(x, g)
        along_x = cube * (row_mean(g, dx) - 3 * square * along_dx * along_g)
        of_x = torch.addcmul(torch.addcmul(g * (cube * along_dx), dx, cube * along_g), x, along_x)
        return of_dx, of_x, None


def row_mean(a: Tensor, b: Tensor) -> Tensor:
    """<a b> over the last dimension, which is kept."""
    return (torch.linalg.vecdot(a, b) / a.shape[-1]).unsqueeze(-1)


def root_mean_square_tangent(dx: Tensor, x: Tensor, eps: float) -> Tensor:
    """r dx - r^3 <x dx> x."""
    r = torch.rsqrt(row_mean(x, x) + eps)
    return torch.addcmul(r * dx, x, -r * r * r * row_mean(x, dx))
