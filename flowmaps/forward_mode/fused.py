"""Tangents with hand-written gradients, which take fewer passes over memory than autograd.

Each operation can be differentiated twice more by autograd. In a compiled graph, where the compiler fuses the passes
itself, the rules write the formulas out instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

PIECE = 2**15
"""Elements that several operations process together, so that they stay in the CPU's cache."""

Kernel = Callable[[Tensor, Tensor], Tensor]


def by_hand(*tensors: Any) -> bool:
    """Tell whether a tangent of these tensors needs a gradient, outside of a compiled graph."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return False
    return any(isinstance(x, Tensor) and x.requires_grad for x in tensors)


def in_pieces(formula: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Evaluate an elementwise formula piece by piece, so that each piece stays in the CPU's cache.

    Args:
        formula: elementwise function of the tensors.
        *tensors: arguments of one shape.

    Returns:
        formula(*tensors).
    """
    first = tensors[0]
    if first.device.type != "cpu" or first.numel() <= PIECE or torch.is_grad_enabled():
        return formula(*tensors)
    flat = [x.reshape(-1) for x in tensors]
    result = torch.empty_like(flat[0])
    for i in range(0, len(result), PIECE):
        result[i : i + PIECE] = formula(*(x[i : i + PIECE] for x in flat))
    return result.view(first.shape)


class SlopeTangent(torch.autograd.Function):
    """Tangent dy = f'(x) dx of an elementwise f, with kernel(dx, x) = f'(x) dx and curvature(x) = f''(x)."""

    @staticmethod
    def forward(ctx: Any, dx: Tensor, x: Tensor, kernel: Kernel, curvature: Callable[[Tensor], Tensor]) -> Tensor:
        """Compute dy."""
        ctx.save_for_backward(dx, x)
        ctx.kernel, ctx.curvature = kernel, curvature
        return kernel(dx, x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        """Compute the gradients of dx and x: f'(x) g and f''(x) dx g."""
        dx, x = ctx.saved_tensors
        of_dx = ctx.kernel(g, x) if ctx.needs_input_grad[0] else None
        of_x = in_pieces(lambda g, dx, x: ctx.curvature(x) * dx * g, g, dx, x) if ctx.needs_input_grad[1] else None
        return of_dx, of_x, None, None


class NormTangent(torch.autograd.Function):
    """Tangent of n = r x over the last dimension,  r = (<x^2> + eps)^(-1/2):  dn = r dx - r^3 <x dx> x."""

    @staticmethod
    def forward(ctx: Any, dx: Tensor, x: Tensor, eps: float) -> Tensor:
        """Compute dn."""
        ctx.save_for_backward(dx, x)
        ctx.eps = eps
        return root_mean_square_tangent(dx, x, eps)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        """Compute the gradients of dx and x.

        With g the gradient of dn, the gradient of dx is r g - r^3 <x g> x, and the gradient of x is

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
    """Compute the mean of a b over the last dimension, which is kept with size 1."""
    return (torch.linalg.vecdot(a, b) / a.shape[-1]).unsqueeze(-1)


def root_mean_square_tangent(dx: Tensor, x: Tensor, eps: float) -> Tensor:
    """Compute r dx - r^3 <x dx> x with r = (<x^2> + eps)^(-1/2), the tangent of r x over the last dimension.

    Args:
        dx: tangent of x, (..., D).
        x: value, (..., D).
        eps: added to the mean square.

    Returns:
        The tangent, (..., D).
    """
    r = torch.rsqrt(row_mean(x, x) + eps)
    return torch.addcmul(r * dx, x, -r * r * r * row_mean(x, dx))
